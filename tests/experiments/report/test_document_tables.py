"""Tables of README and docs: they are those of `results/` and of the registry."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest

from experiments import store
from experiments.cli import main
from experiments.report.document_tables import TABLES, filled

ROOT = Path(__file__).parents[3]
PAGES = (ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md")))
RESULTS = (ROOT / "docs" / "RESULTS.md", *sorted((ROOT / "docs" / "results").glob("*.md")))


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.name)
def test_pages_show_what_the_results_say(page):
    text = page.read_text(encoding="utf-8")
    assert filled(text, ROOT / "results") == text, "python -m experiments tables"


@pytest.mark.parametrize("page", RESULTS, ids=lambda path: path.name)
def test_results_have_one_notation_of_percent_and_minus(page):
    text = page.read_text(encoding="utf-8")
    assert "\N{MINUS SIGN}" not in text and not re.search(r"\d%", text)
    assert not re.search(r"[+-][\d.]+ % \[[^]]*%", text)  # the unit stands once


def test_every_table_stands_somewhere_and_holds_the_numbers_of_its_folder():
    pages = "".join(page.read_text(encoding="utf-8") for page in PAGES)
    shown = set(re.findall(r"<!-- table: ([\w-]+) -->", pages))
    assert shown == {*TABLES}
    (row,) = (
        x
        for x in store.read_table(ROOT / "results" / "standard", store.Row)
        if (x.task, x.agent) == ("llmrec/Static-v1", "joint")
    )
    shown = f"{row.mean:.2f} [{row.ci_low:.2f}, {row.ci_high:.2f}]"
    assert shown in TABLES["standard"](ROOT / "results")


def test_the_command_rewrites_stale_tables_alone(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    shutil.copytree(ROOT / "results" / "standard", tmp_path / "results" / "standard")
    (tmp_path / "docs").mkdir()
    (tmp_path / "README.md").write_text(
        "before\n<!-- table: standard -->\nstale\n<!-- /table -->\nafter\n"
    )
    assert main(["tables"]) == 0
    text = (tmp_path / "README.md").read_text(encoding="utf-8")
    assert text.startswith("before\n<!-- table: standard -->\n| return") and text.endswith(
        "-->\nafter\n"
    )
    assert "stale" not in text and "README.md" in capsys.readouterr().out
    (tmp_path / "README.md").write_text("<!-- table: standart -->\n<!-- /table -->\n")
    assert main(["tables"]) == 1 and "Did you mean 'standard'" in capsys.readouterr().err
