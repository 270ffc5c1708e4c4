// What every script of test_lan.py begins with: the pure modules, and messages to feed them.
const { Lan, newsIn } = await import("/web/lan.js");
const { View } = await import("/web/order.js");
const words = await import("/web/words.js");
const NET = "10.0.0.0/24@eth0", OTHER = "10.1.0.0/24@wlan0", AT = "2026-01-01T00:00:00.000Z";
const network = (id, state = "up") =>
  ({ id, state, why: "", last_scan: null, coverage: { fraction: 1, seconds: 30 } });
const device = (number, more = {}) => {
  const ip = more.ip === undefined ? `10.0.0.${number}` : more.ip;
  const addresses = (more.networks || [NET]).map((network) =>
    ({ ip, network, interface: "eth0", evidence: "arp_reply", first_seen: AT, last_seen: AT }));
  return {
    mac: `a4:83:e7:00:00:${number.toString(16).padStart(2, "0")}`, hostname: null, hostname_source: null, label: null,
    known: false, notes: null, vendor: "Apple, Inc.", randomized_mac: false, kinds: [], status: "online",
    reason: "answered", patience: 60, status_since: AT, first_seen: AT, last_seen: AT, rtt_ms: 1, addresses, ...more, ip,
  };
};
const begin = (devices, more = {}) => ({
  type: "initial_state", protocol: 1, version: "0", cursor: "e-1", interval: 30, role: "scan", scanning: false,
  last_scan: null, networks: [network(NET), network(OTHER)], devices, more: false, ...more,
});
let sequence = 1;
const event = (kind, more = {}) => ({
  type: "event", cursor: `e-${++sequence}`, kind, at: AT, network: NET, reason: "because", device: null, previous: null,
  ...more,
});
const lan = new Lan();
const hear = (...messages) => messages.flatMap((message) => lan.apply(message)).map((told) => told.kind);
const statuses = () => Object.fromEntries([...lan.devices.values()].map((held) => [held.ip, held.status]));
