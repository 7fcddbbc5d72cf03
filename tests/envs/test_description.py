"""Descriptions say what the state holds, why interests changed, and cost nothing unless wanted."""

from __future__ import annotations

import dataclasses
import re
import warnings
from typing import Any

import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env
from gymnasium.vector import SyncVectorEnv

import llmrec_env
from llmrec_env.config import ConfigError, EnvConfig
from llmrec_env.envs.description import describe, event_sentences, tired_of
from llmrec_env.simulation.response import no_responses

N = 3


@pytest.fixture
def user(world):
    """A user of the tiny world whose every number is set by hand."""
    users = world.users[:1].copy()
    users["active"], users["weight"] = np.arange(8) < 2, 0.0
    users["weight"][0, 1] = -np.log(2.0)
    users["satiation"], users["goodwill"], users["patience"] = 0.0, 0.0, 7.0
    return users[0]


def named(world, user, slot: int) -> str:
    return f'"{world.phrases.texts[int(user["phrase"][slot])]}"'


def response_with(world, **fields: Any) -> np.void:
    responses = no_responses(1, 5)
    responses["slate"], responses["examined"] = np.arange(5), 5
    for name, value in fields.items():
        responses[name] = value
    return responses[0]


# --- one user


def test_interests_stand_with_their_weights_strongest_first(world, user):
    text = describe(world, user)
    first, second = named(world, user, 0), named(world, user, 1)
    assert text.startswith(f"User 0 is into {first} (1.00) and {second} (0.50). Dormant: ")
    for slot in range(2, 8):
        assert named(world, user, slot) in text.split("Dormant: ")[1]


def test_of_a_topic_that_was_consumed_the_user_is_tired(world, user):
    assert "Tired of no topic." in describe(world, user)
    item = int(np.flatnonzero(world.catalog.topics == 3)[0])
    user["satiation"] = 3.0 * world.items.vectors[item]
    topic, value = tired_of(world, user)[0]
    assert topic == world.catalog.topic_names[3]
    assert f"Tired of {topic} ({value:.2f})" in describe(world, user)


@pytest.mark.parametrize(
    ("goodwill", "said"),
    [
        (0.0, "Goodwill +0.00: expects neither much nor little."),
        (0.4, "Goodwill +0.40: depth has built trust, the odds of satisfaction times 1.82."),
        (-0.4, "Goodwill -0.40: clickbait has worn trust down, the odds of satisfaction times 0."),
    ],
)
def test_goodwill_says_what_it_does_to_satisfaction(world, user, goodwill, said):
    user["goodwill"] = goodwill
    assert said in describe(world, user)


@pytest.mark.parametrize(
    ("patience", "said"),
    [
        (7.0, "Patience 7.0 of 15: would leave after 20 slates from which nothing is chosen."),
        (0.36, "would leave after 2 slates"),
        (0.0, "Patience 0.0 of 15: has left."),
    ],
)
def test_patience_says_when_the_user_would_leave(world, user, patience, said):
    user["patience"] = patience
    assert said in describe(world, user)


def test_a_text_is_one_line_without_control_characters(world, user):
    texts = ("tea\n\x1b[2J  pots", *world.phrases.texts[1:])
    user["phrase"][0] = 0
    phrases = dataclasses.replace(world.phrases, texts=texts)
    text = dataclasses.replace(world.text, phrases=phrases)
    assert '"tea [2J pots" (1.00)' in describe(dataclasses.replace(world, text=text), user)


# --- events


def test_each_event_is_a_sentence_with_its_cause(world):
    a, b, *_ = (f'"{text}"' for text in world.phrases.texts)
    expected = {
        f"switched from {a} to {b}, unprompted": {"died": 0, "born": 1},
        f"dropped {a}: more than 6 interests at once": {"slept": 0},
        f"moved from {a} to its neighbour {b}, unprompted": {"refined_from": 0, "refined_to": 1},
        f"typed the query {b}": {"query": 1},
    }
    assert event_sentences(response_with(world), world) == []
    for sentence, ids in expected.items():
        assert event_sentences(response_with(world, **ids), world) == [sentence]
    everything = {name: phrase for ids in expected.values() for name, phrase in ids.items()}
    assert event_sentences(response_with(world, **everything), world) == list(expected)


@pytest.mark.parametrize(("consumed", "verb"), [(False, "being shown"), (True, "consuming")])
def test_what_wakes_is_laid_to_the_item_nearest_to_it(world, consumed, verb):
    cosines = world.items.vectors @ world.interests.vectors[0]
    nearest, far = int(np.argmax(cosines)), np.argsort(cosines)[:4]
    feedback = np.full(5, -1)
    feedback[2] = 1 if consumed else -1
    slate = [*far[:2], nearest, *far[2:]]
    response = response_with(world, woken=0, slate=slate, feedback=feedback)
    phrase, title = world.phrases.texts[0], world.catalog.titles[nearest]
    assert event_sentences(response, world) == [f'took up "{phrase}" after {verb} "{title}"']


def test_a_burst_is_called_one(new_simulator):
    world = new_simulator(burst_step=5).world
    response = response_with(world, died=0, born=1)
    assert event_sentences(response, world, 6)[0].startswith("in a burst, of which this is the las")
    assert event_sentences(response, world, 7)[0].startswith("switched from")


# --- environments


def test_before_and_after_drift(new_env):
    env = new_env(switch_rate=1.0, off=["churn"]).unwrapped
    with pytest.raises(RuntimeError, match="call reset"):
        env.describe()
    env.reset(seed=1, options={"user_id": 7})
    before = env.describe()
    assert before == describe(env.simulator.world, env.simulator.world.users[7])
    env.step(np.arange(5))
    assert env.describe() != before


def test_info_tells_the_same_on_request_and_nothing_otherwise(new_env):
    env, silent = new_env(info_texts=True, switch_rate=1.0), new_env(switch_rate=1.0)
    told, _ = env.reset(seed=1), silent.reset(seed=1)
    assert told[1]["events"] == "" and told[1]["description"] == env.unwrapped.describe()
    *plain, info = env.step(np.arange(5))
    *other, bare = silent.step(np.arange(5))
    np.testing.assert_array_equal(plain[0], other[0])
    assert plain[1:] == other[1:]
    assert info["description"] == env.unwrapped.describe()
    assert re.match(r'step 1: switched from ".+" to ".+", unprompted', info["events"])
    assert set(info) - set(bare) == {"description", "events"}


@pytest.mark.parametrize("mode", ["next_step", "same_step"])
def test_a_batch_tells_what_single_environments_tell(new_env, new_vec, assert_same, mode):
    changes = {"info_texts": True, "patience_start": 1.5, "switch_rate": 0.5}
    batch = new_vec(N, autoreset_mode=mode, **changes)
    singles = SyncVectorEnv([lambda: new_env(**changes)] * N, autoreset_mode=batch.autoreset_mode)
    infos, expected = batch.reset(seed=4)[1], singles.reset(seed=4)[1]
    for _ in range(12):
        for name in ("description", "events", "_description", "_events"):
            assert_same(infos[name], expected[name])
        if "final_info" in infos:
            ended = infos["_final_info"]
            for name in ("description", "events"):
                assert_same(infos["final_info"][name][ended], expected["final_info"][name][ended])
        actions = np.tile(np.arange(5), (N, 1))
        infos, expected = batch.step(actions)[4], singles.step(actions)[4]
    assert batch.describe() == tuple(infos["description"])


def test_it_is_never_a_default_and_keeps_the_rules_of_gymnasium(new_env):
    assert not EnvConfig().info_texts
    assert not any("info_texts" in changes for changes in llmrec_env.TASKS.values())
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        check_env(new_env(info_texts=True).unwrapped, skip_render_check=True)
    with pytest.raises(ConfigError, match="info_texts='yes' is neither True nor False"):
        EnvConfig(info_texts="yes")  # type: ignore[arg-type]
