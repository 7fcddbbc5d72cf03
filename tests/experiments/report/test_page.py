import base64
import re
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path

import pytest

from agents import AGENTS as AGENT_SPECS
from experiments.report import terms
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
Fill = Callable[[Path], Path]
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


def add_tables(folder: Path) -> None:
    """Writes the tables that older runs do not have."""
    episodes = read_table(folder, Episode)
    write_table(folder, WorldRow, world_rows(episodes, resampling=Resampling(resamples=200)))
    write_table(folder, LearningPoint, [LearningPoint("Task-v0", "ppo", 0, 0, 10, 9.0)])
    lags = [AdaptationPoint("Task-v0", agent, lag, 0.1, 40) for agent in AGENTS for lag in range(9)]
    write_table(folder, AdaptationPoint, lags)
    values = (("diversity", 0.9, 0.8, 0.95), ("gini", 0.25, None, None))
    metrics = [Metric("Task-v0", agent, *value) for agent in AGENTS for value in values]
    nothing = [Metric("Task-v0", agent, "novelty", None, None, None) for agent in AGENTS]
    own = [Metric("Task-v0", "ppo", "my metric", 1.23456, None, None)]
    write_table(folder, Metric, [*metrics, *nothing, *own])


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory, fill_folder: Fill) -> Path:
    """The page of a folder that lacks what older runs lack."""
    return write_report(fill_folder(tmp_path_factory.mktemp("plain")))


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory, fill_folder: Fill) -> Page:
    """The page of a folder with all tables."""
    folder = fill_folder(tmp_path_factory.mktemp("whole"))
    add_tables(folder)
    return Page(write_report(folder).read_text())


def test_the_page_is_well_formed_and_says_what_was_run(plain: Path) -> None:
    page = Page(plain.read_text())
    for words in (
        "60",
        "240",
        "1.5 min",
        "an oracle that sees the true interests",
        "python -m experiments benchmark --output 'a b; rm'",
        "Task-v0: the best agent that sees only behaviour is ppo",
        "over the row above",
    ):
        assert words in page.text
    assert page.named("html") == [{"lang": "en"}]
    assert len(page.named("h1")) == 1
    assert any(meta.get("name") == "viewport" for meta in page.named("meta"))
    assert page.named("details")
    assert "prefers-color-scheme: dark" in plain.read_text()


def test_the_page_asks_nothing_of_any_server_and_strings_are_escaped(plain: Path) -> None:
    text = plain.read_text()
    assert not re.search(r"https?:|//[a-z]|@import|url\(", text)
    assert text.count("<script") == 2  # the choice of a baseline, and its numbers
    assert "&lt;script&gt;alert(" in text
    page = Page(text)
    assert not page.named("link") + page.named("a") + page.named("iframe")
    sources = [image["src"] or "" for image in page.named("img")]
    assert all(source.startswith("data:image/svg+xml;base64,") for source in sources)
    (policy,) = [meta["content"] for meta in page.named("meta") if "http-equiv" in meta]
    assert policy is not None
    assert policy.startswith("default-src 'none'")


def test_embedded_figures_load_nothing_either(whole: Page) -> None:
    assert len(whole.named("img")) == 8
    for image in whole.named("img"):
        svg = base64.b64decode((image["src"] or "").split(",")[1]).decode()
        assert not re.search(r"(href|src)=\"(?!#|data:)", svg)
        assert "<script" not in svg
        assert image["alt"]


def test_embedded_figures_are_those_of_the_folder_in_fewer_bytes(plain: Path) -> None:
    images = Page(plain.read_text()).named("img")
    size = sum(path.stat().st_size for path in (plain.parent / "figures").glob("*.svg"))
    svgs = [base64.b64decode((image["src"] or "").split(",")[1]) for image in images]
    assert sum(map(len, svgs)) < 0.75 * size
    assert all(Page(svg.decode().split("?>")[1]).tags for svg in svgs)
    assert all(b"scale(0.065 -0.065)" in svg for svg in svgs)  # letters keep their size


def test_other_metrics_are_shown_with_what_they_say(whole: Page) -> None:
    for words in ("0.900 [0.800, 0.950]", "0.25", "my metric", "1.23", "1 - mean cosine"):
        assert words in whole.text
    assert "novelty" not in whole.text  # defined for nobody
    assert "world 0" in whole.text
    assert "world 1" in whole.text
    labels = {div.get("aria-label") for div in whole.named("div")}
    assert {"Metrics of Task-v0", "Worlds of Task-v0"} <= labels


def test_one_world_makes_no_table_of_worlds(folder: Path) -> None:
    add_tables(folder)
    rows = [row for row in read_table(folder, WorldRow) if row.world == 0]
    write_table(folder, WorldRow, rows)
    page = Page(write_report(folder).read_text())
    assert len(page.named("img")) == 7
    assert "Worlds of Task-v0" not in {div.get("aria-label") for div in page.named("div")}


def test_the_table_has_semantics(plain: Path) -> None:
    page = Page(plain.read_text())
    scopes = [cell.get("scope") for cell in page.named("th")]
    assert scopes.count("row") == len(AGENTS)
    assert scopes.count("col") == 14
    assert len(page.named("td")) == 13 * len(AGENTS)
    assert len(page.named("caption")) == 1
    (region,) = [div for div in page.named("div") if div.get("role") == "region"]
    assert region["tabindex"] == "0"
    assert region["aria-label"] == "Leaderboard of Task-v0"


def test_the_same_files_give_the_same_page(plain: Path) -> None:
    before = plain.read_bytes()
    assert write_report(plain.parent).read_bytes() == before


@pytest.mark.parametrize("name", ["episodes.csv", "curves.csv", "leaderboard.csv", "manifest.json"])
def test_missing_torn_and_cut_files_are_named(folder: Path, name: str) -> None:
    path = folder / name
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    with pytest.raises(ResultsError, match=name):
        write_report(folder)
    if name != "manifest.json":  # cut between lines
        lines = content.splitlines(keepends=True)
        path.write_bytes(b"".join(lines[: 1 if name != "episodes.csv" else -1]))
        with pytest.raises(ResultsError, match=name):
            write_report(folder)
    path.unlink()
    with pytest.raises(ResultsError, match=rf"{name}: there is no such file"):
        write_report(folder)
    assert not (folder / "report.html").exists()


@pytest.mark.parametrize("name", ["learning", "adaptation", "worlds", "metrics"])
def test_a_torn_optional_file_is_named(folder: Path, name: str) -> None:
    (folder / f"{name}.csv").write_text("task,agent\n")
    with pytest.raises(ResultsError, match=rf"{name}.csv, line 1"):
        write_report(folder)


def test_an_unknown_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(ResultsError, match=r"nowhere/leaderboard.csv: there is no such file; run"):
        write_report(tmp_path / "nowhere")


def test_the_words_are_explained_above_the_tables(whole: Page) -> None:
    tips = [x for x in whole.named("span") if x.get("role") == "tooltip"]
    assert len(tips) >= 10
    assert whole.text.index("How to read this") < whole.text.index("Leaderboard of")
    heads = {x["title"] for x in whole.named("th") if x.get("title")}
    assert any("rewards of a session" in str(title) for title in heads)


def test_agents_are_described_by_the_registry_without_links(whole: Page) -> None:
    assert AGENT_SPECS["drift-aware"].summary in whole.text
    assert terms.described(["joint", "nobody"]) == {
        "joint": "collaborative filtering and content trained together, L = λ1 L_C + λ2 L_T"
    }
