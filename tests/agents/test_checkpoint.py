"""Saved agents: they act as before, and in no environment that they were not made for."""

from __future__ import annotations

import json

import numpy as np
import pytest
from test_saving import rewrite
from tiny_bert import own_cache, save_tiny_bert

from agents import AGENTS, compatibility, saving
from agents.checkpoint import load_agent, read_saved, save_agent
from agents.compatibility import sketch
from agents.rankers.als import Collaborative


def test_a_saved_agent_acts_bit_for_bit_as_before(fitted, name, play_steps, tmp_path):
    agent, config, new_env, folder, actions = fitted(name)
    loaded = load_agent(folder, new_env())
    assert type(loaded) is type(agent) and loaded.name == name
    save_agent(loaded, config, tmp_path)
    for file in (saving.RECORD, saving.WEIGHTS):
        assert (tmp_path / file).read_bytes() == (folder / file).read_bytes()
    np.testing.assert_array_equal(play_steps(loaded, new_env()), actions)


@pytest.mark.parametrize("kind", [name for name, spec in AGENTS.items() if spec.trains_encoder])
def test_one_with_a_language_model_acts_as_before(
    kind, tiny, fit_agent, play_steps, tmp_path, monkeypatch
):
    pytest.importorskip("peft", reason="peft is not installed")
    own_cache(monkeypatch, tmp_path / "cache")
    settings = {"sweeps": 1, "lora_rank": 4, "language_epochs": 1, "encoder": ""}
    settings |= {"language_batch": 200, "language_rate": 1e-2, "patience": 0.3}
    bert = str(save_tiny_bert(tmp_path / "bert"))
    agent, config, new_env = fit_agent(kind, settings, **{**tiny, "encoder": bert})
    save_agent(agent, config, tmp_path / "agent")
    loaded = load_agent(tmp_path / "agent", new_env())
    np.testing.assert_array_equal(loaded.texts.read, agent.texts.read)
    np.testing.assert_array_equal(play_steps(loaded, new_env()), play_steps(agent, new_env()))
    assert (loaded.settings, loaded.language) == (agent.settings, agent.language)
    np.testing.assert_array_equal(loaded.texts.rows, agent.texts.rows)


@pytest.fixture(scope="module")
def collaborative(tiny, fit_agent):
    return fit_agent("collaborative", {"rank": 7}, **tiny)


@pytest.fixture
def folder(collaborative, tmp_path):
    agent, config, _ = collaborative
    save_agent(agent, config, tmp_path / "agent")
    return tmp_path / "agent"


def test_the_record_holds_settings_and_numbers_and_no_text(folder, world):
    said = read_saved(folder)
    assert (said.name, said.settings["rank"]) == ("collaborative", 7)
    assert said.config.candidates == 20 and said.made_for["num_items"] == 600
    written = (folder / saving.RECORD).read_text()
    texts = (*world.phrases.texts, *world.catalog.texts)
    assert not any(json.dumps(text)[1:-1] in written for text in texts)


def test_it_acts_under_other_dynamics_and_for_other_users(folder, collaborative, play_steps):
    new_env = collaborative[2]
    for changes in (
        {"switch_rate": 0.3, "off": ["goodwill"]},
        {"response": "cascade"},
        {"split": "validation", "horizon": 20, "num_users": 40},
    ):
        loaded = load_agent(folder, new_env(**changes))
        assert play_steps(loaded, new_env(**changes)).shape == (12, 4, 5)


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
    vectors, tolerance = world.items.vectors, compatibility._TOLERANCE
    noise = 1e-5 * np.random.default_rng(0).normal(size=vectors.shape).astype(np.float32)
    np.testing.assert_allclose(sketch(vectors + noise), sketch(vectors), atol=tolerance / 10)
    swapped, changed = vectors.copy(), vectors.copy()
    swapped[[3, 4]] = vectors[[4, 3]]
    changed[17] = -vectors[17]
    for other in (swapped, changed, vectors[::-1]):
        assert np.abs(np.subtract(sketch(other), sketch(vectors))).max() > 3 * tolerance


def _nested(depth):
    return [_nested(depth - 1)] if depth else []


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"agent": "colaborative"}, "Did you mean 'collaborative'"),
        ({"task_version": "v9"}, r"made for tasks of version v9, these are v\d"),
        ({"config": {"rnk": 1}}, "does not take these settings"),
        ({"config": {"seed": "x"}}, "agent 'collaborative'"),
        ({"config": {"config": 1}}, "does not take these settings"),
        ({"config": {"rank": _nested(500)}}, "do(es)? not"),
        ({"agent": "ease", "config": {}}, r"do not fit the agent 'ease'.*KeyError"),
        ({"agent": "slateq", "config": {}}, "do not fit the agent 'slateq'"),
        ({"agent": "ppo", "config": {}}, "made for another environment|do not fit"),
        ({"environment": {"dims": 1}}, "Did you mean 'dim'"),
        ({"environment": {"dim": "x"}}, "dim"),
        ({"environment": {"off": [[]]}}, "off"),
        ({"environment": []}, "does not say which environment"),
        ({"made_for": 5}, "does not say which environment"),
        ({"made_for": {}}, "made for another environment"),
        ({"made_for": {"observation_space": 7}}, "made for another environment"),
        ({"made_for": {"item_vectors": ["x"]}}, "another environment"),
    ],
)
def test_records_of_other_agents_and_types_are_refused(folder, collaborative, changes, text):
    if "made_for" in changes and isinstance(changes["made_for"], dict) and changes["made_for"]:
        changes = {"made_for": read_saved(folder).made_for | changes["made_for"]}
    rewrite(folder, **changes)
    with pytest.raises(ValueError, match=text):
        load_agent(folder, collaborative[2]())


def test_another_version_of_the_package_is_warned_of_and_no_more(folder, collaborative, play_steps):
    agent, _, new_env = collaborative
    rewrite(folder, version="9.9.9")
    with pytest.warns(UserWarning, match=r"made with llmrec_env 9\.9\.9, this is"):
        loaded = load_agent(folder, new_env())
    np.testing.assert_array_equal(play_steps(loaded, new_env()), play_steps(agent, new_env()))


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
    record = saving.read_record(folder)
    more = {key: record[key] for key in ("version", "task_version", "made_for", "environment")}
    weights = {"item_factors": broken.item_factors}
    saving.write_agent(folder, "collaborative", record["config"], weights, **more)
    with pytest.raises(ValueError, match=r"NaN or infinite in 'item_factors'; train it again"):
        load_agent(folder, new_env())
