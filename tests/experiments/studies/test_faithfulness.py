"""The study of explanations: what deletion leaves, and what it must not let pass."""

from __future__ import annotations

import numpy as np
import pytest

from experiments.studies import faithfulness
from experiments.studies.faithfulness import Past

SMALL = {"encoder": "hashing", "num_items": 300, "num_users": 300, "candidates": 30, "dim": 16}


@pytest.fixture(scope="module")
def past(new_vec):
    env = new_vec(1, observation="dict", split="test")
    observation, _ = env.reset(seed=0)
    for _ in range(6):
        observation, *_ = env.step(np.arange(env.config.slate_size)[None])
    return Past(env, observation)


def test_a_past_of_all_steps_is_what_was_observed(past):
    whole = past.observe(np.arange(len(past.items)))
    for name in ("history", "history_feedback", "recent_items", "recent_queries", "skipped"):
        count = 6 if name.startswith("history") else whole[name].shape[1]
        np.testing.assert_allclose(whole[name][:, :count], past.observation[name][:, :count])


def test_a_step_left_out_leaves_its_texts_out(past):
    consumed = np.flatnonzero(past.items >= 0)
    kept = np.delete(np.arange(len(past.items)), consumed[-1])
    item = past.items[consumed[-1]]
    left = past.observe(kept)
    assert item in past.observe(np.arange(len(past.items)))["history"]
    assert item not in left["history"][left["history_feedback"] != 2]


def test_entries_add_up_by_step(past):
    whole = past.observe(np.arange(len(past.items)))
    entries = np.where(whole["history_feedback"][0] >= 0, 1.0, 0.0)
    expected = (past.items >= 0).astype(float) + (past.queries >= 0)
    np.testing.assert_array_equal(past.by_step(entries), expected)


def test_scores_fall_faster_in_the_order_of_attributions(tmp_path):
    rows = faithfulness.run(
        ("content-recency", "ease-text"), users=20, step=8, output=tmp_path / "out", env=SMALL
    )
    assert [row.agent for row in rows] == ["content-recency", "ease-text"]
    assert all(row.area.low > 0.1 for row in rows)
    assert (tmp_path / "out" / "faithfulness.csv").exists()


def test_agents_and_tasks_that_cannot_be_explained_are_named(tmp_path):
    with pytest.raises(ValueError, match="'popular' cannot attribute"):
        faithfulness.run(("popular",), users=4, output=tmp_path / "a", env=SMALL)
    several = SMALL | {"response": "cascade", "horizon": 20, "candidates": 20}
    with pytest.raises(ValueError, match="response='cascade'"):
        faithfulness.run(("content",), users=4, output=tmp_path / "b", env=several)
