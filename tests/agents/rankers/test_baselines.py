"""What the baselines show: random, popular, content, and the drift-aware blend."""

from __future__ import annotations

import numpy as np
import pytest

from agents.open_questions import Texts, candidate_answers
from agents.rankers.als import Collaborative
from agents.rankers.baselines import Content, ContentRecency, DriftAware, Popular, Random
from llmrec_env.interface.history import EMPTY, QUERY, SATISFIED

N = 12


def _act(agent, env):
    agent.fit(env, 0)
    observation, _ = env.reset(seed=0)
    return observation, agent.act(observation, np.ones(env.num_envs, bool))


def test_popular_shows_what_satisfied_most_users(new_vec):
    env = new_vec(N, observation="dict")
    observation, actions = _act(Popular(), env)
    logs = env.public_data().logs
    _, item, satisfied = logs.clicks(np.arange(len(logs.items)))
    liked = np.bincount(item[satisfied == 1], minlength=600)[observation["candidates"]]
    shown = np.take_along_axis(liked, actions, 1)
    np.testing.assert_array_equal(shown, -np.sort(-liked, axis=1)[:, :5])


def test_content_shows_what_is_nearest_to_the_mean_of_the_liked_and_typed(new_vec):
    env = new_vec(N, observation="dict")
    observation, actions = _act(Content(), env)
    data = env.public_data()
    for i in range(N):
        events = list(
            zip(observation["history"][i], observation["history_feedback"][i], strict=True)
        )
        v = sum(
            (0.15, 1.0)[kind] * data.items.vectors[item] for item, kind in events if kind in (0, 1)
        )
        v = v + sum(data.phrase_vectors[item] for item, kind in events if kind == QUERY)
        scores = data.items.vectors[observation["candidates"][i]] @ v
        np.testing.assert_array_equal(actions[i], np.argsort(-scores)[:5])


def test_recency_prefers_what_was_liked_last(new_vec):
    env = new_vec(1, observation="dict")
    agent = ContentRecency()
    agent.fit(env, 0)
    vectors = agent.data.items.vectors
    history, kinds = np.full((1, 128), -1, np.int32), np.full((1, 128), EMPTY, np.int32)
    first, last = 0, int(np.argmin(vectors @ vectors[0]))
    history[0, :20], kinds[0, :20] = first, SATISFIED
    history[0, :6] = last
    v = agent.belief({"history": history, "history_feedback": kinds})[0]
    assert v @ vectors[last] > v @ vectors[first]
    decayed = vectors[last] * (0.85 ** np.arange(6)).sum()
    decayed += vectors[first] * (0.85 ** np.arange(6, 20)).sum()
    np.testing.assert_allclose(v, decayed / np.linalg.norm(decayed), atol=1e-5)
    mean = Content()
    mean.fit(env, 0)
    v = mean.belief({"history": history, "history_feedback": kinds})[0]
    assert v @ vectors[last] < v @ vectors[first]


@pytest.mark.parametrize("kind", [Content, ContentRecency, DriftAware])
def test_every_ranker_of_texts_adds_the_same_public_terms(new_vec, kind):
    env = new_vec(N, observation="dict")
    plain, full = kind(), kind(substance=0.3, skipped=0.2, popular=0.5)
    _act(plain, env)
    full.fit(env, 0)
    observation, _ = env.reset(seed=0)
    for _ in range(6):  # until somebody has skipped a slate
        observation = env.step(plain.act(observation, np.zeros(N, bool)))[0]
    items, candidates = full.data.items, observation["candidates"]
    expected = 0.3 * items.substance[candidates] + 0.5 * items.popularity[candidates]
    likeness = np.einsum("nd,ncd->nc", observation["skipped"], items.vectors[candidates])
    assert np.abs(likeness).max() > 0.1
    added = full.scores(observation) - plain.scores(observation)
    np.testing.assert_allclose(added, expected - 0.2 * likeness, atol=2e-5)


def test_drift_aware_adds_what_collaborative_scores(new_vec):
    env = new_vec(N, observation="dict")
    none, some, alone = (
        DriftAware(collaborative=0.0),
        DriftAware(collaborative=0.5),
        Collaborative(),
    )
    for agent in (none, some, alone):
        agent.fit(env, 0)
    observation, _ = env.reset(seed=0)
    added = some.scores(observation) - none.scores(observation)
    scores = alone.scores(observation)
    centred = scores - scores.mean(1, keepdims=True)
    expected = 0.5 * centred / centred.std(1, keepdims=True)
    np.testing.assert_allclose(added, expected, atol=1e-3)


def test_random_is_uniform_over_the_candidates(new_vec):
    env = new_vec(400, observation="dict")
    _, actions = _act(Random(seed=3), env)
    counts = np.bincount(actions.ravel(), minlength=20)
    assert counts.sum() == 2000 and counts.min() > 60 and counts.max() < 145
    assert all(len(set(row)) == 5 for row in actions)


@pytest.mark.parametrize("block", ["recent", "query"])
def test_drift_aware_turns_to_what_is_recent_and_typed(new_vec, block):
    env = new_vec(6, observation="dict")
    agent = DriftAware(**{"recent": 0.0, "query": 0.0, block: 3.0})
    agent.fit(env, 0)
    observation, _ = env.reset(seed=0)
    candidates = observation["candidates"]
    observation[block] = agent.data.items.vectors[candidates[:, 13]].copy()
    assert (agent.act(observation, np.ones(6, bool))[:, 0] == 13).all()


def test_drift_aware_never_shows_what_is_not_offered(new_vec):
    env = new_vec(6, observation="dict", candidates=0)
    agent = DriftAware()
    agent.fit(env, 0)
    observation, _ = env.reset(seed=0)
    for _ in range(12):
        actions = agent.act(observation, np.zeros(6, bool))
        assert (np.take_along_axis(observation["candidates"], actions, 1) >= 0).all()
        observation = env.step(actions)[0]


@pytest.mark.parametrize("kind", [Content, ContentRecency, DriftAware])
def test_rankers_of_texts_weigh_answers_where_these_resolve_questions(new_vec, kind):
    scores = {}
    for resolution in (0.0, 0.3):
        env = new_vec(N, observation="dict", resolution=resolution, query_rate=0.9)
        observation = env.reset(seed=0)[0]
        for weight in (0.0, 0.5):
            agent = kind(question=weight)
            agent.fit(env, 0)
            scores[resolution, weight] = agent.scores(observation)
    items, one = agent.data.items, {name: x[:1] for name, x in observation.items()}
    texts = Texts(items.vectors, items.substance, agent.data.phrase_vectors)
    answers = candidate_answers(observation, texts)
    assert answers.max() > 0.5
    np.testing.assert_array_equal(scores[0.0, 0.5], scores[0.0, 0.0])
    added = scores[0.3, 0.5] - scores[0.3, 0.0]
    np.testing.assert_allclose(added, 0.5 * answers, atol=1e-5)
    parts = agent.attribute(one, np.arange(4))
    np.testing.assert_allclose(parts.others["open questions"], 0.5 * answers[0, :4], rtol=1e-5)
    np.testing.assert_allclose(parts.total(), agent.scores(one)[0, :4], rtol=1e-4, atol=2e-5)
