"""The studies end to end on a tiny world, and what they must not let pass."""

import numpy as np
import pytest
from made_up import episodes_of

from experiments import store
from experiments.report.text_tables import print_tables
from experiments.runs.runner import RunOptions
from experiments.runs.spec import RunSpec
from experiments.store import Episode, LearningPoint, Metric
from experiments.studies import ablation, learning_curves, sensitivity
from experiments.studies.study import Scale
from llmrec_env.config import ConfigError
from llmrec_env.interface.observation import VECTOR_BLOCKS

RUNGS = ("content", "drift-aware")


@pytest.fixture(scope="module")
def settings(tiny):
    return {"env": tiny, "scale": Scale(worlds=1, steps=4096)}


@pytest.fixture(scope="module")
def swept(settings, tmp_path_factory):
    folder = tmp_path_factory.mktemp("drift")
    options = RunOptions(output=folder)
    return folder, sensitivity.run(values=(0.0, 0.1), agents=RUNGS, options=options, **settings)


@pytest.fixture(scope="module")
def ablated(settings, tmp_path_factory):
    folder = tmp_path_factory.mktemp("ablation")
    parts = {"mechanisms": ("drift+goodwill",), "blocks": ("recent",)}
    plan = {"agents": RUNGS, "options": RunOptions(output=folder)}
    return folder, ablation.run(**parts, **plan, **settings)


@pytest.fixture(scope="module")
def trained(settings, tmp_path_factory):
    folder = tmp_path_factory.mktemp("curves")
    return folder, learning_curves.run(
        env=settings["env"],
        scale=Scale(worlds=1, steps=4096, seeds=2),
        options=RunOptions(output=folder),
    )


def drawn(folder, name):
    return {path.suffix for path in (folder / "figures").glob(f"{name}.*")}


def test_a_parameter_is_swept_into_one_folder(swept):
    folder, rows = swept
    names = [f"switch_rate={value}" for value in (0.0, 0.1)]
    assert [(row.task, row.agent) for row in rows] == [(n, a) for n in names for a in RUNGS]
    assert drawn(folder, "sensitivity") == {".png", ".svg", ".pdf"}
    assert {row.task for row in store.read_table(folder, Metric)} == set(names)
    assert b"drift-aware over content" in (folder / "figures" / "sensitivity.svg").read_bytes()


def test_values_of_the_parameter_reach_the_users(swept, settings):
    folder, _ = swept
    episodes = store.read_table(folder, Episode)
    by_value = [
        [row.ret for row in episodes if row.task == f"switch_rate={value}"] for value in (0.0, 0.1)
    ]
    assert by_value[0] != by_value[1]
    changes = sensitivity.labelled("burst_step", (0, 10), "llmrec/Drift-v1", settings["env"])
    assert list(changes) == ["burst_step=0", "burst_step=10"]
    assert changes["burst_step=10"]["encoder"] == "hashing"


def test_values_are_chosen_by_validation_users_of_other_worlds(settings, tmp_path):
    options = RunOptions(output=tmp_path)
    sensitivity.run(
        values=(0.1,), agents=("content",), split="validation", options=options, **settings
    )
    episodes = store.read_table(tmp_path, Episode)
    assert {(row.world, row.user % 10) for row in episodes} == {(100, 8)}


def test_any_metric_can_be_drawn(swept):
    folder, rows = swept
    at = {row.task: float(row.task.split("=")[1]) for row in rows}
    metrics = store.read_table(folder, Metric)
    tracking_error = sensitivity.metric_by_value(
        rows, metrics, "tracking error of the pooled history", at
    )
    assert set(tracking_error) == set(RUNGS) and set(tracking_error["content"]) == {0.0, 0.1}
    assert all(
        x.low <= x.value <= x.high for points in tracking_error.values() for x in points.values()
    )
    alone = [Metric("switch_rate=0.1", "content", "gini", 0.5, None, None)]
    assert sensitivity.metric_by_value(rows, alone, "gini", at) == {
        "content": {0.1: (0.5, 0.5, 0.5)}
    }


def test_a_metric_that_no_agent_has_is_not_drawn(settings, tmp_path, capsys):
    options = RunOptions(output=tmp_path)
    sensitivity.run(
        values=(0.1,), agents=RUNGS, metric="regret to myopic", options=options, **settings
    )
    assert not drawn(tmp_path, "sensitivity")
    assert "no agent has a regret to myopic" in " ".join(capsys.readouterr().out.split())


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"parameter": "swich_rate"}, "Did you mean 'switch_rate'"),
        ({"values": (0.1, 1.5)}, "switch_rate=1.5 is out of range; allowed: 0.0 to 1.0"),
        ({"parameter": "encoder"}, "encoder=0.0 is not a non-empty string"),
        ({"parameter": "burst_step", "values": (1.5,)}, "burst_step=1.5 is not an integer"),
        ({"task": "llmrec/Static-v1", "values": (0.1,)}, "is void: off=.*drift"),
        ({"agents": ("contnt",)}, "Did you mean 'content'"),
        ({"metric": "noveltie"}, "Did you mean 'novelty'"),
    ],
)
def test_a_wrong_sweep_is_refused_before_anything_runs(changes, said, settings, tmp_path):
    folder = tmp_path / "none"
    with pytest.raises(ValueError, match=said):
        sensitivity.run(**changes, options=RunOptions(output=folder), **settings)
    assert not folder.exists()


def test_parts_are_taken_away_one_after_another(ablated):
    folder, improvements = ablated
    played = {(row.task, row.agent) for row in store.read_table(folder, Episode)}
    mechanisms = [("drift+goodwill off", agent) for agent in RUNGS]
    whole = [("whole", agent) for agent in (*RUNGS, "ppo")]
    encoder = [("encoder hashing", agent) for agent in RUNGS]
    assert played == {*whole, *mechanisms, *encoder, ("ppo without recent", "ppo")}
    assert set(improvements) == {
        "drift-aware over content",
        "ppo over drift-aware",
        "ppo over itself without a block",
    }
    within = ["whole", "drift+goodwill off", "encoder hashing"]
    assert list(improvements["drift-aware over content"]) == within
    assert list(improvements["ppo over drift-aware"]) == ["whole"]
    assert list(improvements["ppo over itself without a block"]) == ["without recent"]
    assert drawn(folder, "ablation") == {".png", ".svg", ".pdf"}


def test_a_part_that_changes_nothing_improves_nothing(ablated):
    _, improvements = ablated
    own = improvements["drift-aware over content"]
    assert own["encoder hashing"] == own["whole"]  # the tiny world has that encoder already
    assert own["drift+goodwill off"] != own["whole"]


def test_a_block_that_is_left_out_changes_the_learner(ablated):
    folder, _ = ablated
    episodes = store.read_table(folder, Episode)
    returns = {
        label: [row.ret for row in episodes if (row.task, row.agent) == (label, "ppo")]
        for label in ("whole", "ppo without recent")
    }
    assert returns["whole"] != returns["ppo without recent"]


def test_variants_switch_off_what_they_say_on_top_of_the_task():
    parts = {"mechanisms": ("satiation+queries",)}
    env = {"off": ["goodwill"]}
    whole, variant = ablation.variants_of("llmrec/Drift-v1", RUNGS, env, parts)
    assert whole.agents == RUNGS and whole.env == env
    assert variant.env["off"] == ["goodwill", "satiation", "queries"]
    _, blind = ablation.variants_of("llmrec/Drift-v1", RUNGS, {}, {"observation": ("all",)})
    assert set(blind.settings["ablated"]) == {*VECTOR_BLOCKS, "session"}
    with pytest.raises(ConfigError, match="Did you mean 'drift'"):
        ablation.variants_of("llmrec/Drift-v1", RUNGS, {}, {"mechanisms": ("drifd",)})
    with pytest.raises(ValueError, match="Did you mean 'recent'"):
        ablation.variants_of("llmrec/Drift-v1", RUNGS, {}, {"observation": ("recnt",)})


def test_improvements_are_those_of_the_sessions():
    content = episodes_of("content", np.full(20, 2.0))
    played = {"content": content, "drift-aware": episodes_of("drift-aware", np.full(20, 3.0))}
    improvements = ablation.compared({"whole": played})
    assert improvements["drift-aware over content"]["whole"] == pytest.approx((0.5, 0.5, 0.5))
    nothing = {"content": episodes_of("content", np.zeros(20)), "drift-aware": content}
    assert ablation.compared({"whole": nothing}) == {}


def test_curves_have_every_seed_at_every_budget(trained, capsys):
    folder, points = trained
    budgets = learning_curves.at_budgets(points, "ppo")
    assert list(budgets) == [4096]
    assert len(budgets[4096]) == 2
    assert drawn(folder, "learning-curves") == {".png", ".svg", ".pdf"}
    print_tables(learning_curves.budget_table({"ppo": budgets}, {"drift-aware": 5.0}))
    assert "4,096" in capsys.readouterr().out


def test_a_reference_meets_the_users_and_random_numbers_of_the_curve(trained, tiny):
    _, points = trained
    spec = RunSpec("llmrec/Drift-v1", "ppo", 0, seed=1, train_steps=4096, env=tiny)
    assert learning_curves.validation_return(spec) == [p.ret for p in points if p.seed == 1][-1]


def test_budgets_average_over_worlds_and_keep_seeds_apart():
    returns = {(0, 0): 1.0, (1, 0): 3.0, (0, 1): 5.0, (1, 1): 7.0}
    points = [LearningPoint("t", "ppo", w, s, 10, x) for (w, s), x in returns.items()]
    assert learning_curves.at_budgets(points, "ppo") == {10: [2.0, 6.0]}


def test_only_agents_that_learn_by_acting_have_curves(settings, tmp_path):
    with pytest.raises(ValueError, match="online RL agent 'content'"):
        learning_curves.run(
            agents=("content",), options=RunOptions(output=tmp_path / "none"), **settings
        )
