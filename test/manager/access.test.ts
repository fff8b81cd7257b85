import { describe, expect, test } from "bun:test";
import {
  Access,
  type AccessSettings,
  clientAddress,
  type RequestFacts,
  SESSION_COOKIE,
  SESSION_MS,
} from "../../manager/access.ts";
import { parsePrefix } from "../../shared/net.ts";

const ADMIN = "admin".repeat(8);
const READ = "read".repeat(8);
const NOW = 1_800_000_000_000;

function access(settings: Partial<AccessSettings> = {}, sessions: unknown = undefined): Access {
  return new Access(
    { adminToken: ADMIN, readToken: null, localRead: "open", trustedProxies: [], ...settings },
    sessions,
  );
}

function facts(headers: Record<string, string> = {}, remote = "127.0.0.1", method = "GET"): RequestFacts {
  return { remote, method, header: (name) => headers[name] ?? null };
}

const local = { host: "localhost:5086" };

describe("reading", () => {
  test.each([
    ["loopback, its own Host", {}, local, "127.0.0.1", "ok"],
    ["loopback by IPv6", {}, { host: "[::1]:5086" }, "::1", "ok"],
    ["loopback by address", {}, { host: "127.0.0.1:5086" }, "127.0.0.1", "ok"],
    ["loopback, foreign Host (DNS rebinding)", {}, { host: "evil.example:5086" }, "127.0.0.1", 421],
    ["loopback, a Host that only begins like one", {}, { host: "localhost.evil.example" }, "127.0.0.1", 421],
    ["loopback, no Host", {}, {}, "127.0.0.1", 421],
    ["loopback, but LOCAL_READ=token", { localRead: "token" as const }, local, "127.0.0.1", 401],
    ["loopback, but forwarded", {}, { ...local, "x-forwarded-for": "127.0.0.1" }, "127.0.0.1", 401],
    ["loopback, forwarded by RFC 7239", {}, { ...local, forwarded: "for=127.0.0.1" }, "127.0.0.1", 401],
    ["another host", {}, { host: "10.0.0.1:5086" }, "10.0.0.2", 401],
    ["another host that claims to be loopback", {}, { ...local, "x-forwarded-for": "127.0.0.1" }, "10.0.0.2", 401],
    [
      "a trusted proxy, which grants nothing",
      { trustedProxies: [parsePrefix("10.0.0.2/32")!] },
      { ...local, "x-forwarded-for": "127.0.0.1" },
      "10.0.0.2",
      401,
    ],
    ["READ_TOKEN", { readToken: READ }, { host: "x", authorization: `Bearer ${READ}` }, "10.0.0.2", "ok"],
    ["ADMIN_TOKEN", {}, { host: "x", authorization: `bearer ${ADMIN}` }, "10.0.0.2", "ok"],
    ["a wrong token, also on loopback", {}, { ...local, authorization: `Bearer ${READ}` }, "127.0.0.1", 401],
    ["basic authentication", {}, { ...local, authorization: `Basic ${ADMIN}` }, "127.0.0.1", 401],
    ["an empty token", {}, { ...local, authorization: "Bearer " }, "127.0.0.1", 401],
  ])("%s", (_name, settings, headers, remote, expected) => {
    const decision = access(settings).decide(facts(headers as Record<string, string>, remote), "read", NOW);
    expect<string | number>(decision.ok ? "ok" : decision.status).toBe(expected);
  });
});

describe("administering needs the admin token, always", () => {
  test("not loopback, not READ_TOKEN", () => {
    const own = access({ readToken: READ });
    expect(own.decide(facts(local, "127.0.0.1", "POST"), "admin", NOW)).toMatchObject({ ok: false, status: 401 });
    expect(own.decide(facts({ authorization: `Bearer ${READ}` }, "10.0.0.2", "POST"), "admin", NOW)).toMatchObject({
      ok: false,
      status: 403,
    });
    expect(own.decide(facts({ authorization: `Bearer ${ADMIN}` }, "10.0.0.2", "POST"), "admin", NOW)).toMatchObject({
      ok: true,
      role: "admin",
    });
  });
});

describe("sessions", () => {
  const remote = (cookie: string, method = "GET", headers: Record<string, string> = {}) =>
    facts({ host: "status.example", cookie: `other=1; ${SESSION_COOKIE}=${cookie}`, ...headers }, "10.0.0.2", method);

  test("a login's cookie reads; it ends with logout, time, or the token's change; it outlives a restart", () => {
    const own = access({ readToken: READ });
    expect(own.login("wrong".repeat(8), NOW)).toBeNull();
    const { cookie, role } = own.login(READ, NOW)!;
    expect(role).toBe("read");
    expect(own.decide(remote(cookie), "read", NOW)).toMatchObject({ ok: true, how: "session" });
    expect(own.decide(remote(cookie), "admin", NOW)).toMatchObject({ ok: false, status: 403 });
    expect(own.decide(remote(cookie), "read", NOW + SESSION_MS)).toMatchObject({ ok: false });
    expect(JSON.stringify(own.dump())).not.toContain(cookie);
    expect(JSON.stringify(own.dump())).not.toContain(READ);
    const restarted = access({ readToken: READ }, JSON.parse(JSON.stringify(own.dump())));
    expect(restarted.decide(remote(cookie), "read", NOW)).toMatchObject({ ok: true });
    const changed = access({ readToken: "other".repeat(8) }, own.dump());
    expect(changed.decide(remote(cookie), "read", NOW)).toMatchObject({ ok: false });
    own.logout(cookie);
    expect(own.decide(remote(cookie), "read", NOW)).toMatchObject({ ok: false });
  });

  test("an admin's session changes things only from the dashboard's own page", () => {
    const own = access();
    const { cookie } = own.login(ADMIN, NOW)!;
    expect(own.decide(remote(cookie, "POST", { origin: "https://status.example" }), "admin", NOW)).toMatchObject({
      ok: true,
    });
    expect(own.decide(remote(cookie, "POST", { origin: "https://evil.example" }), "admin", NOW)).toMatchObject({
      ok: false,
      status: 403,
    });
    expect(own.decide(remote(cookie, "POST", { origin: "null" }), "admin", NOW)).toMatchObject({
      ok: false,
      status: 403,
    });
    expect(own.decide(remote(cookie, "POST", { "sec-fetch-site": "cross-site" }), "admin", NOW)).toMatchObject({
      ok: false,
      status: 403,
    });
  });
});

test("whom to blame: the connection, or the last untrusted hop that a trusted proxy names", () => {
  const proxies = [parsePrefix("10.0.0.0/8")!];
  expect(clientAddress(facts({ "x-forwarded-for": "1.2.3.4" }, "192.0.2.1"), proxies)).toBe("192.0.2.1");
  expect(clientAddress(facts({ "x-forwarded-for": "6.6.6.6, 192.0.2.9, 10.0.0.3" }, "10.0.0.2"), proxies)).toBe(
    "192.0.2.9",
  );
  expect(clientAddress(facts({ "x-forwarded-for": "junk" }, "10.0.0.2"), proxies)).toBe("10.0.0.2");
  expect(clientAddress(facts({}, "10.0.0.2"), proxies)).toBe("10.0.0.2");
});
