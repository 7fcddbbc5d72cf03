"""Targets by recursion, the compiled advantage, and slots that are explored."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from agents.rl.slateq.slate_values import (  # noqa: E402
    STATE_LENGTH,
    Future,
    add_future,
    explore_slots,
    targets,
)
from agents.rl.slateq.tracking import ITEM_FEATURES  # noqa: E402

C = 7


def test_targets_are_of_the_next_state_and_end_with_the_session():
    rng, steps, gamma, td_lambda = np.random.default_rng(0), 6, 0.9, 0.7
    value = rng.random((steps + 1, 2)).astype(np.float32)
    reward = rng.random((steps, 2)).astype(np.float32)
    done = np.zeros((steps, 2), bool)
    done[2, 0] = True
    returns, future = targets(value, reward, done, gamma, td_lambda)

    def of(t, i):
        if t == steps:
            return value[t, i]
        return reward[t, i] + gamma * (not done[t, i]) * (
            (1 - td_lambda) * value[t + 1, i] + td_lambda * of(t + 1, i)
        )

    for t, i in itertools.product(range(steps), range(2)):
        assert returns[t, i] == pytest.approx(of(t, i), rel=1e-5)
        ahead = 0.5 * (value[t + 1, i] + of(t + 1, i))
        assert future[t, i] == pytest.approx(gamma * (not done[t, i]) * ahead, rel=1e-5)


def test_the_compiled_advantage_is_the_one_that_learns():
    torch.manual_seed(0)
    future = Future()
    for parameter in future.parameters():
        torch.nn.init.normal_(parameter)
    rng = np.random.default_rng(1)
    states = rng.normal(size=(4, STATE_LENGTH)).astype(np.float32)
    features = rng.normal(size=(4, C, len(ITEM_FEATURES))).astype(np.float32)
    value = np.zeros((4, C))
    add_future(*future.exported(), states, features, 0.5, value)
    rows = np.repeat(states, C, axis=0)
    with torch.no_grad():
        expected = future.advantage(
            torch.from_numpy(rows), torch.from_numpy(features.reshape(-1, 4))
        )
    np.testing.assert_allclose(value, 0.5 * expected.numpy().reshape(4, C), rtol=1e-4, atol=1e-5)


def test_it_learns_that_substance_lasts():
    torch.manual_seed(0)
    future, rng = Future(), np.random.default_rng(2)
    item = rng.random((2_000, len(ITEM_FEATURES))).astype(np.float32)
    consumed = (rng.random(2_000) < 0.5).astype(np.float32)
    later = 1.0 + 0.7 * consumed * item[:, 3]
    batch = {"item": item, "consumed": consumed, "future": later, "returns": later}
    batch["state"] = np.zeros((2_000, STATE_LENGTH), np.float32)
    batch = {name: torch.from_numpy(np.float32(x)) for name, x in batch.items()}
    optimiser = torch.optim.Adam(future.parameters(), lr=0.02)
    for _ in range(200):
        optimiser.zero_grad()
        future.loss(batch).backward()
        optimiser.step()
    state = torch.zeros(2, STATE_LENGTH)
    poor, rich = (
        future.advantage(state, torch.tensor([[0.5, 0.5, 0.5, x]] * 2)) for x in (0.0, 1.0)
    )
    assert float((rich - poor)[0].detach()) == pytest.approx(0.7, abs=0.1)


def explored(ids, share=0.5, slots=3):
    """Items of slates that held the items 0, 1, ... before exploring."""
    slates = np.stack([[np.flatnonzero(row == item)[0] for item in range(slots)] for row in ids])
    explore_slots(slates, ids, share, np.random.default_rng(4))
    return np.take_along_axis(ids, slates, 1)


def test_what_is_explored_does_not_depend_on_the_order_of_the_candidates():
    ordered = np.tile(np.arange(20, dtype=np.int32), (200, 1))
    shuffled = np.random.default_rng(5).permuted(ordered, axis=1)
    items = explored(ordered)
    np.testing.assert_array_equal(items, explored(shuffled))
    assert 0.45 < (items != np.arange(3)).mean() < 0.55
    assert all(len(set(row)) == 3 for row in items.tolist())


def test_all_candidates_are_explored_alike_but_those_that_are_missing():
    ids = np.tile(np.arange(20, dtype=np.int32), (4_000, 1))
    ids[:, 15:] = -1
    items = explored(ids, 1.0, slots=1)[:, 0]
    counts = np.bincount(items, minlength=15)
    assert counts[0] == 0 and len(counts) == 15
    assert counts[1:].min() > 0.8 * 4_000 / 14 and counts[1:].max() < 1.2 * 4_000 / 14
