// Owns the table of alarm rules: every code of the table in 2-topology.md is a row of it, in the order in which they are
// evaluated: roots before what they cause. Pure.
import { AGENT_RULES } from "./agent_rules.ts";
import { EDGE_RULES } from "./edge_rules.ts";
import { ALARM_CODES, type Rule } from "./rule.ts";

const byCode = new Map([...AGENT_RULES, ...EDGE_RULES].map((rule) => [rule.code, rule]));

export const RULES: readonly Rule[] = ALARM_CODES.map((code) => byCode.get(code)!);
export const RULE_OF: ReadonlyMap<string, Rule> = new Map(RULES.map((rule) => [rule.code, rule]));
