"""Metadata hook of the build: a page for package indexes, where no link points into the repository.

`REPOSITORY_URL=https://... python -m build` makes the README's links and pictures absolute and
names the project's addresses. Without it the words of a link stay, and the pictures, which an index
cannot show, go.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

from hatchling.metadata.plugin.interface import MetadataHookInterface

_LINK = re.compile(r"(!?)\[([^\]]*)\]\((?!https?://|#)([^)\s]+)\)")


class AddressHook(MetadataHookInterface):
    """Fills in `readme` and `urls`."""

    PLUGIN_NAME = "custom"

    def update(self, metadata: dict[str, Any]) -> None:
        """Sets what depends on where the repository lies."""
        repository = os.environ.get("REPOSITORY_URL", "").rstrip("/")
        readme = (Path(self.root) / "README.md").read_text("utf-8")
        metadata["readme"] = {
            "content-type": "text/markdown",
            "text": with_absolute_links(readme, repository),
        }
        metadata["urls"] = urls_of(repository)


def with_absolute_links(page: str, repository: str) -> str:
    """Returns a page whose links into the repository are absolute, or words without an address.

    Args:
        page: in Markdown, from the root of the repository.
        repository: its address on a code host, or nothing.
    """

    def link(match: re.Match[str]) -> str:
        picture, words, path = match.groups()
        if not repository:
            return "" if picture else words
        return f"{picture}[{words}]({repository}/{'raw' if picture else 'blob'}/HEAD/{path})"

    return _LINK.sub(link, page)


def urls_of(repository: str) -> dict[str, str]:
    """Returns the addresses of the project by name; none where the repository has none."""
    if not repository:
        return {}
    paths = {
        "Repository": "",
        "Documentation": "/tree/HEAD/docs",
        "Changelog": "/blob/HEAD/CHANGELOG.md",
        "Issues": "/issues",
    }
    return {name: repository + path for name, path in paths.items()}
