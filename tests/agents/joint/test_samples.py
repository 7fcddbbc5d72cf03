"""Samples show what an observation of that moment would have shown, and what happened then."""

from __future__ import annotations

import numpy as np
import pytest

from agents.joint.samples import EVENTS_SEEN, batch_of, batch_seen, samples_of
from llmrec_env.config import EnvConfig
from llmrec_env.interface.observation import VECTOR_BLOCKS


@pytest.fixture(scope="module")
def data(world):
    return world.public()


@pytest.fixture(scope="module")
def samples(data, tiny):
    return samples_of(data, EnvConfig(**tiny), first=0)


def test_there_is_a_sample_for_each_logged_step_by_user_and_time(samples, data):
    users, steps, _ = data.logs.slates.shape
    np.testing.assert_array_equal(samples.user, np.repeat(np.arange(users), steps))
    np.testing.assert_array_equal(samples.slate, data.logs.slates.reshape(-1, 5))
    clicked = data.logs.items.ravel() >= 0
    np.testing.assert_array_equal(samples.choice < 5, clicked)
    chosen = samples.slate[clicked, samples.choice[clicked]]
    np.testing.assert_array_equal(chosen, data.logs.items.ravel()[clicked])
    np.testing.assert_array_equal(samples.rating, data.logs.ratings.ravel())


def test_nothing_is_known_before_the_first_step_and_nothing_of_the_step_itself(samples, data):
    steps = data.logs.slates.shape[1]
    assert not samples.blocks[::steps].any() and (samples.history[::steps] == -1).all()
    for row in range(1, 3 * steps):
        user, step = divmod(row, steps)
        before = {*data.logs.items[user, :step].tolist()}
        items = samples.history[row][(samples.feedback[row] >= 0) & (samples.feedback[row] < 2)]
        assert {*items.tolist()} <= before
        assert len(items) == (data.logs.items[user, :step] >= 0).sum()


def test_after_the_last_step_an_observation_shows_the_same(data, tiny, new_vec):
    """What is known before step 20 of logs of 21 is what the first observation would show."""
    users = data.users[:4]
    env = new_vec(4, observation="dict")
    observation, _ = env.reset(options={"user_id": users})
    longer = samples_of(data, EnvConfig(**tiny), first=19)
    seen, known = batch_seen(observation), batch_of(longer, np.arange(4))
    logs = data.logs
    changed = np.flatnonzero((logs.items[:4, -1] < 0) & (logs.queries[:4, -1] < 0))
    assert len(changed)  # nothing but a skip happened in the last step
    for name in ("history", "feedback"):
        np.testing.assert_array_equal(seen[name][changed], known[name][changed])
    interest = VECTOR_BLOCKS.index("interest")
    np.testing.assert_allclose(
        seen["blocks"][changed, interest], known["blocks"][changed, interest], atol=1e-3
    )
    assert known["history"].shape == (4, EVENTS_SEEN)


def test_logs_of_one_class_are_refused_with_the_reason(data, tiny):
    logs = data.logs
    for value, said in ((1, "satisfied; a model"), (0, "did not satisfy; a model")):
        one = logs._replace(satisfied=np.full_like(logs.satisfied, value))
        with pytest.raises(ValueError, match=rf"all \d+ clicks of the logs {said}"):
            samples_of(data.__class__(**{**vars(data), "logs": one}), EnvConfig(**tiny))
    none = logs._replace(items=np.full_like(logs.items, -1))
    with pytest.raises(ValueError, match="no click"):
        samples_of(data.__class__(**{**vars(data), "logs": none}), EnvConfig(**tiny))
