import base64
import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

from experiments.leaderboard import leaderboard
from experiments.report import write_report
from experiments.results import (
    CurvePoint,
    Episode,
    LearningPoint,
    ResultsError,
    Row,
    write_manifest,
    write_table,
)
from experiments.statistics import Resampling

AGENTS = {"random": 2.0, "drift-aware": 9.0, "ppo": 9.1, "oracle-planning": 20.0}
VOID = {"meta", "img", "br", "hr", "link", "input"}


class Page(HTMLParser):
    """Refuses tags that are not closed in order, and collects what the page holds."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(text)
        self.close()
        assert not self.open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if "style" not in self.open:
            self.text += data

    def named(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    generator = np.random.default_rng(0)
    episodes = [
        Episode("Task-v0", agent, world, 0, user, float(mean * part), 20, 8, 4, 45.0, True)
        for agent, mean in AGENTS.items()
        for world in range(2)
        for user, part in enumerate(generator.gamma(9.0, 1 / 9.0, 30))
    ]
    points = [
        CurvePoint("Task-v0", agent, t, 0.1, 1.0, 45.0) for agent in AGENTS for t in range(20)
    ]
    write_table(tmp_path, Episode, episodes)
    write_table(tmp_path, CurvePoint, points)
    write_table(tmp_path, Row, leaderboard(episodes, how=Resampling(resamples=200)))
    write_manifest(
        tmp_path,
        config={"users": 30, "note": "</pre><script>alert('x')</script>"},
        command=["/somewhere/experiments/__main__.py", "benchmark", "--output", "a b; rm"],
        wall_seconds=90,
    )
    return tmp_path


def test_the_page_is_well_formed_and_says_what_was_run(folder: Path) -> None:
    page = Page(write_report(folder).read_text())
    for words in (
        *("60", "240", "1.5 min", "drift-aware", "an oracle that sees the true interests"),
        "python -m experiments benchmark --output 'a b; rm'",
        *("Task-v0: the best agent that sees only behaviour is ppo", "gain over the row above"),
    ):
        assert words in page.text
    assert page.named("html") == [{"lang": "en"}]
    assert len(page.named("h1")) == 1


def test_the_page_asks_nothing_of_any_server(folder: Path) -> None:
    text = write_report(folder).read_text()
    assert not re.search(r"https?:|//[a-z]|@import|url\(", text)
    page = Page(text)
    assert not page.named("script") + page.named("link") + page.named("a") + page.named("iframe")
    assert all(
        (image["src"] or "").startswith("data:image/svg+xml;base64,") for image in page.named("img")
    )
    (policy,) = [meta["content"] for meta in page.named("meta") if "http-equiv" in meta]
    assert policy is not None
    assert policy.startswith("default-src 'none'")


def test_embedded_figures_load_nothing_either(folder: Path) -> None:
    write_table(folder, LearningPoint, [LearningPoint("Task-v0", "ppo", 0, 10, 9.0)])
    page = Page(write_report(folder).read_text())
    assert len(page.named("img")) == 5
    for image in page.named("img"):
        svg = base64.b64decode((image["src"] or "").split(",")[1]).decode()
        assert not re.search(r"(href|src)=\"(?!#|data:)", svg)
        assert "<script" not in svg
        assert image["alt"]


def test_strings_are_escaped(folder: Path) -> None:
    text = write_report(folder).read_text()
    assert "<script" not in text
    assert "&lt;script&gt;alert(" in text


def test_the_table_has_semantics_and_the_page_a_viewport(folder: Path) -> None:
    page = Page(write_report(folder).read_text())
    scopes = [cell.get("scope") for cell in page.named("th")]
    assert scopes.count("row") == len(AGENTS)
    assert scopes.count("col") == 13
    assert len(page.named("td")) == 12 * len(AGENTS)
    assert len(page.named("caption")) == 1
    (region,) = [div for div in page.named("div") if div.get("role") == "region"]
    assert region["tabindex"] == "0"
    assert region["aria-label"] == "Leaderboard of Task-v0"
    assert any(meta.get("name") == "viewport" for meta in page.named("meta"))
    assert "prefers-color-scheme: dark" in (folder / "report.html").read_text()
    assert page.named("details")


def test_the_same_files_give_the_same_page(folder: Path) -> None:
    once = write_report(folder).read_bytes()
    assert write_report(folder).read_bytes() == once


@pytest.mark.parametrize("name", ["episodes.csv", "curves.csv", "leaderboard.csv", "manifest.json"])
def test_missing_and_torn_files_are_named(folder: Path, name: str) -> None:
    path = folder / name
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ResultsError, match=name):
        write_report(folder)
    path.unlink()
    with pytest.raises(ResultsError, match=rf"{name}: there is no such file"):
        write_report(folder)
    assert not (folder / "report.html").exists()


@pytest.mark.parametrize("name", ["episodes.csv", "curves.csv", "leaderboard.csv"])
def test_files_cut_between_lines_are_named(folder: Path, name: str) -> None:
    path = folder / name
    lines = path.read_text().splitlines(keepends=True)
    path.write_text("".join(lines[: 1 if name != "episodes.csv" else -1]))
    with pytest.raises(ResultsError, match=name):
        write_report(folder)


def test_a_torn_optional_file_is_named(folder: Path) -> None:
    (folder / "learning.csv").write_text("task,agent\n")
    with pytest.raises(ResultsError, match=r"learning.csv, line 1"):
        write_report(folder)
