"""Particles: probabilities that sum to one, trajectories that repeat, the population as prior."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from agents.rankers.belief_oracle import particles as module
from agents.rankers.belief_oracle.likelihood import response_fit
from llmrec_env.simulation.compilation import kernel


@kernel
def _fits(known, past, particles, t, user, scratch, out):
    for i in range(out.shape[0]):
        module.load(particles, i, t, user)
        user.goodwill, user.step = past.goodwill[t], t
        text = particles.text[i, t]
        out[i] = response_fit(known, past, t, text, user, scratch)


def _feedbacks(response):
    """Everything that may come of a slate of five."""
    if response == "cascade":
        return np.array(list(itertools.product((-1, 0, 1), repeat=5)), np.int32)
    one = np.full((11, 5), -1, np.int32)
    for k, z in itertools.product(range(5), (0, 1)):
        one[1 + 2 * k + z, k] = z
    return one


@pytest.mark.parametrize(
    ("response", "new_items"), [("logit", 0.0), ("cascade", 0.0), ("logit", 0.4)]
)
def test_probabilities_of_all_that_may_be_consumed_sum_to_one(
    new_belief, show, response, new_items
):
    belief = new_belief(6, response=response, cascade_null=1.0, new_items=new_items)
    show(belief, 4)
    total, fits, record = np.zeros(6), np.empty(6), belief.past.responses[3:4]
    belief.particles.text[:, 3] = np.linspace(-0.2, 0.9, 5)
    for feedback in _feedbacks(response):
        consumed = np.flatnonzero(feedback >= 0)
        record["feedback"][0, :5] = feedback
        record["choice"] = consumed[-1] if len(consumed) else -1
        arguments = belief._known, belief.past, belief.particles, 3, belief._user
        _fits(*arguments, belief._scratch, fits)
        total += np.exp(fits)
    np.testing.assert_allclose(total, 1.0, rtol=1e-5)


def test_a_replayed_trajectory_is_the_same(new_belief, show):
    belief = new_belief(20, moves=20)
    show(belief, 12)
    particles, end = belief.particles, belief.t
    for i in range(20):
        states = [x[i, : end + 1].copy() for x in particles[:3]]
        fit = particles.fit[i, :end].copy()
        arguments = belief._known, belief.past, particles, i, 0, end, -1e17
        total = module.replay(*arguments, belief._user, belief._scratch)
        for state, again in zip(states, particles[:3], strict=True):
            np.testing.assert_array_equal(state, again[i, : end + 1])
        np.testing.assert_allclose(particles.fit[i, :end], fit, rtol=1e-6, atol=1e-6)
        assert total == pytest.approx(fit.sum())


def test_without_evidence_particles_change_as_users_do(new_belief, show):
    belief = new_belief(2_000, choice_relevance=0.0, switch_rate=0.1, query_rate=0.0)
    show(belief, 20)
    own, end = slice(0, 2_000), belief.t
    particles, params = belief.particles, belief._known.params[0]
    switches = (particles.died[own, :end] >= 0).mean()
    assert switches == pytest.approx(0.1, abs=0.01)
    noise = particles.noise[own, :end]
    assert noise.std() == pytest.approx(1.0, abs=0.01)
    pulled = particles.rest[own] * params["ou_rate"] + particles.weight[own, 0] * (
        1 - params["ou_rate"]
    )
    moved = particles.weight[own, 1] - pulled
    asleep = (particles.active[own, 0] == 0) & (particles.active[own, 1] == 0)
    assert moved[asleep].std() == pytest.approx(params["ou_sigma"], rel=0.05)


def test_logged_slates_say_which_interest_was_searched(new_belief):
    belief = new_belief(4)
    world_phrases = belief._known.interests.vectors
    closest = np.argsort(-(belief._known.vectors @ world_phrases[77]))[:5].astype(np.int32)
    belief.begin_session(1)
    belief.follow(closest, np.full(5, -1, np.int32), -1)
    chances = belief.past.logged[0]
    assert chances[77] > 100 * np.median(chances)
    assert belief.past.logged.shape[1] == len(world_phrases) and (chances > 0).all()


def test_resampling_copies_as_many_as_the_weights_say(new_belief):
    belief = new_belief(10)
    weights = np.array([0.5, 0.3, 0.2, 0, 0, 0, 0, 0, 0, 0])
    first = belief.particles.rest[:10].copy()
    module.resample(belief.particles, 0, weights, np.uint64(3))
    counts = [(belief.particles.rest[:10] == row).all(1).sum() for row in first]
    np.testing.assert_array_equal(counts[:3], [5, 3, 2])
    assert (belief.particles.log_weight == 0).all()
