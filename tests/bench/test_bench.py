"""What the bench itself must be trusted in: counting, and the page it writes."""

import itertools
from collections.abc import Iterator
from pathlib import Path
from xml.etree import ElementTree

from hypothesis import given
from hypothesis import strategies as st

from tests.bench.clients import Count, payloads
from tests.bench.plot import HEIGHT, WIDTH, Plot, svg
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


numbers = st.floats(1e-3, 1e6)


@given(st.dictionaries(st.text("ab<&", min_size=1), st.lists(st.tuples(numbers, numbers), min_size=1), min_size=1))
def test_a_plot_shows_each_point_inside_and_larger_ones_higher(series: dict[str, list[tuple[float, float]]]) -> None:
    series = dict(list(series.items())[:4])
    root = ElementTree.fromstring(svg(Plot("p", "a < b", "x", "y", series)))
    dots = [(float(dot.attrib["cx"]), float(dot.attrib["cy"])) for dot in root.iter() if dot.tag.endswith("circle")]
    values = [point for points in series.values() for point in points]
    assert len(dots) == len(values)
    assert all(0 < x < WIDTH and 0 < y < HEIGHT for x, y in dots)
    for column, direction in ((0, 1), (1, -1)):
        places = [
            direction * dot[column]
            for _, dot in sorted(zip(values, dots, strict=True), key=lambda each: each[0][column])
        ]
        assert all(after >= before - 0.1 for before, after in itertools.pairwise(places))
    assert {*series, "a < b"} <= {text.text for text in root.iter() if text.tag.endswith("text")}


def test_the_page_shows_the_plots_of_a_row(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("# Words\n")
    plot = Plot("size", "Size by age", "years", "m", {"tree": [(1, 1), (10, 8)]})
    write(Row("a", "this", _run), Result([Figure("took", 1.0, "s")], {}, (), (plot,)), {}, page)
    assert "![Size by age](a-size.svg)" in page.read_text()
    assert (tmp_path / "a-size.svg").read_text() == svg(plot)
