"""The dataset of logged interactions: from public data, and from own logs."""

from __future__ import annotations

import numpy as np
import pytest

from agents.dataset import UNSATISFIED_WEIGHT, Dataset


@pytest.fixture(scope="module")
def data(world):
    return world.public()


@pytest.fixture(scope="module")
def steps(data):
    return Dataset.from_logs(data)


def test_there_is_a_row_for_each_logged_step_by_user_and_time(steps, data):
    num_users, num_steps, _ = data.logs.slates.shape
    np.testing.assert_array_equal(steps.users, np.repeat(np.arange(num_users), num_steps))
    np.testing.assert_array_equal(steps.slates, data.logs.slates.reshape(-1, 5))
    clicked = data.logs.items.ravel() >= 0
    np.testing.assert_array_equal(steps.choices < 5, clicked)
    chosen = steps.slates[clicked, steps.choices[clicked]]
    np.testing.assert_array_equal(chosen, data.logs.items.ravel()[clicked])
    np.testing.assert_array_equal(steps.ratings, data.logs.ratings.ravel())


# --- columns


def test_own_logs_are_sorted_by_user_and_time_and_users_become_rows():
    log = Dataset.from_columns([7, 3, 7, 3], [4, 1, 2, 0], [1.0, 0.2, 1.0, 1.0], [9, 5, 8, 6], 5)
    assert (log.num_users, log.num_items) == (2, 5)
    np.testing.assert_array_equal(log.users, [0, 0, 1, 1])
    np.testing.assert_array_equal(log.items, [1, 0, 2, 4])
    np.testing.assert_array_equal(log.times, [5, 6, 8, 9])
    np.testing.assert_allclose(log.weights, [0.2, 1.0, 1.0, 1.0])


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"items": [0, 5]}, "items holds 5; ids are 0 to 4"),
        ({"items": [-1, 0]}, "items holds -1"),
        ({"weights": [1.0, np.nan]}, "weights holds nan"),
        ({"weights": [-1.0, 1.0]}, "weights holds -1.0"),
        ({"times": [1]}, "shapes"),
    ],
)
def test_own_logs_that_do_not_fit_are_refused(changed, message):
    columns = {"users": [0, 1], "items": [0, 1], "weights": [1.0, 1.0], "times": [0, 1]}
    with pytest.raises(ValueError, match=message):
        Dataset.from_columns(**{**columns, **changed}, num_items=5)


def test_no_logs_are_no_users():
    log = Dataset.from_columns([], np.zeros(0, int), [], [], 5)
    assert log.num_users == 0 and log.histories(3)[0].shape == (0, 3)
    assert (log.popularity() == 0).all()


def test_histories_are_the_last_items_newest_first():
    log = Dataset.from_columns([0, 0, 0, 2], [4, 1, 2, 0], [1, 0.5, 1, 1], [1, 2, 3, 0], 5)
    items, weights = log.histories(2)
    np.testing.assert_array_equal(items, [[2, 1], [0, -1]])
    np.testing.assert_allclose(weights, [[1, 0.5], [1, 0]])


def test_the_consumed_are_the_clicks_of_the_training_users(new_vec):
    data = new_vec(4, observation="dict").public_data()
    log = Dataset.from_logs(data).consumed()
    user, item, satisfied = data.logs.clicks(np.arange(48))
    np.testing.assert_array_equal(log.users, user)
    np.testing.assert_array_equal(log.items, item)
    np.testing.assert_allclose(log.weights, np.where(satisfied == 1, 1.0, UNSATISFIED_WEIGHT))
    assert (log.num_users, log.num_items) == (48, 600)
    assert (np.diff(log.times)[np.diff(log.users) == 0] > 0).all() and log.times.max() < 0
