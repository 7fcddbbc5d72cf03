"""Actions become slates; bad ones are refused with the reason."""

from __future__ import annotations

import numpy as np
import pytest

from llmrec_env.config import EnvConfig
from llmrec_env.envs.spaces import observation_of
from llmrec_env.interface.actions import CONTENT_PLAN, MMR, RECIPES, ActionMode, query_dim, rank
from llmrec_env.interface.candidates import FEATURES, Items
from llmrec_env.interface.history import HISTORY, empty_histories
from llmrec_env.simulation.records import compiled_view

N = 40


def _mode(tiny, mode, **changes):
    slate = {"slate_size": 1} if mode == "item" else {}
    return ActionMode(EnvConfig(**(tiny | {"action": mode} | slate | changes)), 600)


GOOD = {
    "slate": np.zeros((2, 5), np.int64),
    "item": np.zeros(2, np.int64),
    "recipe": np.zeros(2, np.int64),
    "weights": np.zeros((2, 8), np.float32),
    "query": np.zeros((2, 32), np.float32),
}


@pytest.mark.parametrize("mode", GOOD)
def test_actions_of_the_space_are_accepted_in_any_integer_or_float_type(tiny, mode):
    decider = _mode(tiny, mode)
    decider.space.seed(0)
    for _ in range(20):
        decider.decide(np.stack([decider.space.sample() for _ in range(3)]), 3)
    types = (np.int8, np.int32, np.uint8) if GOOD[mode].dtype == np.int64 else (float, np.float16)
    for kind in types:
        decider.decide(GOOD[mode].astype(kind), 2)
    decider.decide(GOOD[mode].tolist(), 2)


@pytest.mark.parametrize("mode", GOOD)
def test_wrong_shapes_are_refused(tiny, mode):
    for bad in (GOOD[mode][..., None], GOOD[mode][:1], GOOD[mode][:0], 0):
        with pytest.raises(ValueError, match="shape"):
            _mode(tiny, mode).decide(bad, 2)


@pytest.mark.parametrize("mode", GOOD)
def test_wrong_types_are_refused(tiny, mode):
    good = GOOD[mode]
    kinds = [bool, str, object, complex] + ([float] if good.dtype == np.int64 else [])
    for kind in kinds:
        with pytest.raises(TypeError, match=f"dtype.*{mode!r}"):
            _mode(tiny, mode).decide(good.astype(kind), 2)


@pytest.mark.parametrize("mode", ["slate", "item", "recipe"])
def test_indices_out_of_range_are_refused(tiny, mode):
    bound = 32 if mode == "recipe" else 20
    for value in (-1, bound, 2**40):
        bad = GOOD[mode].copy()
        bad.flat[-1] = value
        with pytest.raises(ValueError, match=f"holds {value}.*0 to {bound - 1}"):
            _mode(tiny, mode).decide(bad, 2)
    with pytest.raises(ValueError):
        _mode(tiny, mode).decide(np.full(GOOD[mode].shape, 2**64 - 1, np.uint64), 2)


@pytest.mark.parametrize("mode", ["weights", "query"])
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 1.01, -2, 1e300])
def test_floats_out_of_range_are_refused(tiny, mode, value):
    bad = GOOD[mode].astype(np.float64)
    bad[1, -1] = value
    with pytest.raises(ValueError, match=r"finite values in \[-1, 1\]"):
        _mode(tiny, mode).decide(bad, 2)


def test_integers_out_of_range_are_refused_however_small_their_type(tiny):
    with pytest.raises(ValueError, match="128"):  # |int8(-128)| is -128
        _mode(tiny, "weights").decide(np.full((2, 8), -128, np.int8), 2)


def test_a_refused_action_changes_nothing(new_simulator):
    simulator = new_simulator(3)
    before = simulator.users.copy()
    with pytest.raises(ValueError):
        simulator.step(np.full((3, 5), 99))
    assert (simulator.users == before).all()


def test_a_candidate_picked_twice_becomes_the_next_free_one(new_simulator):
    simulator = new_simulator(N, observation="dict")
    actions = np.random.default_rng(0).integers(16, 20, (N, 5))
    actions[0] = 19
    offered = simulator.buffers.ids.copy()
    simulator.step(actions)
    for picks, ids, response in zip(actions, offered, simulator.responses, strict=True):
        indices = []
        for pick in picks:
            while pick in indices:
                pick = (pick + 1) % 20
            indices.append(pick)
        np.testing.assert_array_equal(response["slate"], ids[indices])


def _assert_greedy(slate, scores, ids, vectors, mmr):
    """Every slot is a best remaining one by maximal marginal relevance, up to rounding and ties."""
    value, likeness = scores.copy(), np.zeros(len(ids))
    for item in slate:
        (index,) = np.flatnonzero(ids == item)
        assert value[index] >= value.max() - 1e-5
        likeness = np.maximum(likeness, vectors[ids] @ vectors[item])
        scores[index] = -np.inf
        value = scores - mmr * likeness


def _added(simulator):
    """What mechanisms count in the scores of the candidates, (n, c)."""
    observation = observation_of(simulator, slice(None))
    weights = {"candidate_freshness": 0.5, "candidate_familiarity": 0.1}
    blocks = [w * observation[x] for x, w in weights.items() if x in observation]
    return np.sum(blocks, axis=0) if blocks else np.zeros(observation["candidates"].shape)


def _check_ranking(simulator, plans, actions, slots=5):
    ids, features = simulator.buffers.ids.copy(), simulator.buffers.features.copy()
    added = _added(simulator)
    simulator.step(actions)
    for i in range(simulator.n):
        slate, scores = simulator.responses["slate"][i], features[i] @ plans[i][: len(FEATURES)]
        scores += added[i]
        assert len(set(slate)) == 5 and set(slate) <= set(ids[i])
        mmr = plans[i][len(FEATURES)]
        _assert_greedy(slate[:slots], scores, ids[i], simulator.world.items.vectors, mmr)


def test_the_zero_action_of_weights_is_the_content_plan(new_simulator):
    simulator = new_simulator(N, action="weights", observation="dict")
    for _ in range(4):
        _check_ranking(simulator, [CONTENT_PLAN] * N, np.zeros((N, 8), np.float32))


def test_weights_shift_the_ranking(new_simulator):
    simulator = new_simulator(N, action="weights", observation="dict")
    rng = np.random.default_rng(2)
    for _ in range(4):
        actions = rng.uniform(-1, 1, (N, 8)).astype(np.float32)
        plans = np.tile(CONTENT_PLAN, (N, 1))
        plans[:, :8] += actions
        _check_ranking(simulator, plans, actions)


@pytest.mark.parametrize("mode", ["weights", "recipe", "query"])
def test_what_mechanisms_add_counts_in_every_ranking(new_simulator, mode):
    mechanisms = {"new_items": 0.5, "creator_growth": 0.8, "creator_choice": 6.0}
    simulator = new_simulator(N, action=mode, observation="dict", **mechanisms)
    for _ in range(4):
        added = _added(simulator)
        assert np.ptp(added, axis=1).min() > 0.2
        if mode == "weights":
            _check_ranking(simulator, [CONTENT_PLAN] * N, np.zeros((N, 8), np.float32))
        elif mode == "recipe":
            _check_ranking(simulator, [next(iter(RECIPES.values()))] * N, np.zeros(N, np.int64))
        else:
            ids, vectors = simulator.buffers.ids.copy(), simulator.world.items.vectors
            recent = simulator.histories["recent"].copy()
            simulator.step(np.zeros((N, query_dim(simulator.config)), np.float32))
            for i in range(N):
                scores = vectors[ids[i]] @ recent[i] / np.linalg.norm(recent[i]) + added[i]
                shown = [
                    int(np.flatnonzero(ids[i] == x)[0]) for x in simulator.responses["slate"][i]
                ]
                np.testing.assert_allclose(scores[shown], np.sort(scores)[::-1][:5], atol=1e-5)


@pytest.mark.parametrize("name", RECIPES)
def test_recipes_rank_as_they_are_named(new_simulator, name):
    simulator = new_simulator(N, action="recipe", observation="dict")
    plan, number = RECIPES[name], list(RECIPES).index(name)
    assert ("diverse" in name) == (plan[len(FEATURES)] > 0)
    assert ("substance" in name) == (plan[FEATURES.index("substance")] > 0)
    slots = 4 if "explore" in name else 5
    _check_ranking(simulator, [plan] * N, np.full(N, number), slots)


def test_exploring_recipes_end_with_a_uniform_candidate(new_simulator):
    simulator = new_simulator(3000, action="recipe", observation="dict")
    ids = simulator.buffers.ids.copy()
    simulator.step(np.full(3000, list(RECIPES).index("popular+explore")))
    slates = simulator.responses["slate"]
    rank = [np.flatnonzero(row == last)[0] for row, last in zip(ids, slates[:, -1], strict=True)]
    counts = np.bincount(rank, minlength=20)
    assert counts.min() > 60 and (counts > 0).all()
    assert len(RECIPES) == 32


def _near(simulator, i, ids, action):
    recent = simulator.histories["recent"][i].astype(np.float64)
    target = recent / np.linalg.norm(recent)
    target[: len(action)] += action
    scores = simulator.world.items.vectors[ids][:, : len(action)] @ target[: len(action)]
    return ids[np.argsort(-scores)[:5]]


@pytest.mark.parametrize("observation_dim", [32, 12])
def test_query_shows_the_nearest_candidates(new_simulator, observation_dim):
    simulator = new_simulator(
        N, action="query", observation="dict", observation_dim=observation_dim
    )
    rng = np.random.default_rng(1)
    for _ in range(3):
        actions = rng.uniform(-1, 1, (N, observation_dim)).astype(np.float32)
        offered = simulator.buffers.ids.copy()
        expected = [_near(simulator, i, offered[i], actions[i]) for i in range(N)]
        simulator.step(actions)
        np.testing.assert_array_equal(simulator.responses["slate"], expected)


@pytest.mark.parametrize("mode", ["slate", "weights", "query", "recipe"])
def test_the_whole_catalogue_never_shows_what_is_unavailable(new_simulator, draw_actions, mode):
    simulator = new_simulator(N, action=mode, candidates=0, observation="dict")
    rng = np.random.default_rng(1)
    for _ in range(15):
        offered = simulator.buffers.ids.copy()
        actions = draw_actions(simulator, rng)
        if mode == "slate":
            actions[:, :] = actions[:, :1]  # many duplicates
        expected = None
        if mode == "query":
            expected = [
                _near(simulator, i, row[row >= 0], actions[i]) for i, row in enumerate(offered)
            ]
        simulator.step(actions)
        slates = simulator.responses["slate"]
        for slate, row in zip(slates, offered, strict=True):
            assert len(set(slate)) == 5 and (row[slate] == slate).all()
        if expected is not None:
            np.testing.assert_array_equal(slates, expected)


def _ranked(scores, ids, vectors, mmr, slots):
    """Slot by slot, from the definition: of equal values the higher score, then the lower id."""
    best_first = np.lexsort((ids, -scores))[:128]
    likeness, slate = np.zeros(len(ids), np.float32), []
    for _ in range(slots):
        left = [c for c in best_first if ids[c] not in slate]
        value = scores - mmr * likeness
        chosen = ids[max(left, key=lambda c: value[c])]  # the first of the highest
        slate.append(chosen)
        likeness = np.maximum(likeness, vectors[ids] @ vectors[chosen])
    return slate


@pytest.mark.parametrize("count", [5, 17, 100, 150, 300])
@pytest.mark.parametrize("dim", [4, 20])
@pytest.mark.parametrize("mmr", [0.0, 0.25, 1.0])
def test_ranking_is_the_one_of_its_definition_with_ties(count, dim, mmr):
    rng = np.random.default_rng(count + dim)
    histories = empty_histories(1, EnvConfig(dim=dim, slate_size=5))
    vectors = (rng.integers(-2, 3, (400, dim)) / 4).astype(np.float32)  # their products are exact
    popularity, substance = (rng.integers(0, 3, (2, 400)) / 2).astype(np.float32)
    published = np.zeros(400, np.int32)
    factors, nobody = np.zeros((400, 16), np.float32), np.full(400, -1, np.int32)
    items = Items(vectors, factors, popularity, substance, published, nobody)
    for _ in range(20):
        plan, ids = np.zeros((1, MMR + 2), np.float32), rng.permutation(400)[:count]
        plan[0, FEATURES.index("popularity")], plan[0, FEATURES.index("substance")] = 1.0, -0.5
        plan[0, MMR] = mmr
        slate = np.full(5, -1, np.int32)
        history, ids = compiled_view(histories, HISTORY)[0], ids.astype(np.int32)
        rank(history, items, plan, 0, ids, np.empty(0, np.float32), np.uint64(1), slate)
        scores = popularity[ids] - np.float32(0.5) * substance[ids]
        assert slate.tolist() == _ranked(scores, ids, vectors, np.float32(mmr), 5)
