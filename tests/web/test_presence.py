"""The charts of presence, in the time zone of the viewer."""

import json
from collections.abc import Iterator
from typing import Any

import pytest

from tests.web.chromium import Page
from tests.web.conftest import URL
from tests.web.test_lan import run

NOW = "2026-03-08T12:00:00Z"


def day(date: str, step: int, online: dict[int, float], unknown: dict[int, float] | None = None) -> dict[str, Any]:
    """Return a day of the answer: seconds by number of the part."""
    parts = 86_400 // step
    return {
        "date": date,
        "online_parts": [online.get(at, 0) for at in range(parts)],
        "unknown_parts": [(unknown or {}).get(at, 0) for at in range(parts)],
    }


def charts(page: Page, days: list[dict[str, Any]], first: str, body: str) -> Any:  # noqa: ANN401
    """Return what `body` returns of the pictures `week` and `hours`."""
    return run(
        page,
        f"""
        const presence = await import('/web/presence.js');
        const now = Date.parse({json.dumps(NOW)});
        const parts = presence.partsOf({json.dumps(days)}, Date.parse({json.dumps(first)}), now);
        const [week, hours] = [presence.week(parts, now), presence.hours(parts, now)];
        const heights = (kind) =>
          [...week.querySelectorAll(`.${{kind}}`)].map((bar) => Number(bar.getAttribute('height')));
        const cells = [...hours.querySelectorAll('rect')].map((cell) => [cell.getAttribute('class'), cell.textContent]);
        const query = presence.query;
        {body}
        """,
    )


@pytest.fixture
def zone(page: Page) -> Iterator[Any]:
    """Return a function that moves the viewer to a time zone."""

    def move(name: str) -> None:
        page.call("Emulation.setTimezoneOverride", {"timezoneId": name})
        page.go(URL)  # formats keep the time zone of their page

    yield move
    page.call("Emulation.setTimezoneOverride", {"timezoneId": ""})


def test_the_week_is_drawn_and_read_out(page: Page, zone: Any) -> None:  # noqa: ANN401
    """Seven days, the oldest first; shares of a day as heights; a sentence for who cannot see it."""
    zone("UTC")
    whole = dict.fromkeys(range(12), 3600.0)
    days = [day("2026-03-07", 3600, whole, {12: 3600, 13: 3600}), day("2026-03-08", 3600, whole | {11: 99_999})]
    body = "return [heights('was-online'), heights('was-unknown'), heights('passed'), week.ariaLabel];"
    online, unknown, passed, text = charts(page, days, "2026-03-07T00:00:00Z", body)
    assert online == [0, 0, 0, 0, 0, 32, 32]
    assert unknown == [0, 0, 0, 0, 0, 5.33, 0] or unknown[5] == pytest.approx(64 * 2 / 24, abs=0.01)
    assert passed == [0, 0, 0, 0, 0, 64, 32], "not before it was first seen, nor beyond now"
    assert "Fri: nothing known; Sat: online 12 h, unknown 2 h; Sun: online 12 h" in text


@pytest.mark.parametrize(
    ("name", "step", "local"),
    [("Europe/Berlin", 3600, "Sun, Mar 8, 0:00–1:00"), ("America/New_York", 3600, "Sat, Mar 7, 18:00–19:00"),
     ("Asia/Kolkata", 1800, "Sun, Mar 8, 4:00–5:00"), ("Asia/Kathmandu", 900, "Sun, Mar 8, 4:00–5:00")],
)  # fmt: skip
def test_days_and_hours_are_those_of_the_viewer(page: Page, zone: Any, name: str, step: int, local: str) -> None:  # noqa: ANN401
    """23:00 to 23:15 UTC on Saturday, also where hours begin between those of UTC."""
    zone(name)
    days = [
        day("2026-03-07", step, {23 * 3600 // step: 900.0}),
        day("2026-03-08", step, {}),
    ]
    body = "return [query(now), cells.filter(([, text]) => /online 15 min/.test(text)), week.ariaLabel];"
    query, cells, text = charts(page, days, "2026-03-01T00:00:00Z", body)
    assert query == f"/presence?days=29&step={step}"
    ((kind, title),) = cells
    assert kind == "was-online l1"
    assert title.startswith(local)
    assert f"{local[:3]}: online 15 min" in text


def test_a_day_with_a_change_of_the_clock_is_whole(page: Page, zone: Any) -> None:  # noqa: ANN401
    """In New York, 8 March 2026 has 23 hours: one that is online all day fills it."""
    zone("America/New_York")
    days = [
        day("2026-03-07", 3600, dict.fromkeys(range(24), 3600.0)),
        day("2026-03-08", 3600, dict.fromkeys(range(12), 3600.0)),
    ]
    body = (
        "return [heights('was-online').slice(-2), cells.map(([, text]) => text).filter((text) => /Mar 8/.test(text))];"
    )
    (_, today), cells = charts(page, days, "2026-03-01T00:00:00Z", body)
    assert today == pytest.approx(64 * 7 / 23, abs=0.01), "12:00 UTC is 8:00 there, and 2:00 did not exist"
    assert len(cells) == 7
    assert not any(text.startswith("Sun, Mar 8, 2:00") for text in cells)


def test_the_hours_are_read_out(page: Page, zone: Any) -> None:  # noqa: ANN401
    """Share of the time, and the hours at which it is there most and least often; unknown has a shape of its own."""
    zone("UTC")
    days = [day(f"2026-03-{date:02}", 3600, {18: 3600, 19: 1800}, {3: 3600}) for date in range(1, 9)]
    body = """
    const widths = [...hours.querySelectorAll('rect')].map((cell) => Number(cell.getAttribute('width')));
    return [hours.ariaLabel, cells.find(([kind]) => kind === 'was-unknown')[1], widths.length, Math.min(...widths)];
    """
    text, unknown, cells, narrow = charts(page, days, "2026-03-01T00:00:00Z", body)
    assert "Online 6 % of the time. Most often from 18:00 to 19:00 (100 %), least often from" in text
    assert "3:00–4:00: online 0 ms, unknown 60 min" in unknown or "unknown 1 h" in unknown
    assert cells == 7 * 24 + 12
    assert narrow < 11
