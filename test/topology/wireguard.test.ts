// The tables of 2-topology.md for WireGuard edges, row by row under their own words, with reports as agents send them.
import { describe, expect, test } from "bun:test";
import { BEGIN, INTERVAL_S, type Pair, pair, peer, working } from "./scene.ts";

/** Six handshake attempts in an interval. */
const ATTEMPTS = 6 * 148;

describe("state: the first row that fits", () => {
  test("no end has a fresh report → unknown", () => {
    const place = pair({ keepaliveA: 25, keepaliveB: 25 });
    working(place);
    expect(place.scene.state()).toBe("up");
    place.scene.wait(3 * INTERVAL_S - 1);
    expect(place.scene.state()).toBe("up");
    place.scene.wait(1);
    expect(place.scene.edge()).toMatchObject({ state: "unknown", cause: "no_report" });
  });

  test("A lists B's key, B's agent runs and does not list A's → one_sided, reason names the side that lacks it", () => {
    const place = pair();
    place.wgB.peers = [];
    place.scene.rounds(1);
    expect(place.scene.edge()).toMatchObject({ state: "one_sided", reason: "a lists b, but b does not list a" });
  });

  test("B's interface in another namespace, absent from its dump → view unavailable", () => {
    const place = pair({ keepaliveA: 25, keepaliveB: 25 });
    working(place);
    place.b.wireguard = [];
    place.scene.rounds(1);
    expect(place.scene.edge()).toMatchObject({ state: "one_sided", cause: "missing_at_b" });
    place.scene.rounds(3, () => place.scene.shake(place.ab, peer("a"), 1));
    expect(place.scene.edge()).toMatchObject({ state: "one_sided", cause: "view_unavailable" });
    expect(place.scene.edge().reason).toStartWith("view unavailable");
  });

  test("the WireGuard interface is not up at one end → down, whatever the handshake says", () => {
    const place = pair({ keepaliveA: 25, keepaliveB: 25 });
    working(place);
    place.b.interfaces!.find(({ name }) => name === "wg0")!.up = false;
    working(place, 1);
    expect(place.scene.edge()).toMatchObject({ state: "down", reason: "wg0 is down at b" });
    expect(place.scene.edge().latest_handshake_at).toBeGreaterThan(place.scene.now - 10_000);
  });

  test("unanswered at an end → stale at once, though the handshake is young", () => {
    const place = pair({ keepaliveA: 25 });
    working(place, 1);
    place.scene.rounds(1, () => (place.ab.tx_bytes += ATTEMPTS));
    expect(place.scene.state()).toBe("up");
    place.scene.rounds(1, () => (place.ab.tx_bytes += ATTEMPTS));
    expect(place.scene.edge()).toMatchObject({ state: "stale", cause: "undecided" });
    expect(place.scene.edge().a.handshake_age_s).toBeLessThan(120);
  });

  test("a handshake that the other end tells of, after this end's last report, answers what was unanswered until then", () => {
    const place = pair({ keepaliveA: 25, keepaliveB: 25 });
    const { scene, ab, ba } = place;
    working(place);
    scene.rounds(9, () => {
      for (const end of [ab, ba]) end.tx_bytes += ATTEMPTS;
    });
    expect(scene.edge()).toMatchObject({ state: "stale", cause: "nothing_returns" });
    scene.now += 10_000;
    scene.shake(ab, ba, 2);
    scene.report(place.b);
    // a's word is 10 s old; not "a→b blocked", for b heard a and was answered.
    expect(scene.edge()).toMatchObject({ state: "up", reason: null });
    scene.now += 10_000;
    scene.report(place.a);
    expect(scene.state()).toBe("up");
  });

  test("unanswered, and there was no handshake → never", () => {
    const place = pair();
    place.scene.rounds(3, (round) => (place.ab.tx_bytes += round === 0 ? 0 : ATTEMPTS));
    expect(place.scene.state()).toBe("never");
  });

  test("one unanswered window is nothing, nor are two with keepalives alone", () => {
    const place = pair({ keepaliveA: 25 });
    working(place, 1);
    place.scene.rounds(1, () => (place.ab.tx_bytes += ATTEMPTS));
    // Two keepalives in a window of 30 s, and less than an attempt beyond them.
    place.scene.rounds(3, () => (place.ab.tx_bytes += 2 * 32 + 139));
    expect(place.scene.state()).toBe("up");
  });

  test("lossy: three advances in a row, each under 90 s after the one before, the last at most 60 s old", () => {
    const place = pair({ keepaliveA: 25, keepaliveB: 25 });
    const { scene, ab, ba } = place;
    working(place, 4);
    // From the last handshake 91 s ago: that step is not short.
    scene.rounds(3, () => scene.shake(ab, ba, 5));
    expect(scene.state()).toBe("up");
    scene.rounds(1, () => scene.shake(ab, ba, 5));
    expect(scene.edge()).toMatchObject({ state: "lossy", cause: "lossy" });
    scene.rounds(2); // 65 s
    expect(scene.state()).toBe("up");
  });

  test("healthy handshakes lie 120 s apart: not lossy", () => {
    const place = pair({ keepaliveA: 25, keepaliveB: 25 });
    const states = new Set<string>();
    for (let i = 0; i < 8; i++) {
      working(place);
      states.add(place.scene.state());
    }
    expect([...states]).toEqual(["up"]);
  });

  // A keepalive of 250 s at both ends: 0/0 for minutes is healthy.
  test("nothing unanswered, age ≤ 180 s + K → up; ≤ 240 s + K → late; else stale", () => {
    const { scene, ab, ba } = pair({ keepaliveA: 250, keepaliveB: 20 });
    scene.rounds(1, () => scene.shake(ab, ba));
    const seen: [number, string][] = [];
    scene.rounds(17, () => (ab.tx_bytes += 1)); // something is sent: not cannot_send
    for (const age of [427, 430, 431, 460, 490, 491]) {
      scene.now = BEGIN + (30 + age) * 1000;
      for (const end of [ab, ba]) end.latest_handshake_at = BEGIN + 30_000;
      for (const host of scene.hosts) scene.report(host);
      seen.push([age, scene.state()]);
    }
    expect(seen).toEqual([
      [427, "up"],
      [430, "up"],
      [431, "late"],
      [460, "late"],
      [490, "late"],
      [491, "stale"],
    ]);
  });

  test("age is that of the fresher end, K the larger keepalive of the two", () => {
    const { scene, ab, ba } = pair({ keepaliveB: 100 });
    scene.rounds(1, () => scene.shake(ab, ba));
    ab.latest_handshake_at! -= 60_000; // the other end heard of it later
    scene.rounds(9);
    expect(scene.state()).toBe("up"); // 270 s
    scene.rounds(1);
    expect(scene.state()).toBe("late"); // 300 s
  });

  test("keepalive off at both ends, and nothing unanswered → idle", () => {
    const { scene, ab, ba } = pair();
    scene.rounds(1, () => scene.shake(ab, ba));
    scene.rounds(6);
    expect(scene.state()).toBe("up");
    scene.rounds(1);
    expect(scene.state()).toBe("idle");
    scene.rounds(120);
    expect(scene.state()).toBe("idle");
  });

  test("no end with keepalive has an endpoint → idle", () => {
    const { scene, ab, ba } = pair({ keepaliveA: 25, endpointA: false });
    scene.rounds(1, () => scene.shake(ba, ab));
    scene.rounds(12);
    expect(scene.state()).toBe("idle");
  });

  test("never a handshake and tx 0 at both ends → unused", () => {
    const place = pair();
    place.scene.rounds(20);
    expect(place.scene.state()).toBe("unused");
    place.ab.tx_bytes = 148;
    place.scene.rounds(1);
    expect(place.scene.state()).toBe("idle");
  });

  test("never a handshake although keepalive is on → never, from the first report on", () => {
    const place = pair({ keepaliveA: 25, keepaliveB: 25 });
    const seen = new Set<string>();
    for (let round = 0; round < 11; round++) {
      place.scene.rounds(1, () => (place.ab.tx_bytes += 32)); // less than an attempt: nothing is unanswered
      seen.add(place.scene.state());
    }
    expect([...seen]).toEqual(["never"]);
  });

  test("never a handshake, and each end hears the other's attempts in every window → never; in 210 s: preshared key", () => {
    const { scene, ab, ba } = pair({ keepaliveA: 25, keepaliveB: 25 });
    const seen: unknown[] = [];
    scene.rounds(8, () => {
      const { state, cause } = scene.edges()[0] ?? {};
      if (state !== undefined) seen.push([state, cause]);
      for (const end of [ab, ba]) {
        end.rx_bytes += 3 * 148;
        end.tx_bytes += 3 * 148 + 3 * 92;
      }
    });
    expect(seen).toEqual(Array(7).fill(["never", "undecided"]));
    scene.rounds(1);
    expect(scene.edge()).toMatchObject({ state: "never", cause: "preshared_key" });
  });

  test("rx that grows past age 180 s is failed handshakes, not life", () => {
    const { scene, ab, ba } = pair({ keepaliveA: 25, keepaliveB: 25 });
    scene.rounds(1, () => scene.shake(ab, ba));
    scene.rounds(14, () => {
      ab.rx_bytes += ATTEMPTS; // B's attempts, which A answers and nobody hears
      ab.tx_bytes += 6 * 92;
      ba.tx_bytes += ATTEMPTS;
    });
    expect(scene.state()).toBe("stale");
  });

  test('a section that is null keeps the last view and is never "does not list"', () => {
    const place = pair({ keepaliveA: 25, keepaliveB: 25 });
    working(place);
    place.b.wireguard = null;
    working(place, 2);
    expect(place.scene.state()).toBe("up");
    // Nor is one interface that could not be read.
    place.b.wireguard = [{ ...place.wgB, peers: null, status: "error: timeout" }];
    working(place, 8);
    expect(place.scene.state()).toBe("up");
  });
});

describe("windows", () => {
  /** Both ends report every so many seconds; `happens` is told how many have passed. The state after each report. */
  function every(
    { scene, a, b }: Pair,
    seconds: number,
    until: number,
    happens: (passed: number) => void,
  ): [number, string][] {
    const begin = scene.now;
    const seen: [number, string][] = [];
    for (const host of [a, b]) host.over = { interval_s: seconds };
    for (let passed = seconds; passed <= until; passed += seconds) {
      scene.now = begin + passed * 1000;
      happens(passed);
      for (const host of [b, a]) scene.report(host);
      seen.push([passed, scene.state()]);
    }
    return seen;
  }
  /** When a state was first seen. */
  const first = (seen: [number, string][], state: string) => seen.find(([, of]) => of === state)?.[0];
  /** A tunnel of which no end keeps alive, just after a handshake. */
  function shaken(secondsAgo = 5): Pair {
    const place = pair();
    place.scene.rounds(1, () => place.scene.shake(place.ab, place.ba, secondsAgo));
    return place;
  }

  test("a handshake that moves by 5 s at most is the same one: a window goes on", () => {
    for (const moves of [
      [1000, -1000, 2000, -2000],
      [2000, 2000, 2000, 2000],
      [5000, 5000],
    ]) {
      const place = shaken(30);
      const seen = every(place, 30, 60, (passed) => {
        place.ab.latest_handshake_at! += moves[passed / 30 - 1]!;
        place.ab.tx_bytes += ATTEMPTS;
      });
      expect([moves, first(seen, "stale")]).toEqual([moves, 60]);
    }
  });

  test("a handshake that moves by more is an advance: a window is begun anew", () => {
    const place = shaken(30);
    const seen = every(place, 30, 150, (passed) => {
      if (passed === 60) place.ab.latest_handshake_at! += 5001;
      place.ab.tx_bytes += ATTEMPTS;
    });
    expect(first(seen, "stale")).toBe(120);
  });

  test("reports less than 20 s apart make windows of 20 s at least: unanswered after two of them, not before", () => {
    // Seconds between reports, and when two windows have passed.
    for (const [seconds, at] of [
      [10, 40],
      [4, 40],
      [15, 60],
      [20, 40],
    ] as const) {
      const place = shaken();
      const seen = every(place, seconds, 80, () => (place.ab.tx_bytes += Math.ceil(seconds / 5) * 148));
      expect([seconds, first(seen, "stale")]).toEqual([seconds, at]);
    }
  });

  test("what is sent counts from the window's beginning: an attempt every other report of 10 s is enough", () => {
    const place = shaken();
    const seen = every(place, 10, 40, (passed) => (place.ab.tx_bytes += passed % 20 === 0 ? 148 : 0));
    expect(first(seen, "stale")).toBe(40);
  });

  test("rx that grows at age ≤ 180 s between two unanswered windows: they are not two running", () => {
    const place = shaken();
    const seen = every(place, 30, 120, (passed) => {
      place.ab.tx_bytes += ATTEMPTS;
      if (passed === 60) place.ab.rx_bytes += 32;
    });
    expect(first(seen, "stale")).toBe(120);
    // In the middle of a window, too: the next one begins there.
    const inside = shaken();
    const again = every(inside, 10, 100, (passed) => {
      inside.ab.tx_bytes += 148;
      if (passed === 30) inside.ab.rx_bytes += 32;
    });
    expect(first(again, "stale")).toBe(70);
  });

  test("what went unanswered is answered by rx that grows at age ≤ 180 s, not by rx that grows later", () => {
    for (const [age, state] of [
      [180, "up"],
      [181, "stale"],
    ] as const) {
      const place = shaken(age - 90);
      every(place, 30, 60, () => (place.ab.tx_bytes += ATTEMPTS));
      expect(place.scene.state()).toBe("stale");
      every(place, 30, 30, () => (place.ab.rx_bytes += 148));
      expect([age, place.scene.state()]).toEqual([age, state]);
    }
  });

  test("rx that grows past age 180 s begins no window anew, but is no silence either", () => {
    const place = shaken(175);
    // At 10 s the window of 20 s is half over; a new one would be over at 30 s and at 50 s.
    const seen = every(place, 10, 80, (passed) => {
      place.ab.tx_bytes += 148;
      if (passed === 10) place.ab.rx_bytes += 148;
    });
    expect(first(seen, "stale")).toBe(60);
  });

  test("counters that fall begin the window anew", () => {
    const place = shaken();
    place.ab.tx_bytes = place.ab.rx_bytes = 100_000;
    const seen = every(place, 10, 80, (passed) => {
      if (passed === 10) place.ab.tx_bytes = place.ab.rx_bytes = 0;
      else place.ab.tx_bytes += 148;
    });
    expect(first(seen, "stale")).toBe(50);
    // And end what was unanswered before.
    const running = shaken();
    const again = every(running, 30, 120, (passed) => {
      if (passed === 60) running.ab.tx_bytes = running.ab.rx_bytes = 0;
      else running.ab.tx_bytes += ATTEMPTS;
    });
    expect(first(again, "stale")).toBe(120);
  });
});

describe("the reason, 210 s after the first unanswered window began", () => {
  /** What a direction-dependent fault does to both counters, per interval, and the cause it has before and after. */
  function causes(fault: (place: ReturnType<typeof pair>) => void): (string | null)[] {
    const place = pair({ keepaliveA: 25, keepaliveB: 25 });
    const seen: (string | null)[] = [];
    working(place);
    place.scene.rounds(20, () => {
      fault(place);
      const { state, cause } = place.scene.edge();
      if (state === "stale") seen.push(cause);
    });
    return seen;
  }
  const decided = (seen: (string | null)[]) => {
    expect(seen[0]).toBe("undecided");
    // Undecided while it is younger than 210 s (seven reports), and then for good.
    const first = seen.findIndex((cause) => cause !== "undecided");
    expect(first).toBeGreaterThanOrEqual(4);
    expect(first).toBeLessThanOrEqual(7);
    expect(new Set(seen.slice(first)).size).toBe(1);
    return seen.at(-1);
  };

  test("rx grew at both ends since: preshared key", () => {
    const cause = decided(
      causes(({ ab, ba }) => {
        ab.tx_bytes += ATTEMPTS;
        ba.rx_bytes += ATTEMPTS;
        ba.tx_bytes += ATTEMPTS;
        ab.rx_bytes += ATTEMPTS;
      }),
    );
    expect(cause).toBe("preshared_key");
  });

  test("only at A: what A sends is dropped, A→B blocked", () => {
    const cause = decided(
      causes(({ ab, ba }) => {
        ba.tx_bytes += ATTEMPTS;
        ab.rx_bytes += ATTEMPTS;
        ab.tx_bytes += 6 * 92 + 148;
      }),
    );
    expect(cause).toBe("a_to_b_blocked");
  });

  test("only at B: B→A blocked", () => {
    const cause = decided(
      causes(({ ab, ba }) => {
        ab.tx_bytes += ATTEMPTS;
        ba.rx_bytes += ATTEMPTS;
        ba.tx_bytes += 6 * 92 + 148;
      }),
    );
    expect(cause).toBe("b_to_a_blocked");
  });

  // As recorded (+888/+552 and 0/+888): 552 is six answers of 92 bytes, which a wrong preshared key makes, too.
  test("only at A, which only answers: A→B blocked, or the preshared keys, at whichever end that is", () => {
    for (const [hears, asks, cause] of [
      ["ab", "ba", "a_to_b_or_preshared"],
      ["ba", "ab", "b_to_a_or_preshared"],
    ] as const) {
      const place = pair({ keepaliveA: 25, keepaliveB: 25 });
      place.scene.rounds(9, (round) => {
        if (round === 0) return;
        place[asks].tx_bytes += ATTEMPTS;
        place[hears].rx_bytes += ATTEMPTS;
        place[hears].tx_bytes += 6 * 92;
      });
      const edge = place.scene.edge();
      expect(edge).toMatchObject({ state: "never", cause });
      expect(edge.reason).toContain(hears === "ab" ? "a→b blocked, or the preshared keys" : "b→a blocked, or");
    }
  });

  test("at neither: nothing comes back", () => {
    const cause = decided(
      causes(({ ab, ba }) => {
        ab.tx_bytes += ATTEMPTS;
        ba.tx_bytes += ATTEMPTS;
      }),
    );
    expect(cause).toBe("nothing_returns");
  });
});

test("moves between up, late and idle are neither events nor history rows", () => {
  const { scene, ab, ba } = pair();
  scene.rounds(2, () => scene.shake(ab, ba));
  scene.forgetHistory();
  const states = new Set<string>();
  for (let i = 0; i < 3; i++) {
    scene.rounds(8);
    states.add(scene.state());
    scene.rounds(1, () => scene.shake(ab, ba));
    states.add(scene.state());
  }
  expect([...states].sort()).toEqual(["idle", "up"]);
  expect(scene.events).toEqual([]);
  expect(scene.versions.filter(({ kind }) => kind === "edge")).toEqual([]);
});

test("a change of state that is one is an event and a history row, with both states and since when", () => {
  const place = pair({ keepaliveA: 25 });
  const { scene, ab } = place;
  working(place, 1);
  scene.forgetHistory();
  scene.rounds(2, () => (ab.tx_bytes += ATTEMPTS));
  expect(scene.events).toHaveLength(1);
  expect(scene.events[0]).toMatchObject({ code: "edge_state", details: { from: "up", to: "stale" } });
  const rows = scene.versions.filter(({ kind }) => kind === "edge");
  expect(rows).toHaveLength(1);
  expect(rows[0]).toMatchObject({ at: scene.edge().changed_at, body: { state: "stale" } });
  expect(scene.edge().changed_at).toBe(scene.events[0]!.at);
});
