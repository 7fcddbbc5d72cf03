"""Hooks of MkDocs: pages that are made, links that leave `docs/`, formulas, and the navigation."""

from __future__ import annotations

import re
from typing import Any

import site_pages
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.utils import get_relative_url
from site_links import drawn, relinked
from site_pages import ROOT, Page

_SHIM = "https://unpkg.com/iframe-worker/shim"
"""What the plugin `offline` would load from elsewhere."""
_OUTSIDE = ("README.md", "CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md")
_GROUPS = {
    "Tasks": site_pages.task_pages(),
    "Agents": site_pages.agent_pages(),
    "Notebooks": site_pages.notebook_pages(),
    "Reference": site_pages.reference_pages(),
}
_PROJECT = {
    f"project/{name.lower()}": Page(name[:-3].capitalize(), name, (ROOT / name).read_text("utf-8"))
    for name in _OUTSIDE
}
_MADE = {path: page for pages in (*_GROUPS.values(), _PROJECT) for path, page in pages.items()}


def _moved() -> dict[str, str]:
    """Where the site has sections and files that lie elsewhere in the repository."""
    moved = {page.source: path for path, page in _PROJECT.items()}
    for path, page in {**_GROUPS["Agents"], **_GROUPS["Tasks"]}.items():
        anchor = re.sub(r"[^\w\- ]", "", page.text.partition("\n")[0][2:].lower()).replace(" ", "-")
        moved[f"{page.source}#{anchor}"] = path
    return moved | {page.source: path for path, page in _GROUPS["Notebooks"].items()}


_MOVED = _moved()


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Adds what is made, and the pages of results, to the navigation."""
    results = sorted((ROOT / "docs/results").glob("*.md"))
    groups: dict[str, list[Any]] = {}
    for name, pages in _GROUPS.items():
        groups[name] = [{page.title: path} for path, page in pages.items()]
    groups["Results"] = [f"results/{path.name}" for path in results]
    groups["Project"] = [{page.title: path} for path, page in _PROJECT.items()]
    named = re.findall(r"[\w/]+\.md", str(config.nav))
    groups["How to"] = sorted({path.name for path in (ROOT / "docs").glob("*.md")} - {*named})
    for entry in config.nav or []:
        for name, pages in entry.items() if isinstance(entry, dict) else ():
            if name in groups:
                pages.extend(groups[name])
    return config


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Adds the pages that are made."""
    for path, page in _MADE.items():
        files.append(File.generated(config, path, content=page.text))
    return files


def on_page_markdown(markdown: str, page: Any, config: MkDocsConfig, files: Files) -> str:
    """Returns the text of a page with links and formulas as the site has them."""
    target = page.file.src_uri
    source = _MADE[target].source if target in _MADE else f"docs/{target}"
    return drawn(relinked(markdown, source, target, _MOVED))


def on_post_page(output: str, page: Any, config: MkDocsConfig) -> str:
    """Returns a page that takes the script for search on disks from the site itself."""
    return output.replace(_SHIM, get_relative_url("worker.js", page.url))


def on_post_template(output: str, template_name: str, config: MkDocsConfig) -> str:
    """The same of the page for addresses that do not exist."""
    return output.replace(_SHIM, "worker.js")
