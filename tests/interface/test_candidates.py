from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
from scipy import stats

from llmrec_env.config import EnvConfig
from llmrec_env.interface.candidates import FEATURES, Items, describe, recall_uniform
from llmrec_env.interface.history import HISTORY, empty_histories
from llmrec_env.simulation import noise
from llmrec_env.simulation.creators import NOBODY
from llmrec_env.simulation.freshness import ALWAYS
from llmrec_env.simulation.records import compiled_view

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


def _random_history(dim, slots, cap, num_shown, rng):
    config = EnvConfig(dim=dim, slate_size=slots, impression_cap=cap)
    histories = empty_histories(1, config)
    for name in ("interest", "recent", "satiation", "skipped", "factor"):
        histories[name] = rng.normal(size=histories[name].shape)
    shown = histories["shown"].shape[1]
    histories["shown"] = rng.integers(0, 400, shown)
    histories["num_shown"] = num_shown
    return histories


def _random_items(dim, rng):
    vectors, factors = rng.normal(size=(400, dim)), rng.normal(size=(400, 16))
    popularity, substance = rng.random((2, 400))
    parts = (vectors / np.sqrt(dim), factors, popularity, substance)
    published = np.full(len(parts[0]), ALWAYS, np.int32)
    nobody = np.full(len(parts[0]), NOBODY, np.int32)
    return Items(*(part.astype(np.float32) for part in parts), published, nobody)


@pytest.mark.parametrize("count", [1, 3, 4, 15, 17, 100, 300])
@pytest.mark.parametrize("dim", [8, 20, 128])
@pytest.mark.parametrize("num_shown", [0, 2, 13])
def test_any_number_of_candidates_of_any_dimension_is_described(count, dim, num_shown):
    rng = np.random.default_rng(count + dim + num_shown)
    histories = _random_history(dim, num_shown if 0 < num_shown < 5 else 5, 1, num_shown, rng)
    items, ids = _random_items(dim, rng), rng.permutation(400)[:count].astype(np.int32)
    out = np.full((2, 5 + 8 * count + 3), 7, np.float32)
    before = ids.copy()
    describe(compiled_view(histories, HISTORY)[0], items, ids, 1, out, 1, 5)
    np.testing.assert_array_equal(np.sort(ids), np.sort(before))
    simulator = SimpleNamespace(
        histories=histories,
        buffers=SimpleNamespace(ids=ids[None]),
        world=SimpleNamespace(items=items),
    )
    features = out[1, 5:-3].reshape(count, 8)
    np.testing.assert_allclose(features, _features(simulator, 0), atol=2e-5)
    assert (np.diff(features[:, FEATURES.index("recent")]) <= 0).all()
    assert (out[0] == 7).all() and (out[1, :5] == 7).all() and (out[1, -3:] == 7).all()
    unsorted = before.copy()
    describe(compiled_view(histories, HISTORY)[0], items, unsorted, 0, out, 0, 0)
    np.testing.assert_array_equal(unsorted, before)
    index = np.argsort(before)[np.searchsorted(np.sort(before), ids)]
    np.testing.assert_array_equal(out[0, : 8 * count].reshape(count, 8)[index], features)


@pytest.mark.parametrize("first", [0, 30])
def test_a_refused_draw_is_followed_by_the_next_one(first):
    """Candidate by candidate, from the definition: the first draw left that is available."""
    unavailable, key = np.zeros(150, np.int64), np.uint64(5)
    unavailable[::3] = 4
    ids, taken, draw = np.full(80, -1, np.int32), set(range(0, 150, 3)), 0
    recall_uniform(key, first, unavailable, 4, ids)
    for item in ids[first:]:
        while (drawn := noise.below(key, noise.CANDIDATES + draw, 150)) in taken:
            draw += 1
        assert item == drawn
        taken.add(drawn)
    assert (ids[:first] == -1).all()
