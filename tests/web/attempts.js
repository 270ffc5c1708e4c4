// What a page of another origin could try against a daemon on this machine; what it got, by attempt.
(async () => {
  const there = "http://127.0.0.1:8000", got = {};
  const tell = (name, work) => work.then((value) => (got[name] = String(value)), () => (got[name] = "refused"));
  const text = async (how, path = "/api/devices") => {
    const said = await (await fetch(there + path, how)).text();
    if (!said) throw "an answer that cannot be read";
    return said;
  };
  const socket = (query) => new Promise((heard, refused) => {
    const it = new WebSocket(`ws://127.0.0.1:8000/ws${query}`);
    it.onmessage = ({ data }) => heard(data);
    it.onclose = refused;
  });
  const frame = () => new Promise((read, refused) => {
    const it = document.createElement("iframe");
    it.src = `${there}/`;
    document.body.append(it);
    setTimeout(() => {
      try {
        it.contentDocument.body.innerText ? read(it.contentDocument.body.innerText) : refused();
      } catch {
        refused();
      }
    }, 1500);
  });
  await Promise.all([
    tell("fetch", text()),
    tell("blind", text({ mode: "no-cors" })),
    tell("scan", text({ method: "POST", mode: "no-cors", body: "{}" }, "/api/scan")),
    tell("module", import(`${there}/web/lan.js`).then(Object.keys)),
    tell("changes", socket("?updates=changes")),
    tell("full", socket("")),
    tell("frame", frame()),
  ]);
  return got;
})()
