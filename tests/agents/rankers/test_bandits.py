"""Linear bandits against numpy: what they read, what they learn, how they explore."""

from __future__ import annotations

import numpy as np
import pytest

from agents.rankers.bandits import (
    NUM_FEATURES,
    Evidence,
    LinearBandit,
    LinUcb,
    ThompsonSampling,
    _satisfied,
    context,
)
from llmrec_env.interface.actions import CONTENT_PLAN
from llmrec_env.interface.candidates import FEATURES

N = 8


class Best(LinearBandit):
    """Shows what the regression likes best, without exploring."""

    name = "best"

    def _values(self, observation, features, precision, mean):
        return (features @ mean[:, :, None])[:, :, 0]


def test_evidence_is_the_normal_equations_of_a_ridge_regression():
    rng = np.random.default_rng(0)
    evidence = Evidence(np.tile(2.0 * np.eye(3), (2, 1, 1)), np.zeros((2, 3)))
    features, satisfied = rng.normal(size=(2, 4, 5, 3)), rng.integers(0, 2, (2, 4, 5))
    for step in range(4):
        evidence.add(features[:, step], satisfied[:, step].astype(float))
    for i in range(2):
        x = np.concatenate([features[i].reshape(-1, 3), 2.0**0.5 * np.eye(3)])
        y = np.concatenate([satisfied[i].ravel(), np.zeros(3)])
        expected = np.linalg.lstsq(x, y)[0]
        actual = np.linalg.solve(evidence.precision[i], evidence.moment[i])
        np.testing.assert_allclose(actual, expected, rtol=1e-9)


def test_feedback_is_read_off_the_observation(new_vec):
    env, rng = new_vec(40, observation="dict"), np.random.default_rng(0)
    env.reset(seed=0)
    seen = 0
    for _ in range(10):
        slates = rng.permuted(np.tile(np.arange(20), (40, 1)), axis=1)[:, :5]
        observation, _, terminated, truncated, info = env.step(slates)
        expected = np.zeros((40, 5))
        happened = (info["choice"] >= 0) & (info["satisfied"] == 1)
        expected[happened, info["choice"][happened]] = 1.0
        runs = ~(terminated | truncated)
        np.testing.assert_array_equal(_satisfied(observation, 5)[runs], expected[runs])
        seen += expected[runs].sum()
        if not runs.all():
            break
    assert seen > 5


def test_without_steps_it_ranks_as_the_zero_action_does(new_vec):
    env = new_vec(N, observation="dict")
    agent = Best()
    agent.fit(env, 0)
    observation, _ = env.reset(seed=0)
    slates = agent.act(observation, np.ones(N, bool))
    values = observation["candidate_features"] @ CONTENT_PLAN[: len(FEATURES)]
    np.testing.assert_array_equal(slates, np.argsort(-values, axis=1, kind="stable")[:, :5])


def test_it_learns_the_regression_of_all_that_it_showed(new_vec):
    """The same sessions again, written down from outside."""
    env = new_vec(16, observation="dict", autoreset_mode="same_step")
    agent = Best(seed=4, memory=1e9)
    agent.fit(env, 16 * 40)
    precision, moment = np.zeros((NUM_FEATURES,) * 2), np.zeros(NUM_FEATURES)
    again, shadow, slates = new_vec(16, observation="dict", autoreset_mode="same_step"), Best(4), 0
    shadow.fit(again, 0)
    shadow.memory = 1e9
    observation, _ = again.reset(seed=4)
    starts = np.ones(16, bool)
    for _ in range(40):
        actions = shadow.act(observation, starts)
        x = context(observation, agent.data.items).astype(float)
        x = np.take_along_axis(x, actions[:, :, None], 1)
        observation, _, terminated, truncated, info = again.step(actions)
        starts = terminated | truncated
        for i in np.flatnonzero(~starts):
            z = np.zeros(5)
            if info["choice"][i] >= 0:
                z[info["choice"][i]] = info["satisfied"][i]
            shadow.learnt.precision[0] += x[i].T @ x[i]
            shadow.learnt.moment[0] += x[i].T @ z
            precision, moment = precision + x[i].T @ x[i], moment + x[i].T @ z
            slates += 1
        shadow.num_slates = slates
    assert agent.num_slates == slates > 16 * 30
    np.testing.assert_allclose(agent.learnt.precision[0], precision + 10 * np.eye(9), rtol=1e-9)
    prior = 10 * np.append(CONTENT_PLAN[: len(FEATURES)], 0.0)
    np.testing.assert_allclose(agent.learnt.moment[0], moment + prior, rtol=1e-9)


def test_a_session_goes_on_from_the_prior_and_begins_anew(new_vec):
    env = new_vec(N, observation="dict")
    agent = Best()
    agent.fit(env, 0)
    observation, _ = env.reset(seed=0)
    starts, shown = np.ones(N, bool), []
    for step in range(6):
        actions = agent.act(observation, starts)
        features = context(observation, agent.data.items).astype(float)
        shown.append(np.take_along_axis(features, actions[:, :, None], 1))
        if step < 5:
            observation = env.step(actions)[0]
        starts = np.zeros(N, bool)
    past = np.concatenate(shown[:5], axis=1)
    np.testing.assert_allclose(agent._own.precision, np.swapaxes(past, 1, 2) @ past, rtol=1e-9)
    assert (agent._own.moment != 0).any()
    starts[3] = True
    agent.act(observation, starts)
    assert (agent._own.precision[3] == 0).all() and (agent._own.moment[3] == 0).all()
    assert (agent._own.precision[2] != 0).any()


def test_a_prior_is_worth_no_more_slates_than_memory():
    agent = Best(memory=50.0)
    agent._own = Evidence(np.zeros((1, 9, 9)), np.zeros((1, 9)))
    agent.num_slates = 1000
    precision, mean = agent._posterior()
    np.testing.assert_allclose(precision[0], 0.05 * agent.learnt.precision[0])
    np.testing.assert_allclose(mean[0], np.append(CONTENT_PLAN[: len(FEATURES)], 0.0), atol=1e-12)


@pytest.fixture
def posterior():
    rng = np.random.default_rng(5)
    roots = rng.normal(size=(3, 12, NUM_FEATURES))
    precision = np.swapaxes(roots, 1, 2) @ roots
    return precision, rng.normal(size=(3, NUM_FEATURES)), rng.normal(size=(3, 7, NUM_FEATURES))


def test_lin_ucb_adds_the_deviation_of_each_prediction(posterior):
    precision, mean, x = posterior
    actual = LinUcb(exploration=0.7)._values({}, x, precision, mean)
    for i in range(3):
        for c in range(7):
            width = (x[i, c] @ np.linalg.inv(precision[i]) @ x[i, c]) ** 0.5
            assert actual[i, c] == pytest.approx(x[i, c] @ mean[i] + 0.7 * width)


def test_thompson_sampling_draws_weights_from_the_posterior(posterior):
    precision, mean = posterior[0][:1], posterior[1][:1]
    n = 8000
    observation = {"user_id": np.arange(n), "session": np.zeros((n, 10), np.float32)}
    whole = np.tile(np.eye(NUM_FEATURES), (n, 1, 1))  # a value is a weight
    agent = ThompsonSampling(exploration=0.5)
    weights = agent._values(observation, whole, np.repeat(precision, n, 0), np.repeat(mean, n, 0))
    covariance = 0.25 * np.linalg.inv(precision[0])
    deviation = np.sqrt(np.diag(covariance))
    np.testing.assert_allclose(weights.mean(0), mean[0], atol=0.06 * deviation.max())
    scaled = (np.cov(weights.T) - covariance) / (deviation[:, None] * deviation)
    assert np.abs(scaled).max() < 0.06


def test_what_thompson_sampling_draws_is_decided_by_seed_user_and_step():
    def noise(seed=0, user=7, progress=0.01):
        numbers = np.full((1, 10), progress, np.float32)
        agent = ThompsonSampling(seed)
        return agent._noise({"user_id": np.array([user]), "session": numbers})

    np.testing.assert_array_equal(noise(), noise())
    for changed in ({"seed": 1}, {"user": 8}, {"progress": 0.02}):
        assert (noise(**changed) != noise()).all()


def test_features_of_a_whole_catalogue_are_those_of_candidates(new_vec):
    few, whole = (new_vec(N, observation="dict", candidates=c) for c in (20, 0))
    options = {"user_id": np.arange(N)}
    offered, catalogue = (env.reset(seed=0, options=options)[0] for env in (few, whole))
    items = few.public_data().items
    actual = context(catalogue, items)
    places = offered["candidates"]
    same = [FEATURES.index(name) for name in ("interest", "recent", "popularity", "substance")]
    rows = np.take_along_axis(actual, places[:, :, None], 1)
    expected = context(offered, items)
    np.testing.assert_allclose(rows[:, :, same], expected[:, :, same], atol=1e-5)
    shared = FEATURES.index("co_consumption")
    # The environment weighs what did not satisfy a little less.
    np.testing.assert_allclose(rows[:, :, shared], expected[:, :, shared], atol=0.05)
    assert (actual[:, :, -1] == 1).all()


@pytest.mark.parametrize("agent", [LinUcb, ThompsonSampling])
def test_they_act_on_a_whole_catalogue(new_vec, agent):
    env = new_vec(N, observation="dict", candidates=0)
    learnt = agent()
    learnt.fit(env, 0)
    observation, _ = env.reset(seed=0)
    starts = np.ones(N, bool)
    for _ in range(4):
        actions = learnt.act(observation, starts)
        assert (np.take_along_axis(observation["candidates"], actions, 1) >= 0).all()
        observation, starts = env.step(actions)[0], np.zeros(N, bool)
