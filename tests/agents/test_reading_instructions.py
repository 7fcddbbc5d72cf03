"""Agents that read what users tell: where it moves them, and that they can be deaf to it."""

from __future__ import annotations

import numpy as np
import pytest

from agents.features import FeatureExtractor, blocks_of
from agents.instructions import INSTRUCTIONS, WEIGHTS, instruction_columns, typed_phrases
from agents.joint.recommender import Joint
from agents.rankers.bandits import LinUcb
from agents.rankers.baselines import Content, DriftAware
from agents.rankers.ease_text import EaseText
from agents.registry import make_agent
from agents.rl.sb3.adapter import StableBaselines
from agents.rl.sb3.wrappers import CandidateEncoder, pointer_input, visible_numbers
from experiments.studies import ablation
from llmrec_env.interface.instructions import BLOCKS, CLICKBAIT, ENOUGH, MORE

SPEAKS = {"instruct_rate": 1.0, "instruct_patience": 100.0}
N = 6


@pytest.fixture
def env(new_vec):
    return new_vec(N, observation="dict", **SPEAKS)


@pytest.fixture
def observation(env):
    """What is observed after some steps, of which most ended with an instruction."""
    seen = env.reset(seed=0)[0]
    for _ in range(10):
        seen = env.step(np.tile(np.arange(5), (N, 1)))[0]
    assert {MORE, ENOUGH, CLICKBAIT} <= set(seen["recent_instructions"][..., 0].ravel())
    return seen


def silenced(observation):
    """The same of users who say nothing."""
    silent = {name: np.zeros_like(observation[name]) for name in BLOCKS}
    nothing = np.full_like(observation["recent_instructions"], -1)
    return observation | silent | {"recent_instructions": nothing}


def saying(observation, kind, phrase, vectors):
    """The same, after one instruction at the last step alone."""
    seen = silenced(observation)
    seen["recent_instructions"][:, 0] = kind, phrase, 0
    if kind == CLICKBAIT:
        seen[BLOCKS[kind]] = np.ones_like(seen[BLOCKS[kind]])
    else:
        seen[BLOCKS[kind]] = np.tile(vectors[phrase], (N, 1))
    return seen


def likeness(agent, scores, observation, phrase):
    """Mean cosine to a phrase of the five candidates that score highest."""
    vectors = agent.data.items.vectors[np.maximum(observation["candidates"], 0)]
    best = np.argsort(-scores, axis=1)[:, :5, None]
    return float((np.take_along_axis(vectors, best, 1) @ agent.data.phrase_vectors[phrase]).mean())


@pytest.mark.parametrize("kind", [Content, DriftAware, EaseText, Joint])
def test_what_more_is_wanted_of_is_shown_more_unless_the_agent_is_deaf(env, observation, kind):
    hearing, deaf = kind(), kind(instruction=False)
    hearing.fit(env, 0), deaf.fit(env, 0)
    vectors, gains = hearing.data.phrase_vectors, []
    for phrase in range(0, len(vectors), len(vectors) // 6):
        silent, asked = silenced(observation), saying(observation, MORE, phrase, vectors)
        likenesses = []
        for seen in (silent, asked):
            if kind is Joint:
                hearing.forget(), deaf.forget()
            likenesses.append(likeness(hearing, hearing.scores(seen), seen, phrase))
            np.testing.assert_array_equal(deaf.scores(seen), deaf.scores(silent))
        gains.append(likenesses[1] - likenesses[0])
    assert min(gains) >= 0.0 and np.mean(gains) > 0.02


def test_there_is_less_of_what_was_enough_and_more_depth_after_clickbait(env, observation):
    agent = Content()
    agent.fit(env, 0)
    silent, vectors = silenced(observation), agent.data.phrase_vectors
    before = agent.scores(silent)
    phrase = 3
    enough = saying(observation, ENOUGH, phrase, vectors)
    change = agent.scores(enough) - before
    ids = observation["candidates"]
    alike = agent.data.items.vectors[ids] @ vectors[phrase]
    np.testing.assert_allclose(change, WEIGHTS[ENOUGH] * alike, atol=1e-5)
    change = agent.scores(saying(observation, CLICKBAIT, -1, vectors)) - before
    np.testing.assert_allclose(
        change, WEIGHTS[CLICKBAIT] * agent.data.items.substance[ids], atol=1e-5
    )
    assert WEIGHTS[ENOUGH] < 0 < min(WEIGHTS[MORE], WEIGHTS[CLICKBAIT])


def test_a_query_counts_before_an_instruction_of_the_same_step(observation):
    told = observation["recent_instructions"]
    queries = np.full_like(observation["recent_queries"], -1)
    seen = observation | {"recent_queries": queries}
    np.testing.assert_array_equal(
        typed_phrases(seen), np.where(told[..., 0] == MORE, told[..., 1], -1)
    )
    queries[:, 0] = 4
    assert (typed_phrases(seen)[:, 0] == 4).all()
    del seen["recent_instructions"]
    assert typed_phrases(seen) is queries


@pytest.mark.parametrize("name", ["slateq", "world-model"])
def test_learners_online_take_what_more_is_wanted_of_as_a_query(name, new_vec, env, observation):
    """And not where they are told to be deaf."""
    tiny = {"steps": 16, "log_epochs": 0}
    hearing = make_agent(name, env.config, **tiny)
    deaf = make_agent(name, env.config, instruction=False, **tiny)
    train_env = new_vec(N, observation="dict", autoreset_mode="same_step", **SPEAKS)
    for agent in (hearing, deaf):
        agent.fit(train_env, 32)
    vectors, starts = env.public_data().phrase_vectors, np.ones(N, np.bool_)
    silent = silenced(observation)
    silent["recent_queries"] = np.full_like(silent["recent_queries"], -1)
    asked = saying(silent, MORE, 3, vectors)
    typed = silent | {"recent_queries": silent["recent_queries"].copy()}
    typed["recent_queries"][:, 0] = 3

    def valued(agent, seen):
        return agent._decide(seen, starts)[1]

    np.testing.assert_array_equal(valued(hearing, asked), valued(hearing, typed))
    assert (valued(hearing, asked) != valued(hearing, silent)).any()
    np.testing.assert_array_equal(valued(deaf, asked), valued(deaf, silent))


@pytest.mark.parametrize("kind", [Content, DriftAware, EaseText, Joint])
def test_attributions_add_up_with_a_part_for_instructions(env, observation, kind):
    agent, slots = kind(), np.arange(5)
    agent.fit(env, 0)
    one = {name: block[:1] for name, block in observation.items()}
    parts = agent.attribute(one, slots)
    deaf = agent.attribute(silenced_one(one), slots)
    assert np.abs(parts.others["instructions"]).max() > 0.01
    np.testing.assert_allclose(deaf.others["instructions"], 0.0, atol=1e-6)
    if kind is not Joint:  # whose scores are no sums
        np.testing.assert_allclose(parts.total(), agent.scores(one)[0, slots], atol=2e-5)


def silenced_one(one):
    return {name: block[:1] for name, block in silenced(one).items()}


def test_features_and_bandits_have_columns_of_them(env, observation, new_vec):
    data = env.public_data()
    assert INSTRUCTIONS in blocks_of(data, env.config)
    assert INSTRUCTIONS not in blocks_of(data, new_vec(1, observation="dict").config)
    extractor = FeatureExtractor(blocks_of(data, env.config))
    extractor.fit(data, env.config)
    table = extractor.encode(observation)[:, extractor.slices["candidates"]]
    table = table.reshape(N, 20, extractor.num_features)
    first = extractor.columns.index(BLOCKS[0])
    columns = instruction_columns(observation, data.items)
    np.testing.assert_array_equal(table[:, :, first : first + 3], columns)
    assert (extractor.start()[first : first + 3] == WEIGHTS).all()
    bandit = LinUcb()
    bandit.fit(env, 60)
    assert bandit.learnt.precision.shape == (1, 12, 12)


def test_online_learners_see_them_unless_they_are_ablated(new_vec, env, observation):
    modes = SPEAKS | {"action": "slate", "observation_dim": 8}
    vector, blocks = new_vec(3, **modes), new_vec(3, observation="dict", **modes)
    seen, named = vector.reset(seed=4)[0], blocks.reset(seed=4)[0]
    for _ in range(6):
        actions = np.tile(np.arange(5), (3, 1))
        seen, named = vector.step(actions)[0], blocks.step(actions)[0]
    np.testing.assert_array_equal(CandidateEncoder(blocks.config, []).encode(named), seen)
    visible = visible_numbers(vector.config, [INSTRUCTIONS])
    assert (visible[-17:] == 0).all() and (visible[:-17] == 1).all() and seen[:, -17:].any()
    assert BLOCKS[0] in pointer_input(env, ()).extractor.columns
    assert BLOCKS[0] not in pointer_input(env, (INSTRUCTIONS,)).extractor.columns
    StableBaselines("ppo", ablated=[INSTRUCTIONS])


def test_the_ablation_lets_readers_play_without(new_vec):
    parts = {"instructions": ("content", "ppo")}
    whole, deaf, blind = ablation.variants_of(
        "llmrec/Instruct-v1", ("content", "ppo", "popular"), {}, parts
    )
    assert whole.agents == ("content", "ppo", "popular")
    assert (deaf.agents, deaf.settings) == (("content",), {"instruction": False})
    assert (blind.agents, blind.settings) == (("ppo",), {"ablated": [INSTRUCTIONS]})
