"""Budgets: each spender has its own bucket, very many share one, and refusals are reported."""

import re
from random import Random

from hypothesis import given
from hypothesis import strategies as st

from netscand.core.inventory import Inventory
from netscand.core.limits import could_change, grant_share, is_resident, may_change
from netscand.core.model import Device, Mac
from netscand.core.presence import Presence, Rules
from netscand.core.ratelimit import (
    ABSENCES,
    ADDRESSES,
    DAY,
    FIRST_CHANGES,
    LIMITING_FOR,
    MOST_SPENDERS,
    OWN_SHARES,
    RENAMES,
    RESIDENTS,
    STRANGERS,
    Budget,
    Budgets,
    table,
)

ROW = Budget("claims", "interface", "claims", 2, 0.5)


def test_each_spender_has_its_own() -> None:
    budgets = Budgets()
    assert [budgets.take(ROW, "a", 0.0) for _ in range(3)] == [True, True, False]
    assert budgets.take(ROW, "b", 0.0)


def test_what_is_refused_is_reported_for_a_minute() -> None:
    budgets = Budgets()
    for _ in range(5):
        budgets.take(ROW, "a", 10.0)
    assert budgets.refused == {"claims": 3}
    assert budgets.limiting(10.0 + LIMITING_FOR - 1) == ("claims",)
    assert budgets.limiting(10.0 + LIMITING_FOR) == ()


def test_many_names_are_no_way_around_it() -> None:
    """A million spenders within a second take what the table holds, and then what one may."""
    budgets = Budgets()
    granted = sum(budgets.take(ROW, number // 2, 0.0) for number in range(50_000))
    assert granted <= 2 * MOST_SPENDERS + ROW.at_once


def test_a_full_bucket_makes_room_for_a_new_spender() -> None:
    """A spender whose bucket is full again is forgotten."""
    budgets = Budgets()
    for number in range(MOST_SPENDERS):
        budgets.take(ROW, number, 0.0)
    later = 60.0
    assert all(budgets.take(ROW, f"later {number}", later) for number in range(1_000))


@given(st.lists(st.tuples(st.integers(0, 3), st.floats(0, 60)), max_size=80))
def test_no_spender_takes_more_than_its_row_allows(probed: list[tuple[int, float]]) -> None:
    """Law 6: at_once, and per_second after that, whatever other spenders do."""
    budgets = Budgets()
    granted: dict[int, int] = {}
    for spender, at in sorted(probed, key=lambda each: each[1]):
        granted[spender] = granted.get(spender, 0) + budgets.take(ROW, spender, at)
    assert all(count <= ROW.at_once + 60 * ROW.per_second for count in granted.values())


def test_devices_share_no_bucket() -> None:
    """The inventory bounds how many there are; and what they spent long ago is not remembered."""
    budgets = Budgets()
    row = ROW._replace(spender="device")
    assert all(budgets.take(row, number, 0.0) for number in range(2 * MOST_SPENDERS))
    for number in range(1_000):
        budgets.take(row, f"later {number}", 60.0)
    assert len(budgets._full_at["claims"]) <= 1_000


def test_a_large_network_has_more_at_once() -> None:
    budgets = Budgets()
    row = ROW._replace(for_each_address=(1.0, 0.1))
    budgets.addresses = {2: 10}
    assert [budgets.take(row, spender, 0.0) for spender in (2, 3) for _ in range(11)].count(True) == 10 + 2
    assert [budgets.take(row, 2, 3.0) for _ in range(4)] == [True, True, True, False]


def test_what_costs_more_takes_more() -> None:
    budgets = Budgets()
    row = ROW._replace(at_once=10)
    assert [budgets.take(row, "a", 0.0, units) for units in (8, 3, 2)] == [True, False, True]
    assert budgets.take(row, "a", 6.0, 3)
    assert budgets.take(row._replace(at_once=20), "a", 6.0, 10), "a row may be given other figures"


def test_what_would_be_granted_is_known_before() -> None:
    budgets = Budgets()
    for _ in range(5):
        expected = budgets.has(ROW, "a", 0.0)
        assert budgets.take(ROW, "a", 0.0) is expected
    assert not budgets.has(ROW, "a", 1.9)
    assert budgets.has(ROW, "a", 2.0)
    assert budgets.refused == {"claims": 3}, "to ask is no refusal"


def test_the_room_that_is_left_is_known() -> None:
    budgets = Budgets()
    assert budgets.room(ROW, "a", 0.0) == 2
    budgets.take(ROW, "a", 0.0, 1.5)
    assert (budgets.room(ROW, "a", 0.0), budgets.room(ROW, "a", 1.0), budgets.room(ROW, "a", 9.0)) == (0, 1, 2)
    assert budgets.refused == {}


def test_an_earlier_time_grants_nothing() -> None:
    budgets = Budgets()
    row = ROW._replace(at_once=1, per_second=1)
    probed = (10, 5, 10.5, 6, 10.9)
    assert [budgets.take(row, "a", at) for at in probed] == [True, False, False, False, False]
    assert budgets.take(row, "a", 11)


def test_every_row_is_named_once_and_grants_something() -> None:
    rows = table()
    assert len({row.name for row in rows}) == len(rows) > 15
    assert all(re.fullmatch("[a-z_]+", row.name) for row in rows)
    assert all(row.at_once >= 1 and row.per_second > 0 for row in rows if row.per_second)
    assert {row.spender for row in rows} <= {
        "device",
        "address",
        "interface",
        "network",
        "account",
        "source",
        "history",
        "daemon",
    }
    assert all(row.for_each_address == (0.0, 0.0) or row.spender == "interface" for row in rows)


def test_a_labelled_device_has_its_own_budget() -> None:
    """What strangers and residents spend of their interface's budgets does not affect it."""
    budgets = Budgets()
    made = [Device(Mac(bytes([0, number])), 0.0, 0.0, Presence(0.0, Rules()), interface=2) for number in range(4)]
    labelled, resident, stranger, late = made
    stranger.has_share = True
    labelled.label, resident.confirmed = "printer", True
    for shared in (STRANGERS, RESIDENTS):
        while budgets.take(shared, 2, DAY):
            pass
    row = ADDRESSES._replace(at_once=20)
    first = FIRST_CHANGES.at_once
    for device, changes in ((labelled, 20), (resident, first), (stranger, first), (late, 0)):
        could = [could_change(budgets, row, device, DAY) and may_change(budgets, row, device, DAY) for _ in range(30)]
        assert could.count(True) == changes
        assert not may_change(budgets, row, device, DAY)
    assert (is_resident(resident, DAY), is_resident(resident, DAY - 1), is_resident(stranger, DAY)) == (
        True,
        False,
        False,
    )
    assert set(budgets.limiting(DAY)) == {"strangers", "residents", "addresses"}


def test_20_000_phones_a_day_on_a_16_are_all_published() -> None:
    """20,000 within 12 hours on a /16, each with a name, four addresses and 8 absences; on a /24, 30 are."""
    for addresses, phones in ((65_534, 20_000), (254, 30)):
        budgets = Budgets()
        budgets.addresses = {2: addresses}
        for number in range(phones):
            now = number * DAY / 2 / phones
            device = Device(Mac(number.to_bytes(6)), now, now, Presence(now, Rules()), interface=2)
            for row in (RENAMES, *[ADDRESSES] * 4, *[ABSENCES] * 8):
                assert could_change(budgets, row, device, now)
                assert may_change(budgets, row, device, now)
        assert not budgets.refused
        assert len(budgets._full_at.get("first_changes", ())) == 0


def test_names_and_addresses_leave_room_for_absences() -> None:
    """A phone that came today, named itself and has five more addresses is reported each time it leaves, six times."""
    budgets = Budgets()
    device = Device(Mac(bytes([0, 1])), 0.0, 0.0, Presence(0.0, Rules()), interface=2, has_share=True)
    while budgets.take(STRANGERS, 2, 0.0):
        pass
    assert all(may_change(budgets, row, device, 0.0) for row in (RENAMES, *[ADDRESSES] * 5))
    assert not may_change(budgets, RENAMES, device, 0.0)
    left = [
        could_change(budgets, ABSENCES, device, 0.0) and may_change(budgets, ABSENCES, device, 0.0) for _ in "1234567"
    ]
    assert left == [True] * 6 + [False]


def test_an_address_pays_for_its_removal() -> None:
    """That is an event, too, and has no budget of its own."""
    budgets = Budgets()
    device = Device(Mac(bytes([0, 1])), 0.0, 0.0, Presence(0.0, Rules()), interface=2, has_share=True)
    for row, spender in ((STRANGERS, 2), (FIRST_CHANGES, device.mac)):
        before = budgets.room(row, spender, 0.0)
        assert may_change(budgets, ADDRESSES, device, 0.0)
        assert budgets.room(row, spender, 0.0) == before - 2
        while budgets.take(STRANGERS, 2, 0.0):
            pass
    while budgets.take(FIRST_CHANGES, device.mac, 0.0, 2):
        pass
    assert budgets.room(FIRST_CHANGES, device.mac, 0.0) == 1
    assert not could_change(budgets, ADDRESSES, device, 0.0)
    assert not may_change(budgets, ADDRESSES, device, 0.0)


def test_the_first_strangers_have_changes_of_their_own() -> None:
    """And a few more each hour; endless made-up MACs get none."""
    budgets = Budgets()
    devices = [
        Device(Mac(number.to_bytes(6)), now, now, Presence(now, Rules()), interface=2)
        for number in range(5_000)
        for now in (number / 10,)
    ]
    for device in devices:
        grant_share(budgets, device, device.first_seen)
    count = sum(device.has_share for device in devices)
    assert OWN_SHARES.at_once <= count <= OWN_SHARES.at_once + 500 * OWN_SHARES.per_second + 1
    assert all(device.has_share for device in devices[: int(OWN_SHARES.at_once)])
    assert not budgets.refused


def test_after_a_restart_the_oldest_strangers_have_shares() -> None:
    """Strangers known for longest get changes of their own first."""
    inventory = Inventory(Rules(), Random(1))
    devices = [
        Device(Mac(number.to_bytes(6)), float(number), 1_000.0, Presence(1_000.0, Rules())) for number in range(400)
    ]
    inventory.restore(reversed(devices), {}, 1_000.0)
    assert [device.has_share for device in devices] == [True] * 256 + [False] * 144
