"""Sessions advanced together: scope, endings, common random numbers, and what switches stop."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from llmrec_env.config import SWITCHES
from llmrec_env.simulation.freshness import ALWAYS

DRIFT_PARTS = {"spontaneous", "switching", "refinement", "reinforcement", "influence"}
STRONG = {
    **{"ou_sigma": 0.3, "switch_rate": 0.3, "refine_rate": 0.3, "reinforce": 0.5},
    **{"exposure": 0.1, "discovery": 0.8, "query_rate": 0.3},
}
N, STEPS = 60, 12


def _play(simulator, steps=STEPS, seed=0, after_step=None):
    """Plays random slates and returns the responses, (steps, n)."""
    rng, responses = np.random.default_rng(seed), []
    for _ in range(steps):
        simulator.step(rng.integers(0, 20, (simulator.n, 5)))
        responses.append(simulator.responses.copy())
        if after_step:
            after_step(simulator)
    return np.stack(responses)


def _move(simulator, **changes):
    """Puts the sessions into a changed world."""
    simulator.world = dataclasses.replace(simulator.world, **changes)
    simulator._link()


def test_an_action_changes_its_own_user_and_nobody_else(new_simulator):
    one, other = new_simulator(N, **STRONG), new_simulator(N, **STRONG)
    rng = np.random.default_rng(3)
    for _ in range(STEPS):
        actions = rng.integers(0, 20, (N, 5))
        one.step(actions)
        actions[17] = rng.permutation(20)[:5]
        other.step(actions)
    rest = np.arange(N) != 17
    assert one.users[17] != other.users[17]
    for name in ("users", "histories", "responses"):
        left, right = getattr(one, name), getattr(other, name)
        assert (left[rest] == right[rest]).all(), name
    assert one.buffers.vector[rest].tobytes() == other.buffers.vector[rest].tobytes()


def test_satisfied_consumption_raises_aligned_interests_in_sessions_too(new_simulator):
    """Paired by seed in one world: only `reinforce` differs."""
    with_it, without = new_simulator(N), new_simulator(N)
    for simulator, reinforce in ((with_it, 1.0), (without, 0.0)):
        params = simulator.world.params.copy()
        params["reinforce"], params["discovery"], params["switch_rate"] = reinforce, 0.0, 0.0
        params.setflags(write=False)
        _move(simulator, params=params)
    before = without.users.copy()
    _play(with_it, 1)
    response = _play(without, 1)[0]
    for name in ("slate", "choice", "satisfied", "relevance"):  # what is typed follows the weights
        np.testing.assert_array_equal(with_it.responses[name], without.responses[name])
    change = with_it.users["weight"] - without.users["weight"]
    vectors, phrases = without.world.items.vectors, without.world.interests.vectors
    affinity = np.vecdot(phrases[before["phrase"]], vectors[response["item"]][:, None])
    room = np.abs(without.users["weight"]) < 1.5
    for consumed, factor in (
        ((response["item"] >= 0) & (response["satisfied"] == 1), 1.0),
        ((response["item"] >= 0) & (response["satisfied"] == 0), -0.5),
        (response["item"] < 0, 0.0),
    ):
        chosen = consumed[:, None] & room
        assert consumed.sum() > 3
        expected = factor * np.maximum(affinity, 0)
        np.testing.assert_allclose(change[chosen], expected[chosen], atol=1e-4)


@pytest.mark.parametrize("resting", [False, True])
def test_a_session_does_not_depend_on_its_batch(new_simulator, resting):
    three, eight = new_simulator(3), new_simulator(8)
    eight.users["noise_key"][:3] = three.users["noise_key"]
    eight.show(np.arange(8))
    rng = np.random.default_rng(1)
    for _ in range(STEPS):
        actions = rng.integers(0, 20, (8, 5))
        three.step(actions[:3])
        eight.step(actions, np.array([5, 7]) if resting else None)
    for name in ("users", "histories", "responses"):
        assert getattr(three, name).tobytes() == getattr(eight, name)[:3].tobytes(), name
    np.testing.assert_array_equal(three.buffers.vector, eight.buffers.vector[:3])


def test_show_touches_only_the_sessions_named(new_simulator):
    simulator = new_simulator(4)
    simulator.step(np.tile(np.arange(5), (4, 1)))
    before = simulator.buffers.vector.copy()
    simulator.start(np.array([2]), np.array([9]), np.array([1], np.uint64))
    simulator.show(np.array([2]))
    assert (before[2] != simulator.buffers.vector[2]).any()
    np.testing.assert_array_equal(
        np.delete(before, 2, 0), np.delete(simulator.buffers.vector, 2, 0)
    )


def test_every_user_bursts_at_the_burst_step_and_only_then(new_simulator):
    simulator = new_simulator(N, burst_step=5, switch_rate=0.0, off=["churn"])
    responses = _play(simulator)
    assert ((responses["died"] >= 0) == (np.arange(STEPS) == 5)[:, None]).all()
    assert (simulator.users["last_switch"] == 5).all()


def test_a_burst_switches_as_many_interests_as_it_says(new_simulator):
    quiet = {"switch_rate": 0.0, "refine_rate": 0.0, "discovery": 0.0}
    changed = []
    for size in (1, 3):
        simulator = new_simulator(N, burst_step=1, burst_size=size, **quiet)
        _play(simulator, 1)
        before = simulator.users["phrase"].copy()
        _play(simulator, 1)
        changed.append((before != simulator.users["phrase"]).sum(1).mean())
    assert changed[0] <= 1.0 and changed[1] > 2.0


def test_no_user_ever_holds_one_phrase_twice(new_simulator):
    simulator = new_simulator(N, **(STRONG | {"switch_rate": 1.0, "refine_rate": 1.0}))
    distinct = []

    def check(simulator):
        distinct.append((np.diff(np.sort(simulator.users["phrase"], axis=1), axis=1) > 0).all())

    _play(simulator, 30, after_step=check)
    assert all(distinct)


def test_sessions_end_once_patience_or_time_is_used_up(new_simulator):
    simulator = new_simulator(N, patience_start=4.0)
    ended = np.zeros(N, bool)
    for t, response in enumerate(_play(simulator, 30)):
        truncated, terminated = response["truncated"] == 1, response["terminated"] == 1
        assert (truncated == (t + 1 == 30)).all()
        ended |= terminated
    assert 0 < ended.sum()
    simulator = new_simulator(N, off=["churn"])
    responses = _play(simulator, 30)
    assert (responses["terminated"] == 0).all()
    assert (responses["truncated"][:-1] == 0).all() and (responses["truncated"][-1] == 1).all()


def test_termination_is_when_patience_reaches_zero(new_simulator):
    simulator = new_simulator(N, patience_start=3.0)

    def check(simulator):
        left = simulator.users["patience"] <= 0
        np.testing.assert_array_equal(simulator.responses["terminated"] == 1, left)

    _play(simulator, 29, after_step=check)
    assert (simulator.users["patience"] <= 0).any()


def test_two_agents_on_one_seed_meet_common_random_numbers(new_simulator):
    one, other = (new_simulator(N, switch_rate=0.2, observation="dict") for _ in range(2))
    np.testing.assert_array_equal(one.buffers.ids, other.buffers.ids)
    switches = [_play(s, seed=i)["died"] >= 0 for i, s in enumerate((one, other))]
    np.testing.assert_array_equal(*switches)
    assert switches[0].any()
    assert one.histories.tobytes() != other.histories.tobytes()


def test_chosen_items_come_from_the_slate_and_the_slate_from_the_candidates(new_simulator):
    simulator = new_simulator(N, observation="dict")
    rng = np.random.default_rng(0)
    for _ in range(STEPS):
        offered = simulator.buffers.ids.copy()
        simulator.step(rng.integers(0, 20, (N, 5)))
        response = simulator.responses
        for i in range(N):
            slate = response["slate"][i]
            assert len(set(slate)) == 5 and set(slate) <= set(offered[i])
            choice = response["choice"][i]
            assert response["item"][i] == (slate[choice] if choice >= 0 else -1)
            assert choice >= 0 or (response["satisfied"][i] == 0 and response["relevance"][i] == 0)


def test_interests_are_the_weighted_sums_of_the_phrases(new_simulator):
    simulator = new_simulator(5)
    users, phrases = simulator.users, simulator.world.interests.vectors
    weights = np.where(users["active"] == 1, users["weight"], -np.inf)
    omega = np.exp(weights - weights.max(1, keepdims=True))
    expected = np.einsum("np,npd->nd", omega, phrases[users["phrase"]])
    np.testing.assert_allclose(simulator.interests(), expected, atol=1e-5)


def _differs(simulator, again, steps=STEPS):
    return _play(simulator, steps).tobytes() != _play(again, steps).tobytes()


def _moved(field):
    def effect(new_simulator, **kwargs):
        simulator = new_simulator(N, **kwargs)
        before = simulator.users[field].copy()
        _play(simulator)
        return (before != simulator.users[field]).any()

    return effect


def _responded(field):
    def effect(new_simulator, **kwargs):
        return (_play(new_simulator(N, **kwargs), 30)[field] >= int(field != "query")).any()

    return effect


def _minds(field):
    def effect(new_simulator, **kwargs):
        simulator, again = new_simulator(N, **kwargs), new_simulator(N, **kwargs)
        again.users[field] *= -3.0
        return _differs(simulator, again)

    return effect


def _minds_quality(new_simulator, **kwargs):
    simulator, again = new_simulator(N, **kwargs), new_simulator(N, **kwargs)
    traits = again.world.traits.copy()
    traits["quality"] *= -3.0
    traits.setflags(write=False)
    _move(again, traits=traits)
    return _differs(simulator, again)


def _shares_taste(new_simulator, **kwargs):
    world = new_simulator(1, **kwargs).world
    facets, taste = world.catalog.facets, world.traits["taste"].astype(np.float64)
    kin = (facets[:, None] == facets) & ~np.eye(len(facets), dtype=bool)
    return (taste @ taste.T)[kin].mean() > 0.1


def _minds_order(new_simulator, **kwargs):
    params = new_simulator(1, **kwargs).world.params
    return params["rank_penalty"].any() or (params["examined"] != 1.0).any()


def _spares_what_was_shown(new_simulator, **kwargs):
    simulator, again = new_simulator(N, observation="dict", **kwargs), []

    def check(simulator):
        for history, ids in zip(simulator.histories, simulator.buffers.ids, strict=True):
            again.append(set(ids) & set(history["shown"][: history["num_shown"]]))

    _play(simulator, after_step=check)
    return not any(again)


def _follows_regimes(new_simulator, **kwargs):
    by_regimes_alone = kwargs | {"switch_rate": 0.0, "regime_rate": 0.3}
    return _moved("last_switch")(new_simulator, **by_regimes_alone)


def _publishes(new_simulator, **kwargs):
    world = new_simulator(1, **kwargs, new_items=0.5).world
    return (world.items.published > ALWAYS).any()


def _attaches(new_simulator, **kwargs):
    simulator = new_simulator(N, **kwargs, creator_growth=0.5)
    _play(simulator)
    return "attachment" in simulator.users.dtype.names and simulator.users["attachment"].any()


def _resolves(new_simulator, **kwargs):
    by_answers_alone = kwargs | {"switch_rate": 0.0, "resolution": 0.3}
    return _moved("last_switch")(new_simulator, **by_answers_alone)


def _instructs(new_simulator, **kwargs):
    responses = _play(new_simulator(N, **kwargs, instruct_rate=1.0))
    return (responses["instruction"] >= 0).any()


EFFECTS = {
    "spontaneous": _moved("weight"),
    "switching": _moved("last_switch"),
    "regimes": _follows_regimes,
    "refinement": _moved("phrase"),
    "reinforcement": _moved("weight"),
    "influence": _moved("weight"),
    "drift": _moved("weight"),
    "satiation": _minds("satiation"),
    "goodwill": _moved("goodwill"),
    "taste": _minds("taste"),
    "shared_taste": _shares_taste,
    "quality": _minds_quality,
    "position": _minds_order,
    "queries": _responded("query"),
    "instructions": _instructs,
    "churn": _responded("terminated"),
    "cap": _spares_what_was_shown,
    "freshness": _publishes,
    "creators": _attaches,
    "resolution": _resolves,
}


@pytest.mark.parametrize("name", SWITCHES)
def test_every_switch_stops_its_mechanism_and_only_that_one_runs_without_the_others(
    new_simulator, name
):
    kin = {name, "drift"} if name in DRIFT_PARTS else {name}
    kin |= DRIFT_PARTS if name == "drift" else set()
    kin |= {"switching", "drift"} if name == "regimes" else set()  # which end them too
    others = [other for other in SWITCHES if other not in kin]
    kwargs = STRONG | {"patience_start": 3.0}
    assert EFFECTS[name](new_simulator, off=others, **kwargs)
    assert not EFFECTS[name](new_simulator, off=[*others, *kin], **kwargs)
    assert not EFFECTS[name](new_simulator, off=[name, *others], **kwargs)
