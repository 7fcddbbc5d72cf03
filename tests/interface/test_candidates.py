from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from llmrec_env.interface.candidates import FEATURES, recall_uniform

N = 60


def _start_all_with(simulator, user):
    n = simulator.n
    keys = np.random.default_rng(5).integers(0, 2**63, n, dtype=np.uint64)
    simulator.start(np.arange(n), np.full(n, user), keys)
    simulator.show(np.arange(n))


@pytest.mark.parametrize("recall", ["uniform", "two-stage"])
def test_candidates_are_distinct_and_never_shown_lately_nor_consumed(
    new_simulator, draw_actions, recall
):
    simulator = new_simulator(N, observation="dict", recall=recall)
    logged = simulator.world.logs.items
    consumed = [set(row[row >= 0]) for row in logged]
    shown = [[] for _ in range(N)]
    rng, back = np.random.default_rng(1), 0
    for _ in range(30):
        for i, ids in enumerate(simulator.buffers.ids):
            assert len(set(ids)) == 20 and min(ids) >= 0 and max(ids) < 600
            assert not set(ids) & consumed[i]
            assert not set(ids) & set().union(*shown[i][-10:])
            back += bool(set(ids) & set().union(*shown[i][:-10]))
        simulator.step(draw_actions(simulator, rng))
        for i, response in enumerate(simulator.responses):
            shown[i].append(set(response["slate"]))
            consumed[i] |= {response["item"]} - {-1}
    assert back > 0  # what was shown longer ago does come back


def test_candidates_are_drawn_uniformly_from_what_is_available(new_simulator):
    simulator = new_simulator(4000, observation="dict")
    _start_all_with(simulator, 3)
    counts = np.bincount(simulator.buffers.ids.ravel(), minlength=600)
    consumed = simulator.world.logs.items[3]
    available = np.setdiff1d(np.arange(600), consumed[consumed >= 0])
    assert counts.sum() == counts[available].sum() == 4000 * 20
    # drawn without replacement: the statistic is smaller by the share that is drawn
    statistic = stats.chisquare(counts[available]).statistic / (1 - 20 / len(available))
    pvalue = stats.chi2.sf(statistic, len(available) - 1)
    assert 1e-3 < pvalue < 1 - 1e-3


def test_candidates_are_the_same_for_every_action_mode(new_simulator):
    offered = [
        new_simulator(N, seed=8, action=mode, observation="dict").buffers.ids
        for mode in ("slate", "weights", "query", "recipe")
    ]
    for ids in offered[1:]:
        np.testing.assert_array_equal(offered[0], ids)


@pytest.mark.parametrize("recall", ["uniform", "two-stage"])
def test_candidates_are_sorted_by_recent_cosine(new_simulator, draw_actions, recall):
    simulator = new_simulator(N, observation="dict", recall=recall)
    for seed in range(5):
        simulator.step(draw_actions(simulator, np.random.default_rng(seed)))
    features = simulator.buffers.features[:, :, FEATURES.index("recent")]
    assert (np.diff(features, axis=1) <= 1e-6).all()
    assert (features[:, 0] > features[:, -1]).all()


def test_two_stage_takes_its_shares_from_each_source(new_simulator):
    simulator = new_simulator(N, observation="dict", recall="two-stage")
    items = simulator.world.items
    for history, ids in zip(simulator.histories, simulator.buffers.ids, strict=True):
        free = np.ones(600, bool)
        free[history["consumed_items"][: history["num_consumed_items"]]] = False
        sources = (
            (items.vectors @ history["recent"], 10),
            (items.vectors @ history["interest"], 4),
            (items.factors @ history["factor"], 3),
            (items.popularity, 2),
        )
        left = set(ids)
        for scores, share in sources:
            worst_taken = np.sort(np.where(free, scores, -np.inf))[-share]
            eligible = [i for i in left if free[i] and scores[i] >= worst_taken - 1e-5]
            assert len(eligible) >= share
            chosen = sorted(eligible, key=lambda i: -scores[i])[:share]
            if scores is not items.popularity:  # ties: any of the equally popular ones
                left -= set(chosen)
                free[chosen] = False
        assert len(left) == 3  # two popular ones and a random one


def test_the_whole_catalogue_is_listed_with_gaps(new_simulator, draw_actions):
    simulator = new_simulator(8, observation="dict", candidates=0)
    rng = np.random.default_rng(0)
    for _ in range(14):
        simulator.step(draw_actions(simulator, rng))
    for history, ids in zip(simulator.histories, simulator.buffers.ids, strict=True):
        consumed = history["consumed_items"][: history["num_consumed_items"]]
        gone = set(history["shown"]) | set(consumed)
        assert set(np.flatnonzero(ids == -1)) == gone
        np.testing.assert_array_equal(ids[ids >= 0], np.flatnonzero(ids >= 0))


def _features(simulator, i):
    """The candidate features of a session, from their definitions."""
    history, ids = simulator.histories[i], simulator.buffers.ids[i]
    items = simulator.world.items
    y = items.vectors[ids]

    def cosine(vector, rows):
        return rows @ vector / max(np.linalg.norm(vector), 1e-9)

    shown = history["shown"].reshape(-1)
    last = [shown[(history["num_shown"] - 1 - j) % len(shown)] for j in range(5)]
    likeness = (y @ items.vectors[last].T).max(1) if history["num_shown"] else np.zeros(len(ids))
    return np.stack(
        [
            cosine(history["interest"], y),
            cosine(history["recent"], y),
            cosine(history["factor"], items.factors[ids]),
            items.popularity[ids],
            1 - np.exp(-np.maximum(y @ history["satiation"], 0)),
            np.tanh(np.maximum(y @ history["skipped"], 0)),
            items.substance[ids],
            np.maximum(likeness, 0),
        ],
        axis=1,
    )


@pytest.mark.parametrize("steps", [0, 9])
def test_features_follow_their_definitions(new_simulator, draw_actions, steps):
    simulator = new_simulator(10, observation="dict")
    rng = np.random.default_rng(3)
    for _ in range(steps):
        simulator.step(draw_actions(simulator, rng))
    for i in range(10):
        np.testing.assert_allclose(
            simulator.buffers.features[i], _features(simulator, i), atol=1e-5
        )


def test_a_nearly_used_up_catalogue_still_gives_what_is_left():
    unavailable = np.full(50, 7, np.int64)
    free = [3, 20, 21, 49]
    unavailable[free] = 0
    ids = np.full(4, -1, np.int32)
    recall_uniform(np.uint64(1), 0, unavailable, 7, ids)
    assert sorted(ids) == free
