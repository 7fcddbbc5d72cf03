"""The probe of far-sightedness: what is paired with what, and what it must not let pass."""

import csv
import dataclasses

import numpy as np
import pytest
from made_up import episodes_of

from experiments import store
from experiments.report.text_tables import markdown, print_tables
from experiments.runs.runner import RunOptions
from experiments.statistics.leaderboard import group
from experiments.store import Episode
from experiments.studies import lookahead
from experiments.studies.lookahead import Probe, compared, label_of
from experiments.studies.study import Scale

DRIFT, STATIC = "llmrec/Drift-v1", "llmrec/Static-v1"
SCALE = Scale(worlds=2, users=10, steps=500, seeds=3)
PROBE = Probe(("ppo",), (0.0, 0.98), (DRIFT, STATIC), True, SCALE, {"horizon": 30})


@pytest.fixture(scope="module")
def probed(tiny, tmp_path_factory):
    folder = tmp_path_factory.mktemp("lookahead")
    plan = {"agents": ("ppo",), "tasks": (DRIFT,), "scale": Scale(worlds=1, steps=4096, seeds=2)}
    return folder, lookahead.run(**plan, env=tiny, options=RunOptions(output=folder))


def test_cells_of_a_pair_differ_in_the_discount_alone():
    specs = PROBE.specs()
    learners = [spec for spec in specs if spec.agent == "ppo"]
    assert len(learners) == 2 * 2 * 3 * 2 and len(specs) - len(learners) == 2 * 2 * 2
    near, far = (
        [
            dataclasses.replace(spec, settings={}, label="")
            for spec in learners
            if spec.settings == {"gamma": gamma} and spec.label == label_of(spec.task, gamma)
        ]
        for gamma in PROBE.gammas
    )
    assert near == far and len(near) == 12
    assert {spec.train_steps for spec in learners} == {500}
    assert {spec.split for spec in specs} == {"test"}
    without = dataclasses.replace(PROBE, oracles=False).specs()
    assert without == learners


def test_improvements_are_paired_by_user_and_seed():
    users = np.random.default_rng(0).gamma(2.0, 3.0, 20)
    sessions = {
        label_of(DRIFT, 0.0): {
            "ppo": episodes_of("ppo", users) + episodes_of("ppo", users[::-1], seed=1)
        },
        label_of(DRIFT, 0.98): {
            "ppo": episodes_of("ppo", users + 1) + episodes_of("ppo", users[::-1] + 1, seed=1)
        },
    }
    probe = dataclasses.replace(PROBE, tasks=(DRIFT,), oracles=False)
    (line,) = compared(sessions, probe)
    assert line.difference == pytest.approx((1.0, 1.0, 1.0))  # not paired, it had a width of 2
    assert line.far - line.near == pytest.approx(1.0)
    assert (line.seeds, line.users) == (2, 20)


def test_an_agent_that_earns_nothing_has_a_difference_and_no_improvement():
    returns = {0.0: np.zeros(5), 0.98: np.ones(5)}
    sessions = {label_of(DRIFT, g): {"ppo": episodes_of("ppo", x)} for g, x in returns.items()}
    lines = compared(sessions, dataclasses.replace(PROBE, tasks=(DRIFT,), oracles=False))
    assert lines[0].improvement is None and lines[0].difference.value == 1.0
    assert lookahead.by_agent(lines) == {}
    print_tables(lookahead.table_of(lines, PROBE.gammas))


def test_the_discount_reaches_the_agent_and_the_oracles_come_last(probed):
    folder, lines = probed
    assert [line.agent for line in lines] == ["ppo", "oracle-planning over oracle-myopic"]
    sessions = group(store.read_table(folder, Episode))
    near, far = (sessions[label_of(DRIFT, gamma)]["ppo"] for gamma in (0.0, 0.98))
    assert [(x.user, x.seed) for x in near] == [(x.user, x.seed) for x in far]
    differences = [own.ret - other.ret for own, other in zip(far, near, strict=True)]
    assert any(differences)
    assert lines[0].difference.value == pytest.approx(np.mean(differences))
    oracles = [np.mean([x.ret for x in sessions[DRIFT][name]]) for name in lookahead.ORACLES]
    assert (lines[1].near, lines[1].far) == pytest.approx(oracles)


def test_tables_and_figure_are_there(probed):
    folder, lines = probed
    with open(folder / "lookahead.csv", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [float(row["difference_low"]) for row in rows] == [x.difference.low for x in lines]
    assert [float(row["improvement"]) for row in rows] == [x.improvement.value for x in lines]
    table = (folder / "lookahead.md").read_text(encoding="utf-8")
    assert "gamma 0 (near) and 0.98 (far)" in table and table.count("\n|") == 4
    assert b"ppo by looking ahead" in (folder / "figures" / "lookahead.svg").read_bytes()


def test_bold_is_what_leaves_out_zero():
    clear = {0.0: np.ones(5), 0.98: np.full(5, 2.0)}
    noise = {0.0: np.arange(1.0, 6.0), 0.98: np.arange(5.0, 0.0, -1.0)}
    for returns, bold in ((clear, True), (noise, False)):
        made = {label_of(DRIFT, g): {"ppo": episodes_of("ppo", x)} for g, x in returns.items()}
        lines = compared(made, dataclasses.replace(PROBE, tasks=(DRIFT,), oracles=False))
        table = dataclasses.replace(lookahead.table_of(lines, PROBE.gammas), title="")
        assert ("**" in markdown(table)) == bold


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"gammas": (0.98, 0.0)}, r"gammas=\(0.98, 0.0\) must ascend"),
        ({"gammas": (0.5, 0.5)}, "must ascend"),
        ({"gammas": (0.0, 1.5)}, r"within \[0, 1\]"),
        ({"agents": ("pppo",)}, "Did you mean 'ppo'"),
        ({"agents": ("content",)}, "'content' does not take these settings"),
        ({"tasks": ("llmrec/Drift-v9",)}, "Did you mean 'llmrec/Drift-v1'"),
    ],
)
def test_mistakes_are_told_before_anything_runs(changes, said, tiny, tmp_path):
    folder = tmp_path / "none"
    plan = {"agents": ("ppo",), "env": tiny, "options": RunOptions(output=folder)}
    with pytest.raises(ValueError, match=said):
        lookahead.run(**{**plan, **changes})
    assert not folder.exists()
