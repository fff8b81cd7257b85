// Owns a validator for the part of JSON Schema draft-04 that the NetJSON schema uses; a keyword that it does not know is
// an error, so that nothing is passed over in silence.
export type Schema = {
  $schema?: string;
  title?: string;
  default?: unknown;
  type?: "object" | "array" | "string" | "number";
  enum?: unknown[];
  required?: string[];
  properties?: Record<string, Schema>;
  additionalProperties?: true;
  items?: Schema | Schema[];
  additionalItems?: true;
  uniqueItems?: true;
};

const KNOWN = new Set([
  ..."$schema title default type enum required properties additionalProperties items additionalItems uniqueItems".split(
    " ",
  ),
]);

/** Every way in which `value` does not fit, as `path: what`. */
export function violations(schema: Schema, value: unknown, path = "$"): string[] {
  const found: string[] = [];
  for (const keyword of Object.keys(schema)) {
    if (!KNOWN.has(keyword)) found.push(`${path}: the validator does not know ${keyword}`);
  }
  if (schema.type !== undefined && typeName(value) !== schema.type) found.push(`${path}: is no ${schema.type}`);
  if (schema.enum !== undefined && !schema.enum.includes(value)) found.push(`${path}: is none of ${schema.enum}`);
  if (Array.isArray(value)) {
    if (schema.uniqueItems === true && new Set(value.map((item) => JSON.stringify(item))).size !== value.length) {
      found.push(`${path}: repeats an item`);
    }
    for (const [i, item] of value.entries()) {
      // draft-04: a list of schemas is for the items at its places, one schema for every item.
      const itemSchema = Array.isArray(schema.items) ? schema.items[i] : schema.items;
      if (itemSchema !== undefined) found.push(...violations(itemSchema, item, `${path}[${i}]`));
    }
  } else if (typeof value === "object" && value !== null) {
    for (const name of schema.required ?? []) if (!(name in value)) found.push(`${path}: lacks ${name}`);
    for (const [name, property] of Object.entries(schema.properties ?? {})) {
      if (name in value)
        found.push(...violations(property, (value as Record<string, unknown>)[name], `${path}.${name}`));
    }
  }
  return found;
}

function typeName(value: unknown): string {
  if (value === null) return "null";
  return Array.isArray(value) ? "array" : typeof value;
}
