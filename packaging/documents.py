"""Copy the pages for users, as an installation has them: packaging/documents.py FOLDER PLACE CODE.

FOLDER gets README.md, CHANGELOG.md, SECURITY.md, docs and examples, laid out as here, so that links stay as they are.
PLACE is the path of FOLDER once it is installed: commands name the scripts of the recipes there. CODE is the folder
where the packages `netscand` and `netscanctl` are installed: links to code lead there. Of links to anything else, such
as tests, only the text stays.
"""

import re
import shutil
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PAGES = ("README.md", "CHANGELOG.md", "SECURITY.md")
FOLDERS = ("docs", "examples")
CODE = ("netscand", "netscanctl")

LINK = re.compile(r"(?<!!)\[([^\]]*)\]\(([^)\s#]+)(#[^)\s]*)?\)")
"""Text, file and anchor."""

SCRIPT = re.compile(r"(?<![\w/])docs/recipes/(?=\w+\.py)")


def sources() -> list[Path]:
    """Return the files to copy, relative to the checkout."""
    files = [path for folder in FOLDERS for path in (ROOT / folder).rglob("*")]
    found = [path for path in files if path.is_file() and "__pycache__" not in path.parts]
    return [Path(name) for name in PAGES] + [path.relative_to(ROOT) for path in sorted(found)]


def main() -> None:
    """Copy all files; rewrite the links of the pages."""
    folder, place, code = map(Path, sys.argv[1:])
    copied = sources()
    known = {*copied, *(parent for path in copied for parent in path.parents)}
    for path in copied:
        target = folder / path
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / path, target)
        if path.suffix == ".md":
            text = rewritten(path, target.read_text(), known, code)
            target.write_text(SCRIPT.sub(f"{place}/docs/recipes/", text))


def rewritten(page: Path, text: str, known: set[Path], code: Path) -> str:
    """Return the text of a page with links that an installation can follow."""

    def replace(link: re.Match[str]) -> str:
        words, name, _ = link.groups()
        target = Path((ROOT / page.parent / name).resolve())
        if "://" in name or not target.is_relative_to(ROOT) or target.relative_to(ROOT) in known:
            return link[0]
        inside = target.relative_to(ROOT)
        return f"[{words}]({code / inside})" if inside.parts[0] in CODE else words

    return LINK.sub(replace, text)


if __name__ == "__main__":
    main()
