"""What the fuzzers share: cases by a seed, replayed from a corpus, and kept where they fail.

A case is a piece of bytes. The corpus of a fuzzer is a folder of small files, a case each: a few that are written by
`python -m tests.attacks.fuzz` (the same ones each time), and those that failed once, as `found-…`, which go into git
with the repair.
"""

import hashlib
import importlib
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from random import Random

CORPUS = Path(__file__).parent / "corpus"
KINDS = ("frames", "http", "websocket")
"""Each is fuzz_KIND.py, with `seeds()` and `make(random, seeds)`."""

INTERESTING = (0, 1, 2, 3, 5, 7, 11, 12, 15, 16, 31, 63, 64, 127, 128, 191, 192, 254, 255)
"""Bytes at which something changes: lengths, pointers, signs, masks."""


def corpus(kind: str) -> list[Path]:
    """The files of a fuzzer, in their order."""
    return sorted((CORPUS / kind).glob("*.bin"))


def cases(
    kind: str, seconds: float, seed: int, make: Callable[[Random, Sequence[bytes]], bytes]
) -> Iterator[tuple[str, bytes]]:
    """Every case of the corpus, then new ones for so many seconds; each with its name."""
    seeds = []
    for path in corpus(kind):
        seeds.append(path.read_bytes())
        yield path.name, seeds[-1]
    ends = time.monotonic() + seconds
    number = 0
    while time.monotonic() < ends:
        number += 1
        yield f"case {number} of seed {seed}", make(Random(f"{seed} {number}"), seeds)


def keep(kind: str, name: str, case: bytes) -> str:
    """Keep a case that failed; return a message about it."""
    if name.endswith(".bin"):
        return f"{kind}: {name} of the corpus fails"
    path = CORPUS / kind / f"found-{hashlib.sha256(case).hexdigest()[:12]}.bin"
    path.write_bytes(case)
    return f"{kind}: {name} fails, and is kept as {path.name}"


def joined(parts: Sequence[bytes]) -> bytes:
    """Several pieces as one case: each behind its length, in two bytes."""
    return b"".join(len(part).to_bytes(2) + part for part in parts)


def parted(case: bytes) -> list[bytes]:
    """The pieces of a case; what is left at its end is one, too."""
    parts = []
    place = 0
    while place + 2 <= len(case):
        size = int.from_bytes(case[place : place + 2])
        parts.append(case[place + 2 : place + 2 + size])
        place += 2 + size
    return parts


def broken(random: Random, raw: bytes) -> bytes:
    """The same with some bytes changed, cut out, doubled or put in."""
    made = bytearray(raw)
    for _ in range(random.choice((1, 1, 1, 2, 3, 8))):
        place = random.randrange(len(made) + 1)
        match random.randrange(6):
            case 0 | 1 | 2 if place < len(made):
                made[place] = random.choice(
                    (*INTERESTING, random.randrange(256), made[place] ^ 1 << random.randrange(8))
                )
            case 3:
                del made[place : place + random.choice((1, 2, 4, 20, len(made)))]
            case 4:
                made[place:place] = random.randbytes(random.choice((1, 2, 4, 60)))
            case _:
                piece = made[place : place + random.choice((1, 4, 16, 64))]
                made[place:place] = piece * random.choice((1, 2, 40))
    return bytes(made[:60_000])


def main() -> None:
    """Write what is the same each time; leave what was found."""
    for kind in KINDS:
        folder = CORPUS / kind
        folder.mkdir(parents=True, exist_ok=True)
        for number, case in enumerate(importlib.import_module(f"tests.attacks.fuzz_{kind}").seeds()):
            (folder / f"seed-{number:02}.bin").write_bytes(case)


if __name__ == "__main__":
    main()
