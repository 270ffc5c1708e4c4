// Requests to /api, and their token, which is stored for this tab or, if the user asks for it, on this device; never in a URL.

import { find, say } from "./element.js";
import { errorText } from "./words.js";

const KEY = "netscand.token";
let token = null, remembered = false;
try {
  token = sessionStorage.getItem(KEY);
  remembered = !token && localStorage.getItem(KEY) !== null;
  if (remembered) token = localStorage.getItem(KEY);
} catch { /* the browser has no storage */ }

/** The token in use, or null. */
export const currentToken = () => token;

/** Return whether the token in use is stored on this device. */
export const isRemembered = () => remembered;

/** Use this token, and store it for this tab or on this device; null: none, and forget the stored one. */
export function useToken(text, remember = false) {
  token = text;
  remembered = remember;
  try {
    for (const storage of [sessionStorage, localStorage]) storage.removeItem(KEY);
    if (text) (remember ? localStorage : sessionStorage).setItem(KEY, text);
  } catch { /* then it lasts until the page is closed */ }
}

/** Send a request; a promise of the JSON of the response, rejected with {code, message, status}. */
export async function ask(method, path, body) {
  const headers = {};
  if (token) headers.Authorization = `Bearer ${token}`;
  if (body) headers["Content-Type"] = "application/json";
  const url = new URL(path, document.baseURI);
  url.username = url.password = ""; // of http://USER:PASSWORD@…, which fetch refuses; the browser sends them by itself
  let answer, content = null;
  try {
    answer = await fetch(url, {
      method, headers, body: body && JSON.stringify(body), cache: "no-store",
      credentials: "same-origin", // a proxy may require a login; netscand itself uses no cookies
      redirect: "manual", // only a proxy redirects
    });
  } catch {
    throw { code: "unreachable", message: "netscand does not answer" };
  }
  if (method !== "GET") warn(method, answer);
  try {
    content = await answer.json();
  } catch { /* no JSON, as from a proxy; or empty, as after DELETE */ }
  if (answer.ok && (content || answer.status === 204)) return content;
  throw { ...(content?.error?.code ? content.error : ofProxy(answer)), ...ofForeignToken(answer), status: answer.status };
}

/** Show, from a change that may be lost until one that is stored, why the history cannot be written. */
function warn(method, { ok, headers }) {
  const text = new TextDecoder().decode(Uint8Array.from(headers.get("Netscand-Warning") || "", (char) => char.charCodeAt(0)));
  if (!text && (!ok || (method !== "PATCH" && method !== "DELETE"))) return;
  say(find("#unstored"), text && errorText({ message: text }));
  find("#unstored").hidden = !text;
}

/** Return the error for a response that is not netscand's. */
function ofProxy({ type, status }) {
  if (type === "opaqueredirect" || status === 401) {
    return { code: "login", message: "a proxy requires a login: reload this page" };
  }
  const hint = status < 300 ? ": does it require a login, or serve another path"
    : status >= 502 ? ": is netscand running, and is [listen] max_per_peer large enough" : "";
  return { code: "proxy", message: `a proxy answered instead of netscand, with HTTP ${status}${hint}` };
}

/** Return the error for a token that netscand rejects and that this page did not send. */
function ofForeignToken({ status, headers }) {
  if (token || status !== 401 || !headers.get("WWW-Authenticate")?.includes("invalid_token")) return null;
  return { code: "proxy", message: "a proxy sends a token that netscand does not know, in the header Authorization" };
}

/** Return the path of a device, by its MAC, or `SITE/MAC`. */
export function device(key, rest = "") {
  const [mac, site] = key.split("/").reverse();
  return withQuery(`api/devices/${encodeURIComponent(mac)}${rest}`, site ? { site } : {});
}

/** Return a path with more parameters. */
export function withQuery(path, parameters) {
  const query = new URLSearchParams(parameters).toString();
  return query ? `${path}${path.includes("?") ? "&" : "?"}${query}` : path;
}
