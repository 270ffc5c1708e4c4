"""The rows, in the order in which they run. A new one: a file of its own, and its line here."""

from tests.bench import (
    devices,
    fanout,
    idle,
    memory,
    old_way,
    page,
    presence,
    push_latency,
    scan_16,
    scan_24,
    snapshot,
)

ROWS = (
    scan_24.ROW,
    scan_16.ROW,
    push_latency.ROW,
    fanout.ROW,
    snapshot.ROW,
    memory.ROW,
    devices.ROW,
    old_way.ROW,
    page.ROW,
    presence.ROW,
    idle.ROW,
)
