"""Saved agents: they act as before, and in no environment that they were not made for."""

from __future__ import annotations

import json
import pickle
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from test_contract import BUDGET, OTHER_TEXTS, SETTINGS, N, play_steps
from tiny_bert import save_tiny_bert

from agents import AGENTS, Privileged, base, checkpoint, make_agent
from agents.checkpoint import load_agent, read_saved, save_agent, sketch
from agents.rankers.als import Collaborative
from llmrec_env.config import EnvConfig


def _fitted(name, new_vec, settings=None, **env):
    """An agent that has learnt, and how to make the environment it acts in."""
    agent = make_agent(name, EnvConfig(**env), 2, **(settings or SETTINGS.get(name, {})))
    env |= {"action": agent.action, "observation": agent.observation}
    env |= {"slate_size": 1} if agent.action == "item" else {}
    agent.fit(new_vec(N, autoreset_mode="same_step", **env), BUDGET)
    return agent, EnvConfig(**env), lambda **more: new_vec(N, **{**env, "split": "test", **more})


def _play(agent, env, steps=12):
    if isinstance(agent, Privileged):
        agent.attach(env)
    return play_steps(agent, env, steps)


@pytest.mark.parametrize("name", [name for name in AGENTS if name not in OTHER_TEXTS])
def test_a_saved_agent_acts_bit_for_bit_as_before(name, tiny, new_vec, tmp_path):
    agent, config, new_env = _fitted(name, new_vec, **tiny)
    save_agent(agent, config, tmp_path)
    loaded = load_agent(tmp_path, new_env())
    assert type(loaded) is type(agent) and loaded.name == name
    actions = _play(agent, new_env())
    np.testing.assert_array_equal(_play(loaded, new_env()), actions)
    save_agent(loaded, config, tmp_path / "again")
    for file in (base.RECORD, base.WEIGHTS):
        assert (tmp_path / file).read_bytes() == (tmp_path / "again" / file).read_bytes()


@pytest.mark.parametrize("name", OTHER_TEXTS)
def test_one_with_a_language_model_acts_as_before(name, tiny, new_vec, tmp_path, monkeypatch):
    pytest.importorskip("peft", reason="peft is not installed")
    monkeypatch.setenv("LLMREC_CACHE", str(tmp_path / "cache"))
    settings = {"epochs": 1, "batch_size": 256, "rank": 4, "language_samples": 32}
    settings |= {"language_batch": 16, "language_rate": 1e-2, "skipped": 0.3}
    bert = str(save_tiny_bert(tmp_path / "bert"))
    agent, config, new_env = _fitted(name, new_vec, settings, **{**tiny, "encoder": bert})
    save_agent(agent, config, tmp_path / "agent")
    loaded = load_agent(tmp_path / "agent", new_env())
    np.testing.assert_array_equal(loaded.alpha, agent.alpha)
    np.testing.assert_array_equal(_play(loaded, new_env()), _play(agent, new_env()))
    assert (loaded.settings, loaded.language) == (agent.settings, agent.language)
    assert loaded.encoder_rate == agent.encoder_rate


@pytest.fixture(scope="module")
def collaborative(tiny, new_vec):
    return _fitted("collaborative", new_vec, {"rank": 7}, **tiny)


@pytest.fixture
def folder(collaborative, tmp_path):
    agent, config, _ = collaborative
    save_agent(agent, config, tmp_path / "agent")
    return tmp_path / "agent"


def test_the_record_holds_settings_and_numbers_and_no_text(folder, world):
    said = read_saved(folder)
    assert (said.name, said.settings["rank"]) == ("collaborative", 7)
    assert said.config.candidates == 20 and said.made_for["num_items"] == 600
    written = (folder / base.RECORD).read_text()
    texts = (*world.phrases.texts, *world.catalog.texts)
    assert not any(json.dumps(text)[1:-1] in written for text in texts)


def test_it_acts_under_other_dynamics_in_other_worlds_and_for_other_users(folder, collaborative):
    new_env = collaborative[2]
    for changes in (
        {"switch_rate": 0.3, "off": ["goodwill"]},
        {"split": "validation", "horizon": 20},
        {"world_seed": 1, "num_users": 40},
    ):
        assert _play(load_agent(folder, new_env(**changes)), new_env(**changes)).shape == (12, N, 5)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"dim": 16}, ["dim is 32 there, 16 here", r"observation interest has shape \[32\] there"]),
        ({"candidates": 30}, ["candidates is 20 there, 30 here", "candidate_features"]),
        ({"slate_size": 3}, ["slate_size is 5 there, 3 here", "action_space is 'MultiDiscrete"]),
        ({"num_items": 500}, ["num_items is 600 there, 500 here"]),
        ({"observation": "vector"}, ["observation is 'dict' there, 'vector' here", "observation "]),
        ({"action": "weights"}, ["action is 'slate' there, 'weights' here", r"Box\(-1.0, 1.0"]),
        ({"history": "document"}, ["history is 'pooled' there, 'document' here"]),
        ({"encoder": "hashing-64"}, ["another catalogue or encoder: 'video' read by 'hashing' th"]),
    ],
)
def test_it_acts_in_no_environment_that_differs_in_what_it_needs(
    folder, collaborative, changes, said
):
    env = collaborative[2](**changes)
    for text in (*said, "the agent 'collaborative' was made for another environment", "Build the"):
        with pytest.raises(ValueError, match=text):
            load_agent(folder, env)


def test_items_are_told_from_others_but_not_by_how_a_machine_rounds(world):
    vectors = world.items.vectors
    noise = 1e-5 * np.random.default_rng(0).normal(size=vectors.shape).astype(np.float32)
    np.testing.assert_allclose(sketch(vectors + noise), sketch(vectors), atol=checkpoint._NEAR / 10)
    swapped, changed = vectors.copy(), vectors.copy()
    swapped[[3, 4]] = vectors[[4, 3]]
    changed[17] = -vectors[17]
    for other in (swapped, changed, vectors[::-1]):
        assert np.abs(np.subtract(sketch(other), sketch(vectors))).max() > 3 * checkpoint._NEAR


def _rewrite(folder, **changes):
    """Changes the record as one who knows the format would."""
    record = json.loads((folder / base.RECORD).read_text()) | changes
    record["record_sha256"] = base._digest(record)
    (folder / base.RECORD).write_text(json.dumps(record))


class Code:
    """What a file runs if it is unpickled."""

    def __reduce__(self):
        return Path.mkdir, (Path("ran"),)


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (lambda x: (x / base.RECORD).unlink(), r"config.json: No such file.*train an agent into"),
        (lambda x: (x / base.WEIGHTS).unlink(), r"weights.safetensors: No such file.*restore it"),
        (lambda x: (x / base.RECORD).write_text("{"), "not the record of an agent"),
        (lambda x: (x / base.RECORD).write_bytes(b"\xff\xfe"), "not the record of an agent"),
        (lambda x: (x / base.RECORD).write_bytes(pickle.dumps(Code())), "not the record"),
        (lambda x: (x / base.WEIGHTS).write_bytes(pickle.dumps(Code())), "not the file that"),
        (lambda x: _flip(x / base.WEIGHTS), "not the file that config.json was written with"),
        (lambda x: _edit(x / base.RECORD, '"rank": 7', '"rank": 8'), "has been edited; restore it"),
        (lambda x: _edit(x / base.RECORD, '"dim": 32', '"dim": 64'), "has been edited; restore it"),
        (lambda x: _rewrite(x, agent="colaborative"), "Did you mean 'collaborative'"),
        (lambda x: _rewrite(x, format=2), r"has format 2.*reads formats up to 1"),
        (lambda x: _rewrite(x, version="9.9.9"), r"made with llmrec_env 9.9.9.*install that"),
        (lambda x: _rewrite(x, config={"rnk": 1}), "does not take these settings"),
        (lambda x: _rewrite(x, agent="ease", config={}), r"do not fit the agent 'ease'.*KeyError"),
        (lambda x: _rewrite(x, environment={"dims": 1}), "Did you mean 'dim'"),
    ],
)
def test_damaged_and_foreign_files_are_refused(
    folder, collaborative, damage, said, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    damage(folder)
    with pytest.raises(ValueError, match=said):
        load_agent(folder, collaborative[2]())
    assert not Path("ran").exists()


def _flip(file):
    data = bytearray(file.read_bytes())
    data[-1] ^= 1
    file.write_bytes(data)


def _edit(file, old, new):
    text = file.read_text()
    assert old in text
    file.write_text(text.replace(old, new))


def test_one_written_without_its_environment_says_so(tmp_path, collaborative):
    collaborative[0].save(tmp_path)
    with pytest.raises(ValueError, match=r"does not say which environment.*save_agent"):
        load_agent(tmp_path, collaborative[2]())


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_weights_that_are_not_finite_are_neither_saved_nor_loaded(
    value, folder, collaborative, tiny, new_vec
):
    agent, config, new_env = collaborative
    broken = Collaborative(rank=7)
    broken.load({"item_factors": agent.item_factors.copy()}, new_env())
    broken.item_factors[5, 2] = value
    with pytest.raises(ValueError, match=r"NaN or infinite in 'item_factors'; nothing was saved"):
        save_agent(broken, config, folder)
    load_agent(folder, new_env())  # the one before
    record = base.read_record(folder)
    more = {key: record[key] for key in ("version", "made_for", "environment")}
    weights = {"item_factors": broken.item_factors}
    base.write_agent(folder, "collaborative", record["config"], weights, **more)
    with pytest.raises(ValueError, match=r"NaN or infinite in 'item_factors'; train it again"):
        load_agent(folder, new_env())


KILLED = """
import os, sys
from pathlib import Path
import numpy as np
from agents import base
step, replace, unlink, count = int(sys.argv[2]), os.replace, Path.unlink, 0
def dying(function):
    def call(*arguments, **keywords):
        global count
        if count == step:
            os.kill(os.getpid(), 9)
        count += 1
        return function(*arguments, **keywords)
    return call
base.os.replace, Path.unlink, base.os.fsync = map(dying, (replace, unlink, os.fsync))
base.write_agent(Path(sys.argv[1]), "new", {}, {"a": np.ones(3)})
"""


@pytest.mark.parametrize("step", range(6))
def test_a_killed_save_leaves_the_old_agent_or_none(step, tmp_path):
    base.write_agent(tmp_path, "old", {}, {"a": np.zeros(3)})
    command = [sys.executable, "-c", KILLED, str(tmp_path), str(step)]
    died = subprocess.run(command, cwd=Path(base.__file__).parents[1]).returncode
    if step == 5:
        assert died == 0 and base.read_agent(tmp_path)[0] == "new"
        return
    assert died == -signal.SIGKILL
    if step < 3:
        name, _, weights = base.read_agent(tmp_path)
        assert name == "old" and not weights["a"].any()
    else:
        with pytest.raises(ValueError, match="No such file"):
            base.read_agent(tmp_path)
    base.write_agent(tmp_path, "newer", {}, {"a": np.zeros(3)})
    assert base.read_agent(tmp_path)[0] == "newer"


def test_a_failed_save_leaves_the_old_agent_and_no_other_file(tmp_path, monkeypatch):
    base.write_agent(tmp_path, "old", {}, {})

    def full(_):
        raise OSError("no space")

    monkeypatch.setattr(base.os, "fsync", full)
    with pytest.raises(OSError, match="no space"):
        base.write_agent(tmp_path, "new", {}, {})
    assert base.read_agent(tmp_path)[0] == "old"
    assert {x.name for x in tmp_path.iterdir()} == {base.RECORD, base.WEIGHTS}


def test_numbers_without_an_axis_come_back_as_they_were(tmp_path):
    base.write_agent(tmp_path, "some", {}, {"a": np.array(2.5, np.float32)})
    value = base.read_agent(tmp_path)[2]["a"]
    assert value.shape == () and value.dtype == np.float32 and value == 2.5
