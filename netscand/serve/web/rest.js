// Requests to /api, and their token, which is stored in the session of this tab, never in a URL.

const KEY = "netscand.token";
let token = null;
try {
  token = sessionStorage.getItem(KEY);
} catch { /* the browser has no storage */ }

/** The token in use, or null. */
export const currentToken = () => token;

/** Use this token; null: none. */
export function useToken(text) {
  token = text;
  try {
    text ? sessionStorage.setItem(KEY, text) : sessionStorage.removeItem(KEY);
  } catch { /* then it lasts until the page is closed */ }
}

/** Send a request; a promise of the JSON of the response, rejected with {code, message}. */
export async function ask(method, path, body) {
  const headers = {};
  if (token) headers.Authorization = `Bearer ${token}`;
  if (body) headers["Content-Type"] = "application/json";
  let answer, content = null;
  try {
    answer = await fetch(new URL(path, document.baseURI), {
      method, headers, body: body && JSON.stringify(body), cache: "no-store", credentials: "omit",
    });
  } catch {
    throw { code: "unreachable", message: "netscand does not answer" };
  }
  try {
    content = await answer.json();
  } catch { /* no JSON, as from a proxy; or empty, as after DELETE */ }
  if (answer.ok) return content;
  throw content?.error || { code: "refused", message: `the answer was HTTP ${answer.status}` };
}

/** Return the path of a device. */
export const device = (mac, rest = "") => `api/devices/${encodeURIComponent(mac)}${rest}`;
