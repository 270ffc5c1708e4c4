"""The page's files, as the daemon serves them: a fixed list, small, strict, and nothing else."""

import re
from collections.abc import Mapping
from importlib.resources import files
from pathlib import Path

import pytest

from netscand.serve.auth import Role
from netscand.serve.page import FILES, PATHS, POLICY
from netscand.serve.routes import BY_NAME
from tests.serve.house import House, house

WEB = files("netscand.serve") / "web"
TEXTS = {name: (WEB / name).read_text() for name in FILES}
SCRIPTS = {name: text for name, text in TEXTS.items() if name.endswith(".js")}


async def get(room: House, path: str, *headers: str, method: str = "GET") -> tuple[int, Mapping[str, str], bytes]:
    """One request over TCP as it stands, nothing made tidy on the way."""
    lines = (f"{method} {path} HTTP/1.1", f"Host: 127.0.0.1:{room.port}", "Connection: close", *headers, "", "")
    answer = await room.raw("\r\n".join(lines).encode())
    head, _, body = answer.partition(b"\r\n\r\n")
    status, *rest = head.decode().split("\r\n")
    return int(status.split()[1]), {name.lower(): value for name, value in (line.split(": ", 1) for line in rest)}, body


def test_every_file_is_listed_and_all_are_small() -> None:
    """What lies in the folder is served, and the page is under 170 kB in all."""
    assert sorted(FILES) == sorted(entry.name for entry in WEB.iterdir())
    assert sum(len(text.encode()) for text in TEXTS.values()) < 170_000
    assert all(BY_NAME[f"GET {path}"].role is Role.NONE for path in PATHS)


def test_a_column_has_the_word_of_its_sort_key() -> None:
    """As in netscanctl and the API: one word for one thing."""
    (columns,) = re.findall(r"^export const COLUMNS = \{(.*?)\};", SCRIPTS["table.js"], re.MULTILINE | re.DOTALL)
    titles = dict(re.findall(r'(\w+): "([^"]+)"', columns))
    assert len(titles) == 8
    assert {key: title.lower().replace(" ", "_") for key, title in titles.items()} == {key: key for key in titles}


async def test_each_file_has_its_type_and_the_strict_headers(tmp_path: Path) -> None:
    """Policy, nosniff, no referrer, no CORS; revalidated by ETag, so that all files come from one netscand."""
    async with house(tmp_path) as room:
        for path, name in zip(PATHS, FILES, strict=True):
            status, headers, body = await get(room, path)
            assert status == 200
            assert body == TEXTS[name].encode()
            kind = {"html": "text/html", "css": "text/css", "js": "text/javascript", "svg": "image/svg+xml"}
            assert headers["content-type"].startswith(kind[name.rpartition(".")[2]])
            assert headers["content-security-policy"] == POLICY
            assert headers["x-content-type-options"] == "nosniff"
            assert headers["cross-origin-opener-policy"] == "same-origin"
            assert headers["referrer-policy"] == "no-referrer"
            assert headers["cache-control"] == "no-cache"
            assert not [name for name in headers if name.startswith("access-control")]
            status, _, body = await get(room, path, f"If-None-Match: {headers['etag']}")
            assert (status, body) == (304, b"")
            status, again, body = await get(room, path, method="HEAD")
            assert (status, body, again["etag"]) == (200, b"", headers["etag"])


@pytest.mark.parametrize(
    "need", ["default-src 'none'", "script-src 'self'", "frame-ancestors 'none'", "base-uri 'none'"]
)
def test_the_policy_begins_with_nothing(need: str) -> None:
    """Everything is forbidden that is not named, and nothing unsafe is named."""
    assert need in POLICY.split("; ")
    assert "unsafe" not in POLICY
    assert "*" not in POLICY
    assert "data:" not in POLICY


@pytest.mark.parametrize(
    "path",
    [
        "/web/../page.py", "/web/%2e%2e/page.py", "/web/%2e%2e%2fpage.py", "/web/..%5cpage.py", "/web/page.js%00.html",
        "/web/", "/web", "/web//page.js", "/web/page.js/", "/web/.", "/web/index.html", "/web/" + "a" * 4000,
        "/%2e%2e/%2e%2e/etc/passwd", "/web/page.js?file=../../etc/passwd", "/?token=abcdefghijklmnopqrstuvwxyzabcdefgh",
    ],
)  # fmt: skip
async def test_no_other_path_leads_anywhere(tmp_path: Path, path: str) -> None:
    """400 or 404, whatever the path says (T3); a token in an address is refused (T18)."""
    async with house(tmp_path) as room:
        status, _, body = await get(room, path)
        assert status in (400, 404)
        assert body.startswith(b'{"error":')


async def test_a_query_of_ones_own_is_let_alone(tmp_path: Path) -> None:
    """?q= is for the page's script, and reaches nothing here."""
    async with house(tmp_path) as room:
        assert (await get(room, "/?q=%3Cscript%3E&sort=-mac"))[0] == 200
        assert (await get(room, "/", method="POST"))[0] == 405


async def test_whoever_has_no_role_still_gets_the_page(tmp_path: Path) -> None:
    """It is what asks for the token; the devices stay closed."""
    async with house(tmp_path, access={"others": "none"}) as room:
        assert (await get(room, "/"))[0] == 200
        assert (await get(room, "/web/page.js"))[0] == 200
        assert (await get(room, "/api/devices"))[0] in (401, 403)


def test_nothing_in_the_markup_runs_or_comes_from_outside() -> None:
    """No inline script, style or handler; no address but our own."""
    markup = TEXTS["index.html"]
    assert re.findall(r"<script(?![^>]* src=\"web/)", markup) == []
    assert re.findall(r"<style|\sstyle=|\son\w+=", markup) == []
    for name, text in TEXTS.items():
        ours = text.replace("http://www.w3.org/2000/svg", "")  # the name of SVG, which nothing ever asks for
        assert re.findall(r"(?:https?:)?//[a-z0-9.-]+\.[a-z]{2,}", ours) == [], name
    assert set(re.findall(r"web/([\w.]+)", markup)) <= set(FILES)


@pytest.mark.parametrize("name", SCRIPTS)
def test_scripts_know_text_only(name: str) -> None:
    """No call that parses markup or runs text, and no import but of the list (T7)."""
    text = SCRIPTS[name]
    markup = r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|DOMParser|setHTML|ContextualFragment|srcdoc"
    assert re.findall(rf"{markup}|\beval\(|new Function", text) == []
    assert set(re.findall(r"from \"\./([\w.]+)\"", text)) <= set(FILES)
    assert len(text.splitlines()) <= 350, "a file is a room"


def colours(scheme: str) -> dict[str, str]:
    """The colours of a scheme, by name."""
    light, dark = TEXTS["page.css"].split("@media (prefers-color-scheme: dark)", 1)
    found = dict(re.findall(r"--([a-z-]+): #([0-9a-f]{3,6});", light.split("\n}\n")[0]))
    if scheme == "dark":
        found |= dict(re.findall(r"--([a-z-]+): #([0-9a-f]{3,6});", dark.split("\n}\n")[0]))
    return {name: value if len(value) == 6 else "".join(digit * 2 for digit in value) for name, value in found.items()}


def contrast(one: str, other: str) -> float:
    """WCAG 2.2, relative luminance and contrast ratio."""

    def luminance(colour: str) -> float:
        parts = [int(colour[at : at + 2], 16) / 255 for at in (0, 2, 4)]
        red, green, blue = (part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts)
        return 0.2126 * red + 0.7152 * green + 0.0722 * blue

    dark, light = sorted((luminance(one), luminance(other)))
    return (light + 0.05) / (dark + 0.05)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_all_text_can_be_read(scheme: str) -> None:
    """Every colour of text on every ground it stands on, 4.5 to 1; signs of presence 3 to 1 (WCAG 2.2, AA)."""
    found = colours(scheme)
    grounds = ("ground", "surface", "raised", "hover", "open")
    for text in ("text", "soft", "faint", "accent", "odd"):
        for ground in grounds:
            assert contrast(found[text], found[ground]) >= 4.5, (text, ground)
    assert contrast(found["on-accent"], found["accent"]) >= 4.5
    for sign in ("online", "offline", "unknown", "odd"):
        assert contrast(found[sign], found["surface"]) >= 3.0, sign
