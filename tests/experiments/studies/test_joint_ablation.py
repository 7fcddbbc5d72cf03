"""The study of the joint recommender on a tiny world: variants, cold users, cold items."""

from __future__ import annotations

import json

import numpy as np
import pytest
from matplotlib.figure import Figure

from experiments import store
from experiments.report.figures import study_figures
from experiments.report.text_tables import print_tables
from experiments.runs.offline_ranking import known_histories
from experiments.runs.runner import RunOptions
from experiments.runs.spec import RunSpec
from experiments.statistics.intervals import Interval
from experiments.store import Episode
from experiments.studies import cold_start, joint_ablation
from experiments.studies.study import Scale
from llmrec_env.config import EnvConfig

TASK = "llmrec/Drift-v1"


@pytest.fixture(scope="module")
def study(tiny, tmp_path_factory):
    folder = tmp_path_factory.mktemp("joint")
    options = RunOptions(output=folder)
    return folder, joint_ablation.run(env=tiny, options=options)


def drawn(folder):
    return {path.suffix for path in (folder / "figures").glob("joint.*")}


def test_all_parts_land_in_one_folder(study):
    folder, results = study
    labels = [joint_ablation.label_of(x) for x in (*joint_ablation.WEIGHTS, *joint_ablation.PARTS)]
    assert list(results["variants"]) == [*joint_ablation.REFERENCES, "joint", *labels]
    played = {(row.task, row.agent) for row in store.read_table(folder, Episode)}
    names = {(name, "joint") for name in ("joint", *labels)}
    assert played == names | {("references", name) for name in joint_ablation.REFERENCES}
    assert drawn(folder) == {".png", ".svg", ".pdf"}
    assert json.loads((folder / "joint.json").read_text()) == json.loads(json.dumps(results))


def test_variants_are_what_they_are_called(study):
    _, results = study
    assert joint_ablation.label_of({"text": 0.0, "rank": 4}) == "text=0 rank=4"
    assert joint_ablation.label_of({"click": 0.3, "text": 1.0}) == "click=0.3 text=1"
    returns = [x["return"] for x in results["variants"].values()]
    assert len(set(returns)) > 6  # settings reach the agents


def test_improvements_are_over_the_same_users(study):
    _, results = study
    variants = results["variants"]
    assert variants["joint"]["joint"] is None and variants["content"]["content"] is None
    for other in joint_ablation.COMPARED:
        for name, row in variants.items():
            if name != other:
                expected = row["return"].value / variants[other]["return"].value - 1.0
                assert row[other].value == pytest.approx(expected)
                assert row[other].low <= row[other].value <= row[other].high


def test_each_half_is_judged_in_thirds_of_the_users(study):
    _, results = study
    assert len(results["groups"]) == 6
    for row in results["groups"].values():
        assert list(row) == list(joint_ablation.HALVES)


def test_users_whose_past_is_known_are_those_of_the_benchmark(study, tiny):
    _, results = study
    warmup = EnvConfig(**tiny).warmup_slates
    assert list(results["users"]) == list(cold_start.BY_USERS)
    for name, points in results["users"].items():
        assert list(points) == [*cold_start.KNOWN, warmup]
        if name in results["variants"]:
            assert points[warmup]["return"] == results["variants"][name]["return"]
    content = results["users"]["content"]
    assert content[0]["content"] == pytest.approx((0.0, 0.0, 0.0))
    assert len({points["return"] for points in content.values()}) > 1


def test_the_whole_past_replayed_is_the_history_of_the_world(world):
    users = np.array([9, 19, 3])
    whole = known_histories(world, users, world.config.warmup_slates)
    np.testing.assert_array_equal(whole, world.histories[users])
    nothing = known_histories(world, users, 0)
    assert not nothing["num_consumed_items"].any() and (nothing["item"] == -1).all()
    assert not np.array_equal(known_histories(world, users, 5)["item"], whole["item"])


def test_logs_say_nothing_about_cold_items(world):
    data = world.public()
    away = cold_start._drawn(len(world.catalog), 0)
    results = cold_start.withheld(data, away)
    assert away.sum() == 120 and not np.array_equal(away, cold_start._drawn(600, 1))
    before, logs = data.logs, results.logs
    gone = (before.items >= 0) & away[before.items]
    assert gone.any() and (logs.items[gone] == -1).all() and (logs.slates[gone] == -1).all()
    assert not logs.satisfied[gone].any() and not logs.ratings[gone].any()
    np.testing.assert_array_equal(logs.items[~gone], before.items[~gone])
    kept, own = logs.slates[~gone], before.slates[~gone]
    assert not away[kept].any()
    np.testing.assert_array_equal(kept[~away[own]], own[~away[own]])
    assert all(len(set(slate)) == 5 for slate in kept.tolist())
    assert not results.items.popularity[away].any() and not results.items.factors[away].any()
    assert results.items.popularity.any() and np.array_equal(data.logs.items, before.items)


def test_nothing_withheld_changes_nothing(world):
    data = world.public()
    results = cold_start.withheld(data, np.zeros(len(world.catalog), np.bool_))
    for left, right in zip((*results.logs, *results.items), (*data.logs, *data.items), strict=True):
        np.testing.assert_array_equal(left, right)


def test_without_clicks_only_texts_tell_something_about_items(study):
    _, results = study
    items = results["items"]
    assert list(items) == list(cold_start.BY_ITEMS)
    # `content` knows from the clicks which items are popular, `joint` which are chosen.
    for name in ("content", "joint"):
        assert items[name]["shown"] > 1.3 * items["collaborative"]["shown"]
        assert 0.05 < items[name]["consumed"] < 0.5
        assert 0.0 < items[name]["satisfied"] < 1.0 > items[name]["satisfied_others"] > 0.0
    for row in items.values():
        assert 0.0 <= row["return_cold"].value < row["return"].value


def test_tables_show_intervals_and_leave_out_what_is_not_there(study, capsys):
    _, results = study
    print_tables(*joint_ablation.tables_of(results | {"items": {}}))
    printed = capsys.readouterr().out
    assert "text=0" in printed and "logged slates known" in printed
    assert "taste strength: low" in printed
    assert "cold items" not in printed
    assert " % [" in printed and "**" in (study[0] / "joint.md").read_text(encoding="utf-8")


def test_parts_can_be_left_out(tiny, tmp_path):
    options = RunOptions(output=tmp_path)
    results = joint_ablation.run(parts=(), env=tiny, scale=Scale(1, users=3), options=options)
    assert list(results["variants"]) == [*joint_ablation.REFERENCES, "joint"]
    assert results["users"] == results["items"] == results["groups"] == {} and drawn(tmp_path)


def test_the_grid_is_every_pair_of_weights_but_none(tiny, tmp_path, monkeypatch):
    monkeypatch.setattr(joint_ablation, "GRID", (0.0, 1.0))
    scale, options = Scale(worlds=1, users=3), RunOptions(output=tmp_path)
    results = joint_ablation.run(parts=("grid",), env=tiny, scale=scale, options=options)
    grid = results["grid"]
    assert {click: list(row) for click, row in grid.items()} == {0.0: [1.0], 1.0: [0.0, 1.0]}
    assert grid[1.0][1.0] == results["variants"]["joint"]["return"] != grid[0.0][1.0]
    assert list(results["variants"]) == [*joint_ablation.REFERENCES, "joint"]
    assert (tmp_path / "figures" / "joint-grid.png").exists()
    assert "λ1 = 1" in (tmp_path / "joint.md").read_text(encoding="utf-8")


def test_a_world_is_a_run_of_held_out_users(tiny):
    base = RunSpec(TASK, "joint", 0, users=4, env=tiny, settings={"sweeps": 1})
    variants = {"blind": ("joint", {"rank": 0}), "content": ("content", {})}
    *_, joint, spec = cold_start._specs(base, variants, 2, "")
    assert (joint.label, joint.settings) == ("blind", {"sweeps": 1, "rank": 0})
    assert (spec.agent, spec.world, spec.settings) == ("content", 1, {})
    env, users = cold_start._held_out(spec, cold_start._trained(spec))
    assert users.tolist() == [9, 19, 29, 39] and env.config.split == "test"


def test_the_figure_has_a_panel_for_what_there_is():
    improvements = {"click=0": Interval(-0.1, -0.2, -0.05), "content": Interval(-0.3, -0.4, -0.2)}
    known = {"content": {0: Interval(1.0, 0.5, 1.5), 20: Interval(2.0, 1.5, 2.5)}}
    both = study_figures.variants_and_known(improvements, "joint", known)
    assert isinstance(both, Figure) and len(both.axes) == 2
    assert [x.get_text() for x in both.axes[0].get_yticklabels()] == list(improvements)
    assert [x.get_text() for x in both.axes[1].get_xticklabels()] == ["0", "20"]
    assert len(study_figures.variants_and_known(improvements, "joint", {}).axes) == 1
