// Requests to /api, and the token that goes with them: it lives in this tab's session, never in an address.

const KEY = "netscand.token";
let token = null;
try {
  token = sessionStorage.getItem(KEY);
} catch { /* a browser that keeps nothing */ }

/** The token in use, or null. */
export const currentToken = () => token;

/** Use this one; null: none. */
export function useToken(text) {
  token = text;
  try {
    text ? sessionStorage.setItem(KEY, text) : sessionStorage.removeItem(KEY);
  } catch { /* then it lasts as long as the page */ }
}

/** One request: a promise of the JSON of its answer; rejected with {code, message}. */
export async function ask(method, path, body) {
  const headers = {};
  if (token) headers.Authorization = `Bearer ${token}`;
  if (body !== undefined) headers["Content-Type"] = "application/json";
  let answer, said = null;
  try {
    answer = await fetch(new URL(path, document.baseURI), {
      method, headers, body: body === undefined ? undefined : JSON.stringify(body), cache: "no-store", credentials: "omit",
    });
  } catch {
    throw { code: "unreachable", message: "netscand does not answer" };
  }
  try {
    said = await answer.json();
  } catch { /* no JSON, as from a proxy; or nothing, as after DELETE */ }
  if (answer.ok) return said;
  const error = said?.error;
  const missing = answer.status === 405 || (answer.status === 404 && error?.message === "no such resource");
  throw missing
    ? { code: "not_built", message: "this netscand cannot do that" }
    : { code: error?.code || "refused", message: error?.message || `HTTP ${answer.status}` };
}

/** What a path segment needs. */
export const device = (mac, rest = "") => `api/devices/${encodeURIComponent(mac)}${rest}`;
