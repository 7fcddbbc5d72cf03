"""The search of hyper-parameters: what counts, what is gone on with, and whom it never touches."""

import csv
import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from agents import AGENTS
from agents.agent_spec import Choice, Integer, Uniform
from agents.registry import defaults_of
from agents.rl.sb3 import ALGORITHMS
from agents.rl.sb3.construction import OWN, algorithm_class, parameters_of
from experiments import store
from experiments.tuning import search, tune
from experiments.tuning.search import Plan, open_study, trials_of
from experiments.tuning.search_spaces import (
    flat,
    nested,
    raw_value,
)
from llmrec_env.envs.vector import RecVectorEnv

SPACE = {
    "learning_rate": Uniform(1e-4, 1e-2, log=True),
    "gamma": Choice(0.5, 0.98),
    "n_epochs": Integer(1, 5),
    "policy_kwargs.log_std_init": Uniform(-2.0, 0.0),
}
WHOLE = dict(AGENTS)
WORLDS = (100, 101)


@pytest.fixture(scope="module", autouse=True)
def small_space():
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(AGENTS, "ppo", replace(WHOLE["ppo"], search_space=SPACE))
        yield


@pytest.fixture(scope="module")
def settings(tiny):
    return {"world": WORLDS, "steps": 4096, "users": 6, "env": tiny}


@pytest.fixture(scope="module")
def plan(tiny):
    return Plan("ppo", "llmrec/Drift-v1", WORLDS, 4096, 6, env=tiny)


@pytest.fixture(scope="module")
def searched(settings, tmp_path_factory):
    """A whole search, and who was met in it: split, world and users of every reset."""
    folder, met = tmp_path_factory.mktemp("tune"), set()
    reset = RecVectorEnv.reset

    def watched(env, *, seed=None, options=None):
        users = (options or {}).get("user_id", [])
        met.add((env.config.split, env.config.world_seed, tuple(np.asarray(users).tolist())))
        return reset(env, seed=seed, options=options)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(RecVectorEnv, "reset", watched)
        best = tune.run(**settings, trials=4, confirm=1, output=folder)
    return folder, best, met


def rows_of(folder):
    with open(folder / "trials.csv", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def outcomes(folder):
    """Settings and outcome of the trials that count, in their order."""
    ended = [row for row in rows_of(folder) if row["state"] in ("complete", "pruned")]
    return [(row["state"], row["return"], *(row[name] for name in SPACE)) for row in ended]


def faked(monkeypatch, *values):
    """Lets trials return, or raise, one value after another; afterwards 1."""
    left = iter(values)

    def score(plan, settings, report, spent):
        spent[plan.worlds[0]] = plan.steps
        value = next(left, 1.0)
        if not isinstance(value, float):
            raise value
        report(0, value)
        return [value]

    monkeypatch.setattr(search, "score", score)


def test_the_first_trial_is_the_agent_as_it_is(searched):
    folder, best, _ = searched
    first = rows_of(folder)[0]
    assert first["state"] == "complete" and float(first["return"]) == best["return_of_defaults"]
    tried = {name: json.loads(first[name]) for name in SPACE}
    assert tried == flat(defaults_of("ppo"), SPACE)
    assert len({row["learning_rate"] for row in rows_of(folder)}) == 4


def test_the_best_settings_give_their_return_again(searched, plan):
    folder, best, _ = searched
    assert json.loads((folder / "best.json").read_text(encoding="utf-8")) == best
    returns = search.score(plan, best["settings"], lambda *_: None, {})
    assert np.mean(returns) == best["return"]
    row = rows_of(folder)[best["trial"]]
    assert float(row["return"]) == best["return"] and row["state"] == "complete"


def test_it_meets_training_and_validation_users_of_tuning_worlds_alone(searched):
    _, _, met = searched
    assert {split for split, _, _ in met} == {"train", "validation"}
    assert {world for _, world, _ in met} == {*WORLDS}
    named = {user for split, _, users in met for user in users if split == "validation"}
    assert named == {8, 18, 28, 38, 48, 58}


def test_the_best_is_trained_again_beside_the_agent_as_it_is(searched):
    _, best, _ = searched
    trials = [row["trial"] for row in best["confirmed"]]
    assert trials[0] == 0 and best["trial"] in trials
    assert best["confirmed"][0]["gain"] == [0.0, 0.0, 0.0]
    returns = [row["return"] for row in best["confirmed"]]
    assert best["confirmed"][trials.index(best["trial"])]["return"] == max(returns)
    assert best["return"] not in returns  # other seeds of training, other randomness


def test_the_budget_and_the_figure_are_kept(searched):
    folder, _, _ = searched
    study = json.loads((folder / "study.json").read_text(encoding="utf-8"))
    assert study["trials"] == {"complete": 4} and study["worlds"] == [*WORLDS]
    assert study["user_steps"] == sum(int(row["user_steps"]) for row in rows_of(folder))
    assert study["user_steps"] == 4 * 2 * 4096
    assert {path.suffix for path in (folder / "figures").glob("tune.*")} == {".png", ".svg", ".pdf"}


def test_a_killed_search_goes_on_and_finds_what_an_unbroken_one_does(
    searched, settings, tmp_path, monkeypatch
):
    whole, _, _ = searched
    score, calls = search.score, []

    def killed(*args):
        calls.append(1)
        if len(calls) in (1, 4):
            raise KeyboardInterrupt
        return score(*args)

    monkeypatch.setattr(search, "score", killed)
    for i in range(2):
        with pytest.raises(KeyboardInterrupt):
            tune.run(**settings, trials=4, confirm=0, output=tmp_path, resume=i > 0)
    tune.run(**settings, trials=4, confirm=0, output=tmp_path, resume=True)
    assert [row["state"] for row in rows_of(tmp_path)].count("fail") == 2
    assert outcomes(tmp_path) == outcomes(whole)


KILLED = """
import dataclasses, signal, sys
from pathlib import Path
sys.path.insert(0, sys.argv[2])
import test_tune
from agents import AGENTS
from experiments.tuning import search
AGENTS["ppo"] = dataclasses.replace(AGENTS["ppo"], search_space=test_tune.SPACE)
search.HEARTBEAT = 1
def score(*_):
    print("running", flush=True)
    signal.pause()
search.score = score
plan = search.Plan("ppo", "llmrec/Drift-v1", (100,), 4096, 6)
search.search(Path(sys.argv[1]), plan, 9, print)
"""


def states_of(study):
    return [trial.state.name for trial in study.trials]


def searched_again(folder, plan, trials):
    search.search(folder, plan, trials, lambda *_: None)
    return open_study(folder, plan)


class Enough(BaseException):
    """Ends a search that would wait."""


def enough(*_):
    raise Enough


def test_a_trial_is_given_up_when_its_process_is_dead_and_not_before(plan, tmp_path, monkeypatch):
    faked(monkeypatch)
    monkeypatch.setattr(search, "HEARTBEAT", 1)
    monkeypatch.setattr(search, "GRACE", 4)
    command = [sys.executable, "-c", KILLED, str(tmp_path), str(Path(__file__).parent)]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as other:
        try:
            assert other.stdout.readline() == b"running\n"
            with pytest.raises(Enough):  # after a wait in which what is dead would be noticed
                search.search(tmp_path, plan, 2, enough)
            assert states_of(open_study(tmp_path, plan)) == ["RUNNING", "COMPLETE"]
        finally:
            other.kill()
    study = searched_again(tmp_path, plan, 3)
    assert states_of(study) == ["FAIL", *["COMPLETE"] * 3]
    (again,) = (x for x in study.trials if x.system_attrs.get("failed_trial") == 0)
    assert study.trials[0].params == again.params and again.user_attrs["settings"] == {}


def test_failed_trials_do_not_count(plan, tmp_path, monkeypatch):
    faked(monkeypatch, 1.0, RuntimeError("what a user wrote"), 1.0, RuntimeError())
    study = searched_again(tmp_path, plan, 4)
    assert len(trials_of(study, "COMPLETE", "PRUNED")) == 4
    failed = trials_of(study, "FAIL")
    assert [x.user_attrs["error"] for x in failed] == ["RuntimeError"] * 2
    assert b"what a user wrote" not in (tmp_path / search.DATABASE).read_bytes()


def test_what_fails_again_and_again_is_raised(settings, tmp_path, monkeypatch):
    faked(monkeypatch, *[RuntimeError("broken")] * 3)
    with pytest.raises(RuntimeError, match="broken"):
        tune.run(**settings, output=tmp_path)


def test_to_diverge_is_to_be_worse(plan, tmp_path, monkeypatch):
    faked(monkeypatch, 1.0, FloatingPointError())
    assert states_of(searched_again(tmp_path, plan, 2)) == ["COMPLETE", "PRUNED"]


def test_what_is_behind_the_median_is_given_up(plan, tmp_path, monkeypatch):
    faked(monkeypatch, *(1.0, 2.0, 3.0, 4.0, 5.0), 2.9, 3.1)
    states = states_of(searched_again(tmp_path, plan, 7))
    assert states == [*["COMPLETE"] * 5, "PRUNED", "COMPLETE"]


def test_a_trial_too_many_of_two_processes_does_not_count(plan, tmp_path, monkeypatch):
    faked(monkeypatch)
    study = searched_again(tmp_path, plan, 2)
    study.optimize(search._objective(plan, 2), n_trials=1, catch=(search._Surplus,))
    assert states_of(study) == ["COMPLETE", "COMPLETE", "FAIL"]


def test_measurements_follow_segments_within_worlds(plan, monkeypatch):
    reports, spent = [], {}
    returns = search.score(plan, {}, lambda number, value: reports.append((number, value)), spent)
    assert [number for number, _ in reports] == [0, 2]
    assert [value for _, value in reports] == [returns[0], np.mean(returns)]
    assert spent == {world: 4096.0 for world in WORLDS}


@pytest.mark.parametrize("agent", ["content", "oracle-planning"])
def test_an_agent_that_does_not_learn_online_is_measured_as_it_is(agent, tiny):
    plan, reports, spent = Plan(agent, "llmrec/Drift-v1", WORLDS, 4096, 6, env=tiny), [], {}
    returns = search.score(plan, {}, lambda number, value: reports.append(value), spent)
    assert reports == [returns[0], np.mean(returns)] and spent == {}
    other = {"substance": -4.0}  # what is deep least
    assert search.score(plan, other, lambda *_: None, {}) != returns


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"world": (100, 7)}, r"world=\(100, 7\) must be different numbers from 100 on"),
        ({"world": (100, 100)}, "must be different"),
        ({"world": ()}, "must be different"),
        ({"trials": 0}, "trials=0 is not"),
        ({"users": 1}, "users=1 is not"),
        ({"agent": "pppo"}, "Did you mean 'ppo'"),
        ({"agent": "popular"}, "agent that can be tuned 'popular'"),
        ({"task": "llmrec/Drift-v9"}, "Did you mean 'llmrec/Drift-v1'"),
    ],
)
def test_mistakes_are_told_before_anything_runs(changes, said, settings, tmp_path):
    folder = tmp_path / "none"
    options = settings | changes
    agent = options.pop("agent", "ppo")
    with pytest.raises(ValueError, match=said):
        tune.run(agent, **options, output=folder)
    assert not folder.exists()


def test_other_settings_and_spaces_are_not_mixed_in(searched, settings, monkeypatch):
    folder, _, _ = searched
    with pytest.raises(store.ResultsError, match="seed was 0, now 1"):
        tune.run(**settings, seed=1, output=folder, resume=True)
    with pytest.raises(store.ResultsError, match="already holds"):
        tune.run(**settings, output=folder)
    narrow = replace(AGENTS["ppo"], search_space={"gamma": Choice(0.5, 0.98)})
    monkeypatch.setitem(AGENTS, "ppo", narrow)
    with pytest.raises(store.ResultsError, match=r"space\.learning_rate was"):
        tune.run(**settings, output=folder, resume=True)


def test_an_old_search_is_deleted_on_demand(settings, tmp_path, monkeypatch):
    faked(monkeypatch)
    for trials, overwrite in ((2, False), (1, True)):
        plan = {"trials": trials, "confirm": 0, "overwrite": overwrite}
        tune.run(**settings, **plan, output=tmp_path)
        assert len(rows_of(tmp_path)) == trials


def test_without_optuna_it_says_what_to_install(settings, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "optuna", None)
    with pytest.raises(ImportError, match=r"llmrec-env\[tune\]"):
        tune.run(**settings, output=tmp_path / "none")


def test_an_entry_replaces_no_other_of_its_dictionary():
    made = nested("ppo", {"gamma": 0.9, "policy_kwargs.net_arch": [8], "policy_kwargs.x": 1})
    whole = {**defaults_of("ppo")["policy_kwargs"], "net_arch": [8], "x": 1}
    assert made == {"gamma": 0.9, "policy_kwargs": whole}
    assert defaults_of("ppo")["policy_kwargs"]["net_arch"] == [64, 64]
    assert flat(made, {"policy_kwargs.net_arch": 0, "n_steps": 0}) == {
        "policy_kwargs.net_arch": [8]
    }


@pytest.mark.parametrize(
    ("values", "inside", "outside"),
    [
        (Uniform(0.0, 1.0), (0.0, 1.0, 1), (1.1, "a", True, None)),
        (Integer(1, 3), (1, 3), (0, 4, 1.5)),
        (Choice([64, 64], "auto", 0.0), ([64, 64], "auto", 0.0), ([64], None)),
    ],
)
def test_defaults_outside_a_range_are_not_said_to_be_tried(values, inside, outside):
    assert all(raw_value(values, x) is not None for x in inside)
    assert all(raw_value(values, x) is None for x in outside)


@pytest.fixture(scope="module", params=list(ALGORITHMS))
def table(request):
    """Name and ranges of each agent, as they are outside these tests."""
    return request.param, WHOLE[request.param].search_space


def test_every_default_is_in_its_range(table):
    name, space = table
    defaults = flat(defaults_of(name), space)
    outside = [key for key, value in defaults.items() if raw_value(space[key], value) is None]
    assert outside == []


def test_every_name_is_a_setting_of_its_algorithm(table):
    name, space = table
    kind = algorithm_class(ALGORITHMS[name].module, ALGORITHMS[name].class_name)
    known = {*parameters_of(kind), *OWN}
    assert {key.partition(".")[0] for key in space} <= known


@pytest.mark.slow
def test_processes_share_a_search(settings, tmp_path):
    best = tune.run(**settings, trials=6, confirm=1, jobs=2, output=tmp_path)
    assert len(outcomes(tmp_path)) == 6
    assert float(rows_of(tmp_path)[best["trial"]]["return"]) == best["return"]
