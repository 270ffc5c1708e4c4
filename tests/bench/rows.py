"""The rows, in the order in which they run. A new one: a file of its own, and its line here."""

from tests.bench import page, push_latency, scan_24

ROWS = (scan_24.ROW, push_latency.ROW, page.ROW)
