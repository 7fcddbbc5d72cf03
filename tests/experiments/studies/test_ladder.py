"""The ladder: what it asks of whom, and which half wins where."""

from __future__ import annotations

import numpy as np
import pytest
from made_up import episodes_of

from experiments import store
from experiments.runs.runner import RunOptions
from experiments.studies.ladder import RUNGS, Ladder, halves_table, run, verdicts
from experiments.studies.study import Scale

DRIFT = Ladder("llmrec/Drift-v1", "video", 100)
MEANS = dict(zip(RUNGS, (1.0, 3.0, 9.0, 8.0, 10.0, 12.0, 14.0, 20.0, 23.0), strict=True))


@pytest.fixture
def played():
    """Returns what plays agents that earn their means, with users who differ by a tenth."""

    def played(**other_means):
        noise = np.tile([-0.1, 0.1], 20)
        means = MEANS | {name.replace("_", "-"): x for name, x in other_means.items()}
        return {name: episodes_of(name, mean * (1.0 + noise)) for name, mean in means.items()}

    return played


def test_the_better_of_two_is_the_collaborative_rung(played):
    lines = verdicts(DRIFT, played())
    assert len(lines) == 8 and all(line.startswith("holds: ") for line in lines)
    assert lines[1].startswith("holds: ease over popular +200.0 %")
    assert lines[2].startswith("holds: content over ease +11.1 %")
    assert lines[-1].startswith("holds: ease within 30% of content: -10.0 %")
    assert "collaborative over popular" in verdicts(DRIFT, played(collaborative=9.5))[1]


@pytest.mark.parametrize(
    ("task", "catalog", "off", "verdict"),
    [
        ("llmrec/Drift-v1", "video", (), "FAILS"),
        ("llmrec/Boredom-v1", "video", (), "not asked"),
        ("llmrec/Switch-v1", "video", (), "not asked"),
        ("llmrec/Drift-v1", "movielens", (), "not asked"),
        ("llmrec/Goodwill-v1", "video", (), "FAILS"),
        ("llmrec/Static-v1", "video", ("drift", "satiation", "goodwill"), "FAILS"),
    ],
)
def test_collaborative_may_pass_content_where_taste_outlasts_texts(
    played, task, catalog, off, verdict
):
    lines = verdicts(Ladder(task, catalog, 100, off), played(ease=11.0))
    assert lines[2].startswith(f"{verdict}: content over ease -9.1 %")


def test_steps_that_a_mechanism_makes_are_not_asked_without_it(played):
    worse = played(content_recency=9.0, oracle_planning=19.0)
    without = Ladder("llmrec/Static-v1", "video", 100, ("drift", "satiation", "goodwill"))
    assert [line.partition(":")[0] for line in verdicts(DRIFT, worse)].count("FAILS") == 2
    lines = verdicts(without, worse)
    assert [line for line in lines if line.startswith("not asked")] == [lines[3], lines[6]]
    assert lines[3].endswith("(interests do not drift)")


def test_planning_must_win_a_tenth_and_the_halves_must_be_near(played):
    lines = verdicts(DRIFT, played(oracle_planning=21.0, ease=6.0, collaborative=5.0))
    assert lines[6].startswith("FAILS: oracle-planning over oracle-myopic +5.0 %")
    assert lines[7].startswith("FAILS: ease within 30% of content: -40.0 %")


def test_the_table_says_which_half_wins_where(played):
    switch = DRIFT._replace(task="llmrec/Switch-v1", candidates=0)
    table = halves_table({DRIFT: played(), switch: played(collaborative=11.0)})
    assert [row[2] for row in table.rows] == ["100", "all"]
    assert [row[3] for row in table.rows] == ["ease 9.00", "collaborative 11.00"]
    assert [row[-1] for row in table.rows] == ["content", "collaborative"]


def test_it_plays_every_rung_and_keeps_what_it_found(tiny, tmp_path):
    ladders = run(("video",), (20,), env=tiny, scale=Scale(worlds=1), options=RunOptions(tmp_path))
    ((ladder, episodes),) = ladders.items()
    assert {*episodes} == {*RUNGS} and ladder == DRIFT._replace(candidates=20)
    rows = store.read_table(tmp_path / "Drift-v1-video-20", store.Row)
    assert [row.agent for row in rows] == list(RUNGS)
    assert "Which half wins where" in (tmp_path / "halves.md").read_text(encoding="utf-8")
