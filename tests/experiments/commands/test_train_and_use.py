"""Train, evaluate and watch one agent: the three commands end to end on a tiny world."""

from __future__ import annotations

import functools
import json
from pathlib import Path

import numpy as np
import pytest
import tyro

from agents import saving
from agents.checkpoint import read_saved
from agents.rankers.baselines import Content
from experiments import store
from experiments.agent_settings import read_settings
from experiments.commands import evaluate, train, watch
from experiments.runs import training
from experiments.runs.evaluation import execute_run
from experiments.runs.spec import RunSpec
from experiments.store import Episode, LearningPoint, ResultsError

PPO = ("n_steps=8", "batch_size=128", "n_epochs=1")
SEGMENT = 1024


@pytest.fixture(autouse=True)
def short_segments(monkeypatch):
    monkeypatch.setattr(training, "SEGMENT", SEGMENT)


@pytest.fixture(scope="module")
def env(tiny):
    return tiny | {"switch_rate": 0.1}


@pytest.fixture(scope="module")
def ppo(env, tmp_path_factory):
    """The folder of a trained agent, and its learning curve."""
    folder = tmp_path_factory.mktemp("trained") / "ppo"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(training, "SEGMENT", SEGMENT)
        points = train.run("ppo", steps=2e3, output=folder, world=1, seed=5, settings=PPO, env=env)
    return folder, points


# --- train


def test_training_saves_the_agent_and_its_curve(ppo):
    folder, points = ppo
    assert [point.train_steps for point in points] == [1024, 2048]
    assert store.read_table(folder, LearningPoint) == points
    saved = read_saved(folder)
    assert (saved.name, saved.settings["seed"], saved.settings["n_steps"]) == ("ppo", 5, 8)
    assert (saved.config.world_seed, saved.config.switch_rate) == (1, 0.1)
    config = store.read_manifest(folder)["config"]
    assert config["steps"] == 2000 and config["task"] == "llmrec/Drift-v1"
    assert not list((folder / store.CHECKPOINTS).iterdir())


def test_a_killed_training_goes_on_to_the_same_agent(ppo, env, tmp_path, monkeypatch):
    class Killed(BaseException):
        pass

    measured = []

    def dying(agent, spec):
        def validate():
            measured.append(1)
            if len(measured) == 2:
                raise Killed
            return 0.0

        return validate

    how = dict(steps=2e3, output=tmp_path, world=1, seed=5, settings=PPO, env=env)
    with monkeypatch.context() as patch:
        patch.setattr(train, "validator", dying)
        with pytest.raises(Killed):
            train.run("ppo", **how)
    assert not (tmp_path / saving.RECORD).exists()
    with pytest.raises(ResultsError, match="already holds"):
        train.run("ppo", **how)
    with pytest.raises(ResultsError, match=r"seed was 5, now 6"):
        train.run("ppo", **{**how, "seed": 6}, resume=True)
    train.run("ppo", **how, resume=True)
    for file in (saving.RECORD, saving.WEIGHTS):
        assert (tmp_path / file).read_bytes() == (ppo[0] / file).read_bytes()


def test_an_interrupted_training_leaves_an_agent_and_says_how_to_go_on(
    ppo, env, tmp_path, monkeypatch
):
    from agents.rl.sb3 import StableBaselines

    learn = StableBaselines.learn

    def stopped(self, env, num_steps, segment, done):
        steps = learn(self, env, num_steps, segment, done)
        if segment == 1:
            raise KeyboardInterrupt
        return steps

    arguments = {
        "steps": 2e3,
        "output": tmp_path,
        "world": 1,
        "seed": 5,
        "settings": PPO,
        "env": env,
    }
    with monkeypatch.context() as patch:
        patch.setattr(StableBaselines, "learn", stopped)
        with pytest.raises(KeyboardInterrupt, match=r"agent so far is in .*--resume goes on"):
            train.run("ppo", **arguments)
    assert watch.run(str(tmp_path), max_steps=2, delay=0.0) >= 0.0
    train.run("ppo", **arguments, resume=True)
    for file in (saving.RECORD, saving.WEIGHTS):
        assert (tmp_path / file).read_bytes() == (ppo[0] / file).read_bytes()


def test_an_interrupted_training_that_has_not_begun_can_be_resumed(env, tmp_path, monkeypatch):
    from agents.rl.sb3 import StableBaselines

    def stopped(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(StableBaselines, "learn", stopped)
        with pytest.raises(KeyboardInterrupt, match=r"No agent is in .* --resume goes on"):
            train.run("ppo", steps=512, output=tmp_path, settings=PPO, env=env)
    assert train.run("ppo", steps=512, output=tmp_path, settings=PPO, env=env, resume=True)


def test_a_training_on_a_belief_goes_on_with_this_belief_alone(env, tmp_path):
    belief, output = tmp_path / "belief", tmp_path / "levels"
    train.run("joint", output=belief, seed=1, settings=("sweeps=1",), env=env)
    settings = ("n_steps=8", "batch_size=64", f"belief={json.dumps(str(belief))}")
    how = dict(steps=512, output=output, settings=settings, env=env)
    points = train.run("ppo-levels", **how)
    assert train.run("ppo-levels", **how, resume=True) == points
    train.run("joint", output=belief, seed=2, settings=("sweeps=1",), env=env, overwrite=True)
    with pytest.raises(ResultsError, match=r"other settings: belief was .*, now .*another folder"):
        train.run("ppo-levels", **how, resume=True)


def test_the_running_return_is_that_of_the_latest_episodes(new_vec):
    env = new_vec(4, horizon=5, autoreset_mode="same_step")
    returns = train.EpisodeReturns(env, num_episodes=4)
    env.reset(seed=0)
    env.step(np.zeros((4, 5), np.int64))
    assert np.isnan(returns.mean)
    env.reset(seed=0)  # an episode that is cut off does not count
    rewards = [env.step(np.zeros((4, 5), np.int64))[1] for _ in range(5)]
    assert returns.mean == pytest.approx(np.sum(rewards) / 4)


def test_what_is_trained_is_neither_trained_again_nor_overwritten_unasked(ppo, env, tmp_path):
    folder, points = ppo
    how = dict(steps=2e3, output=folder, world=1, seed=5, settings=PPO, env=env)
    before = (folder / saving.WEIGHTS).stat().st_mtime_ns
    assert train.run("ppo", **how, resume=True) == points
    assert (folder / saving.WEIGHTS).stat().st_mtime_ns == before
    with pytest.raises(ResultsError, match="already holds an agent"):
        train.run("content", output=folder, env=env)
    train.run("content", output=tmp_path, env=env)
    evaluate.run(str(tmp_path), env=env)
    points = train.run("content-recency", output=tmp_path, env=env, overwrite=True)
    assert read_saved(tmp_path).name == "content-recency" and points[0].ret > 0
    assert points[0].train_steps == 0
    assert not (tmp_path / evaluate.EVALUATION).exists()


def test_tensorboard_follows_it(env, tmp_path):
    pytest.importorskip("tensorboard", reason="tensorboard is not installed")
    how = dict(steps=512, output=tmp_path, settings=PPO, env=env)
    train.run("ppo", **how, track=("tensorboard",))
    assert list((tmp_path / "tensorboard").rglob("events*"))


def test_a_training_that_diverges_keeps_the_last_good_agent(env, tmp_path, monkeypatch):
    from agents.rl.sb3 import StableBaselines

    learn = StableBaselines.learn

    def diverging(self, env, num_steps, segment, done):
        if segment == bad:
            raise FloatingPointError("the loss is NaN; the agent is as it was.")
        return learn(self, env, num_steps, segment, done)

    monkeypatch.setattr(StableBaselines, "learn", diverging)
    how = dict(steps=2e3, settings=PPO, env=env)
    bad = 0
    with pytest.raises(ResultsError, match=r"the loss is NaN.*Nothing is saved"):
        train.run("ppo", output=tmp_path, **how)
    assert not (tmp_path / saving.RECORD).exists()
    bad = 1  # into the same folder, which holds nothing
    with pytest.raises(ResultsError, match=r"the loss is NaN.*That agent is saved in"):
        train.run("ppo", output=tmp_path, **how)
    assert watch.run(str(tmp_path), max_steps=2, delay=0.0) >= 0.0


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"agent": "pppo"}, "Did you mean 'ppo'"),
        ({"task": "llmrec/Drift-v2"}, "Did you mean 'llmrec/Drift-v1'"),
        ({"steps": 1.5}, r"steps=1.5 is not a whole number of steps; write 500000 or 1e6"),
        ({"steps": float("inf")}, "not a whole number"),
        ({"settings": ("rank",)}, r"--set 'rank' is not name=value"),
        ({"settings": ("rank=3", "rank=4")}, "with a new name"),
        ({"settings": ("rank=[3",)}, r"rank='\[3' is neither JSON nor a plain word"),
        ({"settings": ("rank=NaN",)}, "neither JSON"),
        ({"agent": "ease", "settings": ("rank=3",)}, "does not take these settings"),
        ({"agent": "ppo", "settings": ("action=item",)}, "set slate_size=1, or use action='slate'"),
    ],
)
def test_what_cannot_be_trained_is_refused_and_nothing_is_written(changes, said, env, tmp_path):
    options = {"agent": "collaborative", "output": tmp_path / "new", "env": env, **changes}
    agent = options.pop("agent")
    with pytest.raises(ValueError, match=said):
        train.run(agent, **options)
    assert not (tmp_path / "new").exists()


def test_a_wrong_setting_leaves_the_folder_free(env, tmp_path):
    with pytest.raises((TypeError, ValueError), match="learning_rte"):
        train.run("ppo", steps=512, output=tmp_path, settings=("learning_rte=1",), env=env)
    assert train.run("ppo", steps=512, output=tmp_path, settings=PPO, env=env)


def test_settings_are_json_or_a_plain_word():
    words = ("a=1e-3", "b=[64, 64]", 'c={"x": null}', "d=bpr", "e=true", 'f="1"', "g=~/a-b/c.d")
    assert read_settings(words) == {
        **{"a": 0.001, "b": [64, 64], "c": {"x": None}},
        **{"d": "bpr", "e": True, "f": "1", "g": "~/a-b/c.d"},
    }


@pytest.mark.parametrize(
    ("function", "words"),
    [
        (train.run, "ppo --steps 1e6 --set n_steps=8 gamma=0.9"),
        (evaluate.run, "runs/ppo --users 400 --world 0 1 --against drift-aware joint"),
        (watch.run, "runs/ppo --user 12 --video out --max-steps 5 --delay 0"),
    ],
)
def test_the_command_lines_are_understood(function, words):
    given = {}

    @functools.wraps(function)
    def kept(*arguments, **keywords):
        given.update(zip(("agent",), arguments, strict=False), **keywords)

    tyro.cli(kept, args=words.split())
    if function is train.run:
        assert given["steps"] == 1e6 and given["settings"] == ("n_steps=8", "gamma=0.9")
    elif function is evaluate.run:
        assert given["world"] == (0, 1) and given["against"] == ("drift-aware", "joint")
    else:
        assert given["agent"] == "runs/ppo" and given["video"] == Path("out")


# --- evaluate


def test_it_finds_what_a_benchmark_finds(ppo, env):
    folder, points = ppo
    evaluate.run(str(folder))
    settings = read_settings(PPO)
    spec = RunSpec("llmrec/Drift-v1", "ppo", 1, 5, 2000, env=env, settings=settings)
    result = execute_run(spec)
    assert repr(store.read_table(folder, Episode)) == repr(result.episodes)  # NaN equals nothing
    assert [[x.train_steps, x.ret] for x in points] == result.learning


def test_an_evaluation_compares_paired_sessions(ppo, capsys):
    folder, _ = ppo
    comparisons = evaluate.run(
        str(folder), against=("random", "oracle-myopic"), world=(0, 1), users=4
    )
    assert [row.agent for row in comparisons] == ["ppo", "random", "oracle-myopic"]
    episodes = store.read_table(folder, Episode)
    returns = {
        row.agent: np.array([x.ret for x in episodes if x.agent == row.agent])
        for row in comparisons
    }
    assert {(x.world, x.seed) for x in episodes if x.agent == "ppo"} == {(0, 5), (1, 5)}
    for row in comparisons:
        assert len(returns[row.agent]) == 8 and row.mean.low <= row.mean.value <= row.mean.high
        assert row.mean.value == pytest.approx(returns[row.agent].mean())
    assert comparisons[0].improvement is None
    expected = comparisons[0].mean.value / comparisons[2].mean.value - 1
    assert comparisons[2].improvement.value == pytest.approx(expected)
    assert comparisons[2].improvement.high < 0
    record = json.loads((folder / evaluate.EVALUATION).read_text())
    assert record["task"] == "llmrec/Drift-v1" and record["env"]["switch_rate"] == 0.1
    assert record["agents"][0]["mean"] == [*comparisons[0].mean]
    said = capsys.readouterr().out
    assert "improvement of ppo over it" in said and "8 test users" in said


def test_it_plays_the_task_it_was_trained_on_unless_told_otherwise(ppo, env, tmp_path):
    folder = tmp_path / "content"
    train.run("content", task="llmrec/Goodwill-v1", output=folder, env=env)
    evaluate.run(str(folder), output=tmp_path)
    own = store.read_table(tmp_path, Episode)
    assert {x.task for x in own} == {"llmrec/Goodwill-v1"} and {x.world for x in own} == {0}
    evaluate.run(str(folder), task="llmrec/Static-v1", output=tmp_path)
    static = store.read_table(tmp_path, Episode)
    assert {x.task for x in static} == {"llmrec/Static-v1"}
    assert json.loads((tmp_path / evaluate.EVALUATION).read_text())["env"] == {
        **{"encoder": "hashing", "num_items": 600, "num_users": 60, "dim": 32, "candidates": 20}
    }
    assert [x.ret for x in own] != [x.ret for x in static]


def test_what_knows_items_goes_to_another_world_on_purpose_alone(env, tmp_path):
    folder = tmp_path / "drift-aware"
    train.run("drift-aware", output=folder, env=env)
    with pytest.raises(ValueError, match=r"the items of world 0, and this is world 1.*--transfer"):
        evaluate.run(str(folder), world=(0, 1))
    (own,) = evaluate.run(str(folder), world=(0, 1), transfer=True)
    (there,) = evaluate.run(str(folder), world=(1,), transfer=True)
    assert own.mean.value != there.mean.value > 0


def test_saved_agents_are_compared_with_each_other(ppo, env, tmp_path, monkeypatch):
    folder = tmp_path / "other"
    train.run("ppo", steps=512, output=folder, settings=PPO, env=env)
    comparisons = evaluate.run(str(ppo[0]), against=(str(folder),), world=(0,), output=tmp_path)
    assert [row.agent for row in comparisons] == ["ppo@ppo", "ppo@other"]
    monkeypatch.chdir(ppo[0].parent)  # where a folder has the name of an agent
    assert evaluate.run("ppo", world=(0,), output=tmp_path)[0].mean == comparisons[0].mean
    with pytest.raises(ValueError, match=r"would be the second 'ppo@other'"):
        evaluate.run(str(folder), against=(str(folder),))


def test_a_setting_is_compared_with_the_default_on_validation_users(env, tmp_path):
    how = {"against": ("content",), "env": env, "split": "validation"}
    comparisons = evaluate.run("content", settings=("skipped=0.9",), output=tmp_path, **how)
    assert [row.agent for row in comparisons] == ["content@skipped=0.9", "content"]
    assert comparisons[0].mean != comparisons[1].mean
    assert comparisons[1].improvement is not None
    assert json.loads((tmp_path / evaluate.EVALUATION).read_text())["split"] == "validation"
    assert {row.user % 10 for row in store.read_table(tmp_path, Episode)} == {8}
    with pytest.raises(ValueError, match="would be the second 'content'"):
        evaluate.run("content", **how)


def test_a_saved_agent_is_compared_with_itself_acting_otherwise(ppo, env, tmp_path):
    folder, output = str(tmp_path / "slateq"), tmp_path / "evaluated"
    train.run("slateq", steps=64, output=tmp_path / "slateq", settings=("log_epochs=1",), env=env)
    bold = ("interest_optimism=2.0",)
    how = {"against": (folder,), "output": output}
    comparisons = evaluate.run(folder, settings=bold, **how)
    assert [row.agent for row in comparisons] == [
        "slateq@slateq@interest_optimism=2.0",
        "slateq@slateq",
    ]
    assert comparisons[0].mean != comparisons[1].mean
    with pytest.raises(ValueError, match=r"only slates, mmr, .* anew, not 'gamma'; train it again"):
        evaluate.run(folder, settings=("gamma=0.5",))
    with pytest.raises(ValueError, match=r"none of its own can be given anew, not 'gamma'"):
        evaluate.run(str(ppo[0]), settings=("gamma=0.5",))


@pytest.mark.parametrize(
    ("agent", "how", "said"),
    [
        ("radom", {}, r"Did you mean 'random'.*Or name the folder of a saved agent"),
        ("nowhere/at/all", {}, r"config.json: No such file.*train into this folder"),
        ("ppo", {}, r"'ppo' learns online: train it first, python -m experiments train ppo"),
        ("thompson", {}, "learns online"),
        ("random", {"users": 1}, "users=1 gives no interval"),
        ("random", {"task": "llmrec/Drift"}, "Did you mean 'llmrec/Drift-v1'"),
        ("random", {"against": ("random",)}, "second 'random' of the table"),
    ],
)
def test_what_cannot_be_evaluated_is_refused(agent, how, said, env):
    with pytest.raises(ValueError, match=said):
        evaluate.run(agent, env=env, **how)


def test_a_saved_agent_plays_in_no_environment_that_it_was_not_made_for(ppo, env):
    with pytest.raises(ValueError, match=r"made for another environment: dim is 32 there, 16 here"):
        evaluate.run(str(ppo[0]), env={"dim": 16})


# --- watch


def test_the_session_watched_is_the_one_evaluated(ppo, capsys):
    folder, _ = ppo
    evaluate.run(str(folder))
    episode = store.read_table(folder, Episode)[1]
    capsys.readouterr()
    total = watch.run(str(folder), user=episode.user, delay=0.0)
    assert total == pytest.approx(episode.ret)
    screens = capsys.readouterr().out.split("─" * 100)
    assert len(screens) == episode.steps + 2  # with the start, and what follows the last rule
    assert f"User {episode.user} · step 3 of 30" in screens[3] and "SLATE" in screens[3]


def test_a_session_that_is_interrupted_ends_there(new_env):
    agent, env = Content(), new_env(observation="dict")
    agent.load({}, env.unwrapped)
    shown = []

    def show(_):
        shown.append(1)
        if len(shown) == 3:
            raise KeyboardInterrupt

    assert watch.play_session(agent, env, 12, show=show) >= 0.0
    assert len(shown) == 3


@pytest.mark.parametrize("agent", ["random", "content", "oracle-planning"])
def test_agents_that_need_no_training_are_watched_by_name(
    agent, env, capsys, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    watch.run(agent, user=12, max_steps=2, delay=0.0, env=env)
    said = capsys.readouterr().out
    assert "User 12 · step 2 of 30" in said and "step 3 of" not in said
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("how", "said"),
    [
        ({"user": 60}, "user=60 does not exist; allowed: 0 to 59"),
        ({"max_steps": 0}, "max_steps=0 shows nothing"),
        ({"delay": -1.0}, "delay=-1.0 is out of range"),
        ({"delay": float("nan")}, "delay=nan is out of range"),
    ],
)
def test_what_cannot_be_watched_is_refused(how, said, env):
    with pytest.raises(ValueError, match=said):
        watch.run("random", env=env, **how)


def test_without_moviepy_the_extra_is_named(env, tmp_path, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ImportError, match=r"pip install llmrec-env\[video\]"):
        watch.run("random", env=env, video=tmp_path)


@pytest.mark.parametrize("name", ["out/film.mp4", "out"])
def test_a_video_is_written(name, env, tmp_path):
    pytest.importorskip("moviepy", reason="moviepy is not installed")
    pytest.importorskip("matplotlib", reason="matplotlib is not installed")
    watch.run("random", user=12, max_steps=3, video=tmp_path / name, env=env)
    (file,) = (tmp_path / "out").iterdir()
    assert file.name == ("film.mp4" if name.endswith("mp4") else "random-user-12.mp4")
    assert file.read_bytes()[4:8] == b"ftyp"
