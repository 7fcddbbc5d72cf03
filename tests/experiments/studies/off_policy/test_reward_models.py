"""Reward models: what they expect of slates, and the texts that they read of a session."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.special import expit
from tiny_bert import own_cache, save_tiny_bert

from experiments.studies.off_policy.reward_models import (
    ClassifierReward,
    JointReward,
    behaviour_rows,
)

N = 5


@pytest.fixture(scope="module")
def env(new_vec, tmp_path_factory):
    folder = tmp_path_factory.mktemp("reward")
    with pytest.MonkeyPatch.context() as patch:
        own_cache(patch, folder / "cache")
        bert = str(save_tiny_bert(folder / "bert"))
        yield new_vec(N, encoder=bert, observation="dict", split="test")


@pytest.fixture(scope="module")
def observation(env):
    observation, _ = env.reset(seed=1)
    for _ in range(4):
        observation, *_ = env.step(np.tile(np.arange(5), (N, 1)))
    return observation


@pytest.fixture(scope="module", params=[JointReward, ClassifierReward])
def model(request, env):
    return request.param(env)


def test_a_reward_is_choice_satisfaction_and_relevance(model, observation):
    slates = np.array([[3, 1, 7, 0, 9]] * N)
    value = model(observation, slates)
    assert value.shape == (N,) and (value > 0).all() and np.isfinite(value).all()
    single = np.stack([model(observation, slates[:, [k]]) for k in range(5)], 1)
    assert (value < single.sum(1)).all()  # slots compete for one choice
    again = model(observation, slates[:, ::-1])
    assert (again != value).any()  # ranks count
    np.testing.assert_array_equal(model(observation, slates), value)


def test_p_of_the_classifier_is_that_of_the_pair(env, observation):
    model = ClassifierReward(env)
    data = env.public_data()
    texts = [*data.catalog.texts, *data.phrases.texts]
    rows, items = behaviour_rows(observation, len(data.catalog)), np.arange(2 * N).reshape(N, 2)
    pairs = [
        (tuple(texts[row] for row in past if row >= 0), texts[item], 0, 0)
        for past, own in zip(rows, items, strict=True)
        for item in own
    ]
    expected = model.classifier.probability(pairs).reshape(N, 2)
    found = model.satisfied(observation, items, np.zeros((N, 2)))
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_newest_texts_come_first_and_what_was_typed_before_the_item_of_its_step():
    observation = {
        "recent_items": np.array([[7, 8, 9, -1], [-1, -1, -1, -1]]),
        "recent_satisfied": np.array([[1, 0, 1, -1], [-1, -1, -1, -1]]),
        "recent_queries": np.array([[-1, 2, 3, -1], [-1, 0, -1, -1]]),
    }
    rows = behaviour_rows(observation, 100)
    assert rows.tolist() == [[7, 102, 103, 9], [100, -1, -1, -1]]


def test_satisfaction_of_joint_is_calibrated(env, observation):
    model = JointReward(env)
    slope, offset = model.joint.calibration
    log_odds = np.array([[0.3, -2.0]])
    found = model.satisfied(observation, np.array([[1, 2]]), log_odds)
    np.testing.assert_allclose(found, expit(slope * log_odds + offset))
