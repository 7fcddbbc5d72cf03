"""Links of a page, seen from where the site has it; formulas and pictures as browsers show them.

On a code host the same pages link to code and results beside `docs/`. The site has them where the
repository's address is known, and else the words alone.
"""

from __future__ import annotations

import os
import posixpath
import re
from collections.abc import Mapping

from latex2mathml import converter

_LINK = re.compile(r"(!?)\[((?:[^\[\]]|\[[^\]]*\])*)\]\((?!https?://)([^)\s#]*)(#[^)\s]*)?\)")
_MATH = re.compile(r"^```math\n(.*?)^```$", re.DOTALL | re.MULTILINE)
_MERMAID = re.compile(r"^```mermaid\n.*?^```$", re.DOTALL | re.MULTILINE)
_CODE = re.compile(r"(^```.*?^```$)", re.DOTALL | re.MULTILINE)


def relinked(page: str, source: str, target: str, moved: Mapping[str, str]) -> str:
    """Returns a page with links that hold in the site.

    Args:
        page: in Markdown, as it stands in the repository.
        source: its path there, as `docs/MODEL.md`.
        target: its path in the site, as `MODEL.md`.
        moved: where the site has what lies elsewhere in the repository, by path.
    """

    def link(match: re.Match[str]) -> str:
        picture, words, path, anchor = match.groups(default="")
        if not path and source == f"docs/{target}":
            return match.group()
        whole = (
            posixpath.normpath(posixpath.join(posixpath.dirname(source), path)) if path else source
        )
        if place := _place(whole, anchor, moved):
            return f"{picture}[{words}]({_relative(place, target)})"
        repository = os.environ.get("REPOSITORY_URL", "").rstrip("/")
        return (
            f"{picture}[{words}]({repository}/blob/HEAD/{whole}{anchor})" if repository else words
        )

    parts = _CODE.split(page)
    return "".join(part if _CODE.fullmatch(part) else _LINK.sub(link, part) for part in parts)


def _place(path: str, anchor: str, moved: Mapping[str, str]) -> str | None:
    """Where the site has a file; a section that became a page of its own is that page."""
    if path + anchor in moved:
        return moved[path + anchor]
    if path in moved:
        return moved[path] + anchor
    held = path.startswith("docs/") and posixpath.splitext(path)[1]
    return path.removeprefix("docs/") + anchor if held else None


def _relative(place: str, target: str) -> str:
    path, mark, anchor = place.partition("#")
    return posixpath.relpath(path, posixpath.dirname(target) or ".") + mark + anchor


def drawn(page: str) -> str:
    """Returns a page whose formulas and pictures browsers draw without a script.

    Formulas become MathML. The one diagram in Mermaid says what `docs/loop.svg` draws.
    """

    def formula(match: re.Match[str]) -> str:
        return (
            f'<div class="formula">{converter.convert(match[1].strip(), display="block")}</div>\n'
        )

    return _MATH.sub(formula, _MERMAID.sub("![The path of the data](loop.svg)", page))
