"""Resolution: which answers satisfy, what they end, and that oracles and beliefs agree on it."""

from __future__ import annotations

import numpy as np
import pytest

from agents.rankers.belief_oracle.agent import BeliefOracle
from agents.rankers.oracles import Lookahead, worth
from experiments.studies.ablation import variants_of
from llmrec_env.config import ConfigError, EnvConfig
from llmrec_env.simulation.records import compiled_view
from llmrec_env.simulation.user_record import USER

ANSWERS = {"resolution": 0.5, "resolution_substance": 0.2}
STILL = {"switch_rate": 0.0, "refine_rate": 0.0, "discovery": 0.0, "query_rate": 0.0}
FIRST = np.arange(5)
N = 400


def _fit(simulator, users, items):
    """Fit of items to each interest of users before the step, (n, interests)."""
    world, params = simulator.world, simulator.world.params
    phrases = world.interests.vectors[users["phrase"]]
    cosine = np.vecdot(phrases, world.text_vectors[items][:, None])
    depth = params["resolution_substance"] * world.traits["substance"][items]
    return cosine / params["scale"] + depth[:, None]


def _step(simulator):
    before = simulator.users.copy()
    simulator.step(np.tile(FIRST, (simulator.n, 1)))
    return before, simulator.responses.copy(), simulator.users


def test_only_an_answer_that_fits_an_open_question_satisfies(new_simulator):
    simulator = new_simulator(N, **ANSWERS, off=["churn"])
    satisfied, dissatisfied = 0, 0
    for _ in range(8):
        before, response, _ = _step(simulator)
        consumed = response["item"] >= 0
        fit = _fit(simulator, before, response["item"])
        fits = np.where(before["active"] == 1, fit, -9.0).max(axis=1) >= 0.5
        liked = consumed & (response["satisfied"] == 1)
        assert fits[liked].all()
        satisfied, dissatisfied = satisfied + liked.sum(), dissatisfied + (consumed & ~fits).sum()
    assert satisfied > 100 and dissatisfied > 100


def test_a_resolved_question_ends_and_the_next_one_is_typed(new_simulator):
    simulator = new_simulator(N, **ANSWERS, **STILL, off=["churn"])
    for _ in range(4):
        before, response, after = _step(simulator)
        liked = response["satisfied"] == 1
        assert liked.sum() > 20
        fit = np.where(before["active"] == 1, _fit(simulator, before, response["item"]), -9.0)
        closest, rows = fit.argmax(axis=1), np.arange(N)
        resolved = before["phrase"][rows, closest]
        np.testing.assert_array_equal(response["died"][liked], resolved[liked])
        held = (after["phrase"] == resolved[:, None]) & (after["active"] == 1)
        assert not held[liked].any()
        np.testing.assert_array_equal(response["query"][liked], response["born"][liked])
        asks = (after["phrase"] == response["query"][:, None]) & (after["active"] == 1)
        assert asks[liked].any(axis=1).all()
        assert (before["active"].sum(1) == after["active"].sum(1)).all()
        for name in ("died", "born", "query"):
            assert (response[name][~liked] == -1).all()


def test_the_same_answer_again_does_not_satisfy(new_simulator):
    simulator = new_simulator(N, **ANSWERS, **STILL, active_min=1, active_max=1, off=["churn"])
    params = simulator.world.params
    assert params["resolution"] == 0.5
    again = total = 0
    for _ in range(6):
        _, response, after = _step(simulator)
        liked = np.flatnonzero(response["satisfied"] == 1)
        fit = _fit(simulator, after[liked], response["item"][liked])
        open_now = np.where(after["active"][liked] == 1, fit, -9.0).max(axis=1)
        again, total = again + (open_now >= 0.5).sum(), total + len(liked)
    assert total > 50 and again < 0.1 * total


def test_depth_helps_and_clickbait_hinders(new_simulator):
    shares = []
    for weight in (0.0, 1.0):
        settings = ANSWERS | {"resolution_substance": weight}
        simulator = new_simulator(N, **settings, off=["churn", "goodwill"])
        substance, of = simulator.world.traits["substance"], []
        for _ in range(10):
            _, response, _ = _step(simulator)
            of.append(substance[response["item"][response["satisfied"] == 1]])
        shares.append(np.concatenate(of).mean())
    assert shares[1] > shares[0] + 0.2


@pytest.mark.parametrize("response", ["logit", "cascade"])
def test_by_default_and_switched_off_nothing_is_resolved(new_simulator, response):
    plain = new_simulator(60, response=response)
    off = new_simulator(60, response=response, **ANSWERS, off=["resolution"])
    for _ in range(10):
        for simulator in (plain, off):
            simulator.step(np.tile(FIRST, (60, 1)))
        assert plain.users.tobytes() == off.users.tobytes()
        assert plain.responses.tobytes() == off.responses.tobytes()


def test_batches_and_single_sessions_agree_in_a_cascade(new_vec, new_env):
    settings = {"observation": "dict", "response": "cascade", **ANSWERS}
    one, alone = new_vec(5, **settings), new_env(**settings).unwrapped
    seen, single = one.reset(seed=0)[0], alone.reset(seed=2)[0]
    for _ in range(12):
        for name in ("candidates", "recent_queries", "history"):
            np.testing.assert_array_equal(seen[name][2], single[name])
        seen, single = one.step(np.tile(FIRST, (5, 1)))[0], alone.step(FIRST)[0]


def test_oracles_know_which_candidates_resolve(new_simulator):
    simulator = new_simulator(4, observation="dict", **ANSWERS)
    world, ids = simulator.world, simulator.buffers.ids
    users = compiled_view(simulator.users, USER)
    odds, satisfaction, value = np.empty((3, ids.shape[1]))
    resolve = 0
    for i in range(4):
        room, of_world = np.empty(8, np.float32), (world.items.vectors, world.traits)
        worth(
            *(users[i], world.params[0], world.interests.vectors, *of_world),
            *(Lookahead(), room, ids, i, odds, satisfaction, value),
        )
        one = np.repeat(simulator.users[i : i + 1], ids.shape[1])
        fit = np.where(one["active"] == 1, _fit(simulator, one, ids[i]), -9.0).max(axis=1)
        np.testing.assert_array_equal(satisfaction > 1e-9, fit >= 0.5)
        resolve += (fit >= 0.5).sum()
    assert 4 < resolve < 70


def test_the_belief_oracle_plays_on(new_vec):
    env = new_vec(3, observation="dict", off=["churn"], **ANSWERS)
    agent = BeliefOracle(particles=4, moves=3)
    agent.attach(env)
    observation, _ = env.reset(seed=1)
    starts = np.ones(3, np.bool_)
    for _ in range(8):
        observation = env.step(agent.act(observation, starts))[0]
        starts = np.zeros(3, np.bool_)
    for i in range(3):
        assert np.isfinite(agent._beliefs[i].weights).all()
        assert np.isfinite(agent._beliefs[i].particles.log_weight).all()


def test_the_ablation_switches_it_off_where_the_task_has_it():
    parts = {"mechanisms": ("queries", "resolution")}
    labels = [x.label for x in variants_of("llmrec/Drift-v1", (), ANSWERS, parts)]
    assert labels == ["whole", "queries off", "resolution off"]


def test_a_threshold_out_of_range_is_refused(tiny):
    with pytest.raises(ConfigError, match=r"resolution=2\.5 is out of range; allowed: 0\.0 to 2"):
        EnvConfig(**tiny, resolution=2.5)
