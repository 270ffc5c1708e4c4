// The connection: opened, reopened after 3 s, resumed by cursor. Independent of devices.

const AGAIN = 3000; // ms until the next attempt
const HANDSHAKE = 10_000; // maximum ms of an attempt
const SILENCE = 90_000; // ms without a message after which the connection counts as dead (a scan ends every 30 s)

export class Stream {
  #socket = null;
  #timer = 0;
  #waiting = new Map();
  #number = 0;

  /**
   * `since()`: the cursor to resume from, or null. `token()`: or null. `onMessage(message)`, `state(name, failure)`: callbacks.
   * `why()`: requests the reason of a failure over HTTP; a promise of {code, message}, or null.
   */
  constructor({ since, token, onMessage, state, why }) {
    Object.assign(this, { since, token, onMessage, state, why });
    this.live = false;
    this.receivedAt = 0;
    this.protocol = null;
    addEventListener("online", () => this.hurry());
    document.addEventListener("visibilitychange", () => document.hidden || this.hurry());
    setInterval(() => this.#look(), 5000);
  }

  /** Connect now; closes an open connection. */
  connect() {
    clearTimeout(this.#timer);
    this.#timer = 0;
    this.#drop();
    this.state("connecting");
    const url = new URL("ws?updates=changes", document.baseURI);
    url.protocol = url.protocol.replace("http", "ws");
    const since = this.since();
    if (since) url.searchParams.set("since", since);
    const token = this.token();
    // The token is a subprotocol: a browser's WebSocket cannot send headers, and URLs appear in logs.
    const protocols = token ? ["netscand", `netscand.token.${base64url(token)}`] : [];
    const socket = new WebSocket(url, protocols);
    this.#socket = socket;
    this.startedAt = Date.now();
    let received = false;
    socket.onmessage = ({ data }) => {
      const message = JSON.parse(data);
      this.receivedAt = Date.now();
      if (!received) {
        received = this.live = true;
        this.state("live");
      }
      this.#answer(message);
      this.onMessage(message);
    };
    socket.onclose = ({ code }) => this.#lost(received, code);
  }

  /** Send a request over the stream; a promise of its response, rejected with {code, message}. */
  ask(message) {
    return new Promise((resolve, reject) => {
      if (!this.live) return reject({ code: "unreachable", message: "not connected" });
      const request = `r${++this.#number}`;
      this.#waiting.set(request, { resolve, reject });
      this.#socket.send(JSON.stringify({ ...message, request }));
    });
  }

  /** Reconnect at once if a reconnect is pending. */
  hurry() {
    if (this.#timer) this.connect();
  }

  #answer(message) {
    const waiting = message.request && this.#waiting.get(message.request);
    if (!waiting) return;
    this.#waiting.delete(message.request);
    message.type === "error" ? waiting.reject(message) : waiting.resolve(message);
  }

  async #lost(received, code) {
    this.#drop();
    this.#timer = setTimeout(() => this.connect(), AGAIN);
    const timer = this.#timer;
    this.state("waiting", received ? { code: code === 4000 ? "lagged" : "lost" } : null);
    if (received) return;
    const failure = await this.why();
    if (this.#timer === timer && failure) this.state("waiting", failure);
  }

  #drop() {
    const socket = this.#socket;
    this.#socket = null;
    this.live = false;
    if (socket) {
      socket.onmessage = socket.onclose = null;
      socket.close();
    }
    for (const { reject } of this.#waiting.values()) reject({ code: "lost", message: "" });
    this.#waiting.clear();
  }

  /** Detect a dead connection, for example after a suspend or a restart of a router. */
  #look() {
    const silent = Date.now() - (this.live ? this.receivedAt : this.startedAt);
    if (this.#socket && silent > (this.live ? SILENCE : HANDSHAKE)) this.#lost(this.live, 0);
  }
}

/** RFC 4648, section 5, without padding: `=` is not allowed in the name of a subprotocol. */
function base64url(text) {
  const bytes = new TextEncoder().encode(text);
  return btoa(String.fromCharCode(...bytes)).replaceAll("+", "-").replaceAll("/", "_").replace(/=+$/, "");
}
