"""The case study end to end, on a small world."""

from __future__ import annotations

from experiments.runs.runner import RunOptions
from experiments.studies import case_study, study

SMALL = {"encoder": "hashing", "num_items": 700, "num_users": 300, "dim": 16}


def test_it_goes_from_texts_to_a_report(tmp_path, capsys):
    output = tmp_path / "case"
    stages = case_study.run(
        ("random", "content"),
        env=SMALL,
        scale=study.Scale(worlds=1, users=10, steps=1),
        options=RunOptions(output=output),
    )
    assert [stage.name for stage in stages] == ["texts and population", "agents", "report"]
    assert all(stage.seconds > 0 and stage.mebibytes > 50 for stage in stages)
    assert {"report.html", "case_study.md", "leaderboard.csv"} <= {x.name for x in output.iterdir()}
    told = capsys.readouterr().out
    assert "100 browse" in told and "300 users, 700 items" in told
