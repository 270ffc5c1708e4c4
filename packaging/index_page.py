"""The description of the project in a package index: README.md, with links that work there.

hatchling calls it (`[tool.hatch.metadata.hooks.custom]` in pyproject.toml). With a *Source* in `[project.urls]`, links
and pictures lead to the files there; without one, their texts stay.
"""

import re
from pathlib import Path
from typing import Any

from hatchling.metadata.plugin.interface import MetadataHookInterface

LINK = re.compile(r"(!?)\[([^\]]*)\]\(((?!https?:|#)[^)\s]+)\)")
"""`!` of a picture, text, relative link."""


def with_links(text: str, source: str | None) -> str:
    """Return a page with links to the repository `source`; None: with their texts only."""

    def replace(link: re.Match[str]) -> str:
        picture, words, target = link.groups()
        if source is None:
            return f"({words})" if picture else words
        return f"{picture}[{words}]({source.rstrip('/')}/{'raw' if picture else 'blob'}/HEAD/{target})"

    return LINK.sub(replace, text)


class IndexPage(MetadataHookInterface):
    """The metadata `readme`."""

    def update(self, metadata: dict[str, Any]) -> None:
        """Set it."""
        text = with_links((Path(self.root) / "README.md").read_text(), metadata.get("urls", {}).get("Source"))
        metadata["readme"] = {"content-type": "text/markdown", "text": text}
