import base64
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest

from experiments.report.page import write_report
from experiments.statistics.intervals import Resampling
from experiments.statistics.leaderboard import world_rows
from experiments.store import (
    AdaptationPoint,
    Episode,
    LearningPoint,
    Metric,
    ResultsError,
    WorldRow,
    read_table,
    write_table,
)

AGENTS = ("random", "drift-aware", "ppo", "oracle-planning")
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
        if not {"style", "script"} & {*self.open}:
            self.text += data

    def named(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]


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


def add_tables(folder: Path) -> None:
    """Writes the tables that older runs do not have."""
    episodes = read_table(folder, Episode)
    write_table(folder, WorldRow, world_rows(episodes, how=Resampling(resamples=200)))
    write_table(folder, LearningPoint, [LearningPoint("Task-v0", "ppo", 0, 0, 10, 9.0)])
    lags = [AdaptationPoint("Task-v0", agent, lag, 0.1, 40) for agent in AGENTS for lag in range(9)]
    write_table(folder, AdaptationPoint, lags)
    values = (("diversity", 0.9, 0.8, 0.95), ("gini", 0.25, None, None))
    metrics = [Metric("Task-v0", agent, *value) for agent in AGENTS for value in values]
    nothing = [Metric("Task-v0", agent, "novelty", None, None, None) for agent in AGENTS]
    own = [Metric("Task-v0", "ppo", "my metric", 1.23456, None, None)]
    write_table(folder, Metric, [*metrics, *nothing, *own])


def test_embedded_figures_load_nothing_either(folder: Path) -> None:
    add_tables(folder)
    page = Page(write_report(folder).read_text())
    assert len(page.named("img")) == 8
    for image in page.named("img"):
        svg = base64.b64decode((image["src"] or "").split(",")[1]).decode()
        assert not re.search(r"(href|src)=\"(?!#|data:)", svg)
        assert "<script" not in svg
        assert image["alt"]


def test_embedded_figures_are_those_of_the_folder_in_fewer_bytes(folder: Path) -> None:
    page = Page(write_report(folder).read_text())
    whole = sum(path.stat().st_size for path in (folder / "figures").glob("*.svg"))
    svgs = [base64.b64decode((image["src"] or "").split(",")[1]) for image in page.named("img")]
    assert sum(map(len, svgs)) < 0.75 * whole
    assert all(Page(svg.decode().split("?>")[1]).tags for svg in svgs)
    assert all(b"scale(0.065 -0.065)" in svg for svg in svgs)  # letters keep their size


def test_other_metrics_are_shown_with_what_they_say(folder: Path) -> None:
    add_tables(folder)
    page = Page(write_report(folder).read_text())
    for words in ("0.900 [0.800, 0.950]", "0.25", "my metric", "1.23", "1 - mean cosine"):
        assert words in page.text
    assert "novelty" not in page.text  # defined for nobody
    assert "world 0" in page.text
    assert "world 1" in page.text
    labels = {div.get("aria-label") for div in page.named("div")}
    assert {"Metrics of Task-v0", "Worlds of Task-v0"} <= labels


def test_one_world_makes_no_table_of_worlds(folder: Path) -> None:
    add_tables(folder)
    rows = [row for row in read_table(folder, WorldRow) if row.world == 0]
    write_table(folder, WorldRow, rows)
    page = Page(write_report(folder).read_text())
    assert len(page.named("img")) == 7
    assert "Worlds of Task-v0" not in {div.get("aria-label") for div in page.named("div")}


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


@pytest.mark.parametrize("name", ["learning", "adaptation", "worlds", "metrics"])
def test_a_torn_optional_file_is_named(folder: Path, name: str) -> None:
    (folder / f"{name}.csv").write_text("task,agent\n")
    with pytest.raises(ResultsError, match=rf"{name}.csv, line 1"):
        write_report(folder)


def test_an_unknown_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(ResultsError, match=r"nowhere/leaderboard.csv: there is no such file; run"):
        write_report(tmp_path / "nowhere")
