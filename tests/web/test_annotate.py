"""User annotations on the page, with tokens of each role."""

from collections.abc import Iterator
from typing import Any

import pytest

from tests.core import built_frames
from tests.lab.crowd import Crowd
from tests.lab.daemon import Daemon
from tests.lab.lan import Lab
from tests.lab.test_daemon import wait_for
from tests.web import selectors
from tests.web.chromium import Chromium, Page
from tests.web.conftest import CONFIG, URL

TOKENS = {role: f"{role}-0123456789+/~abcdefghijklmnopqrstuvwxyz==" for role in ("read", "scan", "admin")}
"""With every character that a header may carry and a subprotocol may not."""
MAC, OTHER = "a4:83:e7:00:00:21", "5c:aa:fd:00:00:22"


@pytest.fixture(scope="module")
def crowd(shared_lab: Lab) -> Crowd:
    return shared_lab.crowd()


@pytest.fixture(scope="module")
def guarded(shared_lab: Lab, crowd: Crowd, chromium_is_there: None) -> Daemon:
    """A daemon that serves nothing without a token."""
    file = shared_lab.folder / "tokens"
    file.write_text("".join(f"{role} {token}\n" for role, token in TOKENS.items()))
    file.chmod(0o640)
    crowd.populate(["10.77.0.21", "10.77.0.22"], [MAC, OTHER])
    return shared_lab.daemon(f'{CONFIG}\n[access]\nothers = "none"\ntoken_file = "{file}"\n')


@pytest.fixture
def stranger(browser: Chromium, guarded: Daemon) -> Iterator[Page]:
    """The page in a tab of its own, that has no token yet."""
    made = browser.page(URL, width=1440, height=900)
    yield made
    made.js("sessionStorage.clear()")
    made.close()
    assert not made.errors, made.errors


def enter(page: Page, token: str) -> None:
    page.until("document.querySelector('#ask-token').open")
    page.js("document.querySelector('#token-text').focus()")
    page.type(token)
    page.key("Enter")


def edit(page: Page, **changes: Any) -> None:  # noqa: ANN401
    """Put values into the fields, as a hand would, and save."""
    for name, value in changes.items():
        if name == "known":
            page.click(".check input")
        else:
            page.js(f"document.querySelector('#d-{name}').select()")
            page.type(value)
    page.js("document.querySelector('.said').textContent = ''")  # of what was saved before
    page.js("document.querySelector('#device form .main').scrollIntoView()")
    page.click("#device form .main")
    page.until("document.querySelector('.said').innerText === 'Saved.'")


def test_who_has_no_token_is_asked_for_one_and_sees_nothing(stranger: Page, guarded: Daemon) -> None:
    """Then a wrong one is refused in words, and a right one opens the page, without a reload."""
    stranger.until("document.querySelector('#ask-token').open")
    assert stranger.js(f"{selectors.ROWS}.length") == 0
    enter(stranger, "wrong-0123456789-abcdefghijklmnopqrst")
    stranger.until("/does not know this token/.test(document.querySelector('#token-why').innerText)")
    enter(stranger, TOKENS["read"])
    stranger.until(selectors.row("10.77.0.21"))
    assert stranger.js("document.querySelector('#token-role').innerText") == "role: read"
    assert stranger.js("sessionStorage.length") == 1
    assert stranger.js("document.cookie + localStorage.length") == "0"
    assert not any(TOKENS["read"][:20] in url for url in stranger.requested)


def test_a_right_that_is_missing_is_asked_for_where_it_is_needed(stranger: Page) -> None:
    """Scanning with a token to read, editing with a token to scan."""
    enter(stranger, TOKENS["read"])
    stranger.until("!document.querySelector('#scan').disabled")
    stranger.click("#scan")
    stranger.until("/role scan/.test(document.querySelector('#token-why').innerText)")
    enter(stranger, TOKENS["scan"])
    stranger.until("document.querySelector('#token-role').innerText === 'role: scan'")
    stranger.until(selectors.row("10.77.0.21"))
    stranger.js(f"location.hash = '{MAC}'")
    stranger.until("document.querySelector('#device fieldset')?.disabled")
    stranger.js("[...document.querySelectorAll('#device button')].find(it => /to edit/.test(it.textContent)).click()")
    enter(stranger, TOKENS["admin"])
    stranger.until("document.querySelector('#device fieldset').disabled === false")


@pytest.fixture
def admin(stranger: Page) -> Page:
    """The page with every right."""
    enter(stranger, TOKENS["admin"])
    stranger.until(selectors.row("10.77.0.21"))
    stranger.js(f"location.hash = '{MAC}'")
    stranger.until("document.querySelector('#device').checkVisibility()")
    return stranger


def test_a_device_is_labelled_known_noted(admin: Page, guarded: Daemon) -> None:
    """It is shown at once, here and to everyone; patience is set, and returned to the learned one."""
    before = guarded.get(f"/api/devices/{MAC}")
    edit(admin, label="Jane's laptop", notes="on the desk", patience="33")
    admin.until(f"/Jane's laptop/.test({selectors.row('10.77.0.21')})")
    device = guarded.get(f"/api/devices/{MAC}")
    assert (device["label"], device["notes"], device["patience"]) == ("Jane's laptop", "on the desk", 33)
    edit(admin, known=True)
    assert guarded.get(f"/api/devices/{MAC}")["known"] is not before["known"]
    admin.click("#device .learn")
    admin.until("/^(?!33 )/.test(document.querySelector('#d-patience').placeholder)")
    assert guarded.get(f"/api/devices/{MAC}")["patience"] != 33
    admin.until("/Labelled/.test(document.querySelector('#device ol').textContent)")
    admin.until("/label .+ → Jane's laptop/.test(document.querySelector('#device ol').textContent)")


def test_a_kind_is_shown_with_its_evidence_and_chosen(admin: Page, guarded: Daemon) -> None:
    """By evidence in the list; the user's word replaces it, until it is withdrawn."""
    admin.until(f"/speaker/.test({selectors.row('10.77.0.22')})")
    chosen = "document.querySelector('#d-kind')"
    for value, shown in (("tablet", "tablet \\(chosen by a user\\)"), ("", "unknown")):
        admin.js(f"{chosen}.value = '{value}'; {chosen}.dispatchEvent(new Event('input', {{bubbles: true}}))")
        edit(admin)
        admin.until(f"/Kind{shown}/.test(document.querySelector('#device dl').textContent)")
        admin.until(f"/tablet/.test({selectors.row('10.77.0.21')}) === {str(bool(value)).lower()}")
        assert guarded.get(f"/api/devices/{MAC}").get("kind") == (value or None)


def test_a_change_that_is_not_stored_says_so(admin: Page) -> None:
    """Until a change is stored; it stays beside what else is reported."""
    admin.js("""window.fetch = (of => async (url, options) => {
      const answer = await of(url, options);
      if (!window.broken || options.method !== "PATCH") return answer;
      const { status, headers } = answer;
      return new Response(await answer.text(), { status, headers: [...headers, ["Netscand-Warning", window.broken]] });
    })(window.fetch)""")
    admin.js("window.broken = 'not stored: the history cannot be written (disk full)'")
    edit(admin, label="Jane's laptop 2")
    shown = "document.querySelector('#unstored')"
    admin.until(f"{shown}.checkVisibility() && {shown}.innerText")
    assert admin.js(f"{shown}.innerText") == "Not stored: the history cannot be written (disk full)."
    admin.js("window.broken = ''")
    edit(admin, label="Jane's laptop")
    admin.until(f"!{shown}.checkVisibility()")


def test_a_label_of_markup_is_letters(admin: Page, guarded: Daemon) -> None:
    """What one user writes is shown to another as text (T7)."""
    evil = "<img src=x onerror=\"window.hacked='it ran'\">"
    assert guarded.request("PATCH", f"/api/devices/{MAC}", {"label": evil, "notes": evil})[0] == 200
    admin.until(f"{selectors.row('10.77.0.21')}.includes('<img src=x onerror=')")
    admin.until("document.querySelector('#device h2').innerText.includes('<img')")
    assert admin.js("document.querySelector('#d-notes').value") == evil
    assert admin.js("document.querySelectorAll('img[src=x]').length") == 0
    assert admin.js("window.hacked ?? null") is None


def test_what_is_being_typed_is_not_overwritten(admin: Page, guarded: Daemon) -> None:
    """Somebody else edits the same device meanwhile: the field in hand stays, the others follow."""
    admin.js("document.querySelector('#d-label').select()")
    admin.type("half a lab")
    guarded.request("PATCH", f"/api/devices/{MAC}", {"label": "from elsewhere", "notes": "new notes"})
    admin.until("document.querySelector('#d-notes').value === 'new notes'")
    assert admin.js("document.querySelector('#d-label').value") == "half a lab"
    admin.key("Escape")
    assert admin.js("document.querySelector('#device').checkVisibility()"), "one key does not throw it away"


def test_a_device_is_forgotten_after_a_question(admin: Page, guarded: Daemon, shared_lab: Lab) -> None:
    """Keep it: nothing happens. Forget it: it is gone here and there."""
    crowd: Crowd = shared_lab.crowds[0]
    mac = crowd.join("10.77.0.60", "3c:d9:2b:00:00:60")
    admin.until(selectors.row("10.77.0.60"))
    crowd.leave(mac)
    admin.js(f"location.hash = '{mac}'")
    admin.until("/10.77.0.60/.test(document.querySelector('#device h2').innerText)")
    for button, left in (("cancel", True), ("forget", False)):
        admin.js("document.querySelector('#device .danger').scrollIntoView()")
        admin.click("#device .danger")
        admin.until("document.querySelector('#ask-forget').open")
        assert "10.77.0.60" in admin.js("document.querySelector('#forget-why').innerText")
        admin.click(f"#ask-forget [value={button}]")
        admin.until(f"!!{selectors.row('10.77.0.60')} === {str(left).lower()}")
    assert guarded.request("GET", f"/api/devices/{mac}")[0] == 404
    admin.until("!document.querySelector('#device').checkVisibility()")


def test_the_days_of_a_device_are_drawn(admin: Page) -> None:
    """A bar a day, with a sentence for who cannot see it; and its events."""
    admin.until("document.querySelectorAll('#device .week g').length === 7")
    assert "online" in admin.js("document.querySelector('#device .week').getAttribute('aria-label')")
    admin.until("/Discovered/.test(document.querySelector('#device ol').textContent)")


def test_tags_are_edited_in_bulk_and_filter_the_list(admin: Page, guarded: Daemon) -> None:
    """Of one device by its pane, of all that are shown by the dialog."""
    admin.js("document.querySelector('#d-tags').value = ''")
    edit(admin, tags="Desk iot")
    assert guarded.get(f"/api/devices/{MAC}")["tags"] == ["desk", "iot"]
    admin.until(f"/#desk/.test({selectors.row('10.77.0.21')})")
    admin.js("location.hash = ''")
    admin.until("document.querySelector('#device').hidden")
    admin.until("document.querySelector('#tag').options.length === 3")
    admin.choose("#tag", "iot")
    admin.until(f"{selectors.ROWS}.length === 1")
    admin.click("#actions summary")
    admin.click("#bulk")
    admin.until("document.querySelector('#ask-tags').open")
    admin.js("document.querySelector('#tags-add').value = 'shown'")
    admin.js("document.querySelector('#tags-remove').value = 'iot'")
    admin.click("#ask-tags button[value=change]")
    admin.until("/1 device are changed|of 1 device/.test(document.querySelector('#notice-words').innerText)")
    assert guarded.get(f"/api/devices/{MAC}")["tags"] == ["desk", "shown"]
    assert guarded.get("/api/devices?tag=shown")["devices"][0]["mac"] == MAC
    guarded.request("PATCH", f"/api/devices/{MAC}", {"tags": []})


def test_a_person_is_added_and_shown(admin: Page, guarded: Daemon) -> None:
    """The row shows who is home, live; the dialog says which devices count."""
    admin.js("location.hash = ''")
    admin.until("document.querySelector('#device').hidden")
    admin.click("#actions summary")
    admin.click("#add-person")
    admin.until("document.querySelector('#ask-person').open")
    admin.js("document.querySelector('#person-name').value = 'Jane'")
    admin.js(f"document.querySelector('#person-devices li[data-mac=\"{MAC}\"] select').value = 'counts'")
    admin.click("#person-save")
    admin.until("/Jane home since/.test(document.querySelector('#people').innerText)")
    assert guarded.get("/api/people")["people"][0]["devices"] == [{"mac": MAC, "counts": True}]
    admin.until("/Person home/.test(document.querySelector('#event-list').innerText)")
    assert guarded.request("DELETE", "/api/people/Jane")[0] == 204
    admin.until("document.querySelector('#people').hidden")


def test_two_devices_are_merged_and_separated(admin: Page, guarded: Daemon) -> None:
    """One row for both, found by either MAC; the pane offers the undo."""
    for value, verb, rows in ((OTHER, "Merge", "=== 0"), (f"undo {OTHER}", "Separate", "=== 1")):
        ask_to_merge(admin, value)
        assert admin.js("document.querySelector('#merge-do').innerText") == verb
        admin.click("#merge-do")
        admin.until(f"[...document.querySelectorAll('tr[data-mac=\"{OTHER}\"]')].length {rows}")
    assert guarded.get(f"/api/devices/{OTHER}")["mac"] == OTHER
    assert guarded.get(f"/api/devices/{OTHER}")["kind"] == "speaker"


def test_a_suggestion_is_dismissed_and_brought_back(admin: Page, guarded: Daemon, crowd: Crowd) -> None:
    """The button of a device says that there is one; the dialog shows the evidence."""
    identifier = ("client_id", b"\0\1\0\1of-one-host")
    for mac, ip in ((MAC, "10.77.0.21"), (OTHER, "10.77.0.22")):
        crowd.send(built_frames.dhcp("request", identifier, mac=mac, ciaddr=ip))
    wait_for("the evidence", lambda: guarded.get("/api/suggestions")["suggestions"])
    admin.js("location.hash = ''")
    admin.until("document.querySelector('#device').hidden")
    admin.js(f"location.hash = '{MAC}'")
    button = "document.querySelector('#device .merge').innerText"
    for marked, evidence, others in (
        (True, "Probably the same: same DHCP client identifier.", [OTHER]),
        (False, "Dismissed, but there is evidence: same DHCP client identifier.", None),
    ):
        admin.until(f"{button} === '{'Merge… (suggested)' if marked else 'Merge…'}'")
        ask_to_merge(admin, OTHER)
        assert admin.js("document.querySelector('#merge-evidence').innerText") == evidence
        admin.click("#merge-differ")
        admin.until("/as the same device/.test(document.querySelector('#notice-words').innerText)")
        assert guarded.get(f"/api/devices/{MAC}").get("not_same_as") == others
    admin.until(f"{button} === 'Merge… (suggested)'")


def ask_to_merge(page: Page, value: str) -> None:
    """Open the dialog of the device, and choose in it."""
    page.until("document.querySelector('#device fieldset').disabled === false")
    page.js("document.querySelector('#device .merge').click()")
    page.until("document.querySelector('#ask-merge').open")
    page.js(f"document.querySelector('#merge-other').value = '{value}'")
    page.js("document.querySelector('#merge-other').dispatchEvent(new Event('change'))")
