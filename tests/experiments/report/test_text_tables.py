"""Numbers in one notation, and the same table in a terminal, in Markdown and in LaTeX."""

from __future__ import annotations

import dataclasses
import io

import numpy as np
import pytest
from rich.console import Console

from experiments.report.result_tables import (
    METRICS,
    leaderboard_tables,
    metrics_table,
    print_leaderboard,
    worlds_table,
)
from experiments.report.text_tables import (
    Table,
    improvement,
    latex,
    markdown,
    number,
    percent,
    print_tables,
)
from experiments.statistics import summary
from experiments.statistics.intervals import Interval, Resampling
from experiments.statistics.leaderboard import leaderboard
from experiments.store import Episode, Metric, Row, WorldRow

MEANS = {"random": 2.0, "content": 8.0, "drift-aware": 8.0}


@pytest.fixture(scope="module")
def rows() -> list[Row]:
    part = np.random.default_rng(0).gamma(9.0, 1 / 9.0, 20)
    episodes = [
        Episode(task, agent, 0, 0, user, float(mean * part[user]), 10, 5, 2, 40.0, True)
        for task in ("task_a", "b")
        for agent, mean in MEANS.items()
        for user in range(20)
    ]
    return leaderboard(episodes, resampling=Resampling(resamples=200))


@pytest.mark.parametrize(
    ("cell", "text"),
    [
        (number(13.844, 13.3, 14.37), "13.84 [13.30, 14.37]"),
        (number(1_234_567, decimals=0), "1,234,567"),
        (number(1.23456, decimals=None), "1.23"),
        (number(-0.0004, decimals=2), "-0.00"),
        (number(57.52, decimals=1, unit="°"), "57.5°"),
        (number(None), ""),
        (percent(0.155, 0.119, 0.193, signed=True), "+15.5 % [+11.9, +19.3]"),
        (percent(0.5, decimals=0), "50 %"),
        (percent(None), ""),
        (improvement(Interval(-0.05, -0.075, -0.026)), "-5.0 % [-7.5, -2.6]"),
        (improvement(None), ""),
    ],
)
def test_numbers_have_one_notation(cell, text) -> None:
    assert cell.text == text


def test_improvements_are_clear_where_the_interval_leaves_out_zero() -> None:
    ends = ((0.1, 0.3), (-0.3, -0.1), (-0.1, 0.3), (0.0, 0.3))
    assert [improvement(Interval(0.2, *x)).clear for x in ends] == [True, True, False, False]


def test_the_printed_leaderboard_fits_eighty_columns(rows: list[Row]) -> None:
    file = io.StringIO()
    print_leaderboard(rows, Console(file=file, width=80, color_system=None))
    lines = file.getvalue().splitlines()
    assert max(map(len, lines)) <= 80
    assert lines[0].startswith("task_a: return per session")
    content, other = (line for line in lines if "content" in line)
    assert content == other
    assert "+300.0 % [+300.0, +300.0]" in content


def test_the_same_cells_stand_in_markdown_and_latex(rows: list[Row]) -> None:
    tables = leaderboard_tables(rows)
    text = markdown(*tables)
    assert text.startswith("**task_a**\n\n| agent | return [95 %] | IQM | improvement [95 %] |\n")
    assert text.count("|---|--:|--:|--:|") == 2
    assert text.count("| **+300.0 % [+300.0, +300.0]** |") == 2
    assert text.count("| +0.0 % [+0.0, +0.0] |") == 2
    text = latex(*tables)
    assert r"\emph{task\_a}" in text
    assert text.count(r"\textbf{+300.0 \% [+300.0, +300.0]} \\") == 2
    body = [x for x in text.splitlines() if x.endswith(r"\\") and "multicolumn" not in x]
    assert {line.count("&") for line in body} == {3}
    assert text.count("{") == text.count("}")


def test_names_are_no_markup(capsys: pytest.CaptureFixture[str]) -> None:
    table = Table(["a|b", "[x]"], [["[bold]c[/bold]|d", "1"]])
    print_tables(table)
    assert "[bold]c[/bold]|d" in capsys.readouterr().out
    assert markdown(table) == "| a\\|b | [x] |\n|---|--:|\n| [bold]c[/bold]\\|d | 1 |\n"


def test_the_full_leaderboard_has_every_number_of_a_row(rows: list[Row]) -> None:
    (table, _) = leaderboard_tables(
        [dataclasses.replace(x, train_steps=500_000) for x in rows], True
    )
    cells = dict(zip(table.columns, (cell.text for cell in table.cells()[1]), strict=True))
    assert cells["improvement over the row above [95 %]"] == "+300.0 % [+300.0, +300.0]"
    assert cells["beats the row above"] == "100 %"
    assert (cells["survival"], cells["steps"], cells["satisfied"]) == ("100 %", "10.0", "40 %")
    assert (cells["tracking error of the pooled history"], cells["training steps"]) == (
        "40.0°",
        "500,000",
    )


def test_metrics_are_written_as_their_notation_says() -> None:
    metrics = [
        Metric("t", "ppo", "coverage", 0.25, None, None),
        Metric("t", "ppo", "goodwill", -0.1, -0.2, -1e-5),
        Metric("t", "ppo", "novelty", None, None, None),
        Metric("t", "ppo", "own", 1.23456, None, None),
    ]
    table = metrics_table(["random", "ppo"], metrics)
    assert table is not None
    assert table.columns == ["agent", "coverage", "goodwill", "own"]  # novelty: defined for nobody
    assert [cell.text for cell in table.cells()[0]] == ["random", "", "", ""]
    own = ["ppo", "25 %", "-0.100 [-0.200, -0.000]", "1.23"]
    assert [cell.text for cell in table.cells()[1]] == own
    assert metrics_table(["ppo"], metrics[2:3]) is None
    assert set(METRICS) == set(summary.METRICS) - {"return"}


def test_worlds_stand_beside_each_other() -> None:
    def row(agent: str, world: int, improved: float | None) -> WorldRow:
        ends = None if improved is None else improved - 0.2
        return WorldRow("t", agent, world, 2.0, 1.0, 3.0, improved, ends, improved, None, 1, 9)

    rows = [row("a", 0, None), row("a", 1, None), row("b", 0, 0.5), row("b", 1, 0.1)]
    table = worlds_table(["a", "b"], rows)
    assert table is not None
    assert [cell.text for cell in table.cells()[0]] == ["a", *["2.00 [1.00, 3.00]", ""] * 2]
    assert [cell.clear for cell in table.cells()[1]] == [None, None, True, None, False]
    assert worlds_table(["a", "b"], rows[::2]) is None
