// Owns the queue of moments at which something has to be looked at again, so that the clock's tick costs what is due and
// not what is known. Pure.

type Deadline = { at: number; key: string };

/** At one moment by key: a manager that was started anew goes on in the same order. */
function precedes(one: Deadline, other: Deadline): boolean {
  return one.at < other.at || (one.at === other.at && one.key < other.key);
}

/** A binary heap of (moment, key). A key has one moment; setting it again replaces the former. */
export class Deadlines {
  #heap: Deadline[] = [];
  #moments = new Map<string, number>();

  /** null: nothing is due for this key any more. */
  set(key: string, at: number | null): void {
    if (at === null) {
      this.#moments.delete(key);
      return;
    }
    if (this.#moments.get(key) === at) return;
    this.#moments.set(key, at);
    const heap = this.#heap;
    let place = heap.push({ at, key }) - 1;
    while (place > 0) {
      const parent = (place - 1) >> 1;
      if (!precedes(heap[place]!, heap[parent]!)) break;
      [heap[parent], heap[place]] = [heap[place]!, heap[parent]!];
      place = parent;
    }
  }

  /** Takes the earliest key whose moment has come; null: none has. Replaced entries are passed over. */
  take(now: number): string | null {
    const heap = this.#heap;
    while (heap.length > 0 && heap[0]!.at <= now) {
      const first = heap[0]!;
      const last = heap.pop()!;
      if (heap.length > 0) {
        heap[0] = last;
        this.#sink();
      }
      if (this.#moments.get(first.key) !== first.at) continue;
      this.#moments.delete(first.key);
      return first.key;
    }
    return null;
  }

  #sink(): void {
    const heap = this.#heap;
    let place = 0;
    for (;;) {
      let least = place;
      for (const child of [2 * place + 1, 2 * place + 2]) {
        if (child < heap.length && precedes(heap[child]!, heap[least]!)) least = child;
      }
      if (least === place) return;
      [heap[least], heap[place]] = [heap[place]!, heap[least]!];
      place = least;
    }
  }
}
