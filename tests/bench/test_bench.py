"""What the bench itself must be trusted in: counting, and the page it writes."""

from collections.abc import Iterator
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from tests.bench.clients import Count, payloads
from tests.bench.report import Figure, Options, Result, Row, table, write


def _frame(code: int, payload: bytes) -> bytes:
    size = len(payload)
    length = (
        bytes([size]) if size < 126 else b"\x7e" + size.to_bytes(2) if size < 65_536 else b"\x7f" + size.to_bytes(8)
    )
    return bytes([code]) + length + payload


def _cut(stream: bytes, places: list[int]) -> Iterator[bytes]:
    ends = sorted(place % (len(stream) + 1) for place in places)
    return (stream[start:end] for start, end in zip([0, *ends], [*ends, len(stream)], strict=True))


@given(st.lists(st.sampled_from([0, 1, 125, 126, 70_000]), max_size=5), st.lists(st.integers(0, 300_000), max_size=8))
def test_what_is_said_is_read_however_it_is_cut(sizes: list[int], places: list[int]) -> None:
    """Fragments and pings between them, in pieces of any size."""
    said = [bytes([65 + number]) * size for number, size in enumerate(sizes)]
    stream = b"".join(_frame(0x01, text) + _frame(0x89, b"ping") for text in said)
    assert b"".join(payloads(_cut(stream, places))) == b"".join(said)


@given(st.integers(0, 9), st.lists(st.integers(0, 100), max_size=6))
def test_a_text_is_counted_once_wherever_the_stream_is_cut(times: int, places: list[int]) -> None:
    count = Count(b"needle")
    for piece in _cut(b"hay needle" * times, places):
        count.see(piece)
    assert count.found == times


def _run(_options: Options, _say: object) -> Result:
    raise NotImplementedError


def test_the_page_keeps_the_words_and_only_the_last_figures(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("# Words\n")
    row, other = Row("a", "this", _run), Row("b", "that", _run)
    for each, value in ((row, 1.0), (other, 2.0), (row, 3.0)):
        write(each, Result([Figure("took", value, "s", most=2)], {}, ("how",)), {"load": "0.1"}, page)
    text = page.read_text()
    assert text.startswith("# Words\n")
    assert text.count("### a") == text.count("### b") == 1
    assert "| took | 3 s | ≤ 2 | **does not hold** |" in text
    assert "| took | 1 s" not in text


def test_a_row_that_was_left_out_leaves_the_page_as_it_was(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("# Words\n")
    row, other = Row("a", "this", _run), Row("b", "that", _run)
    left_out = Result([], notes=("left out: --long runs it",))
    write(row, Result([Figure("took", 1.0, "s")]), {}, page)
    before = page.read_text()
    for each in (row, other):
        write(each, left_out, {}, page)
        assert "left out" in table(each, left_out)
    assert page.read_text() == before
