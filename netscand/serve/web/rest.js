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
  if (body) headers["Content-Type"] = "application/json";
  let answer, said = null;
  try {
    answer = await fetch(new URL(path, document.baseURI), {
      method, headers, body: body && JSON.stringify(body), cache: "no-store", credentials: "omit",
    });
  } catch {
    throw { code: "unreachable", message: "netscand does not answer" };
  }
  try {
    said = await answer.json();
  } catch { /* no JSON, as from a proxy; or nothing, as after DELETE */ }
  if (answer.ok) return said;
  throw said?.error || { code: "refused", message: `the answer was HTTP ${answer.status}` };
}

/** What a path segment needs. */
export const device = (mac, rest = "") => `api/devices/${encodeURIComponent(mac)}${rest}`;
