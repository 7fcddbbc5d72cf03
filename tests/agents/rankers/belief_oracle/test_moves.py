"""Moves: they leave what a trajectory is drawn from as it is."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from agents.rankers.belief_oracle import moves
from llmrec_env.simulation import noise

STEPS, PARTICLES, TRIES = 30, 300, 40
DEAF = {"choice_relevance": 0.0, "satisfaction_relevance": 0.0, "query_rate": 0.0}
"""What users do says nothing about them."""
EVENTFUL = {"switch_rate": 0.1, "refine_rate": 0.1, "discovery": 1.0}


def _summary(belief: Any) -> dict[str, np.ndarray]:
    particles, topic = belief.particles, belief._known.topic
    own = slice(0, PARTICLES)
    first = topic[particles.phrase[own, 0]]
    pairs = (first[:, :, None] == first[:, None, :]).sum((1, 2)) - first.shape[1]
    active = particles.active[own, STEPS] == 1
    last = particles.weight[own, STEPS]
    tasted = belief._known.community_taste[particles.community[own]]
    return {
        "active at first": particles.active[own, 0].sum(1),
        "active at last": active.sum(1),
        "switches": (particles.died[own, :STEPS] >= 0).sum(1),
        "newest switches": (particles.died[own, STEPS - 10 : STEPS] >= 0).sum(1),
        "wakes": particles.woken[own, :STEPS].sum(1),
        "refinements": _refinements(particles, own),
        "pairs of one topic": pairs,
        "common topics": (first < 8).sum(1),
        "rest": particles.rest[own].std(1),
        "noise": (particles.noise[own, :STEPS] ** 2).mean((1, 2)),
        "newest weight": np.where(active, last, 0.0).sum(1) / active.sum(1),
        "taste": ((particles.taste[own] - 0.8 * tasted) ** 2).sum(1),
        "community": particles.community[own],
        "phrase": particles.phrase[own, STEPS].mean(1),
    }


def _refinements(particles: Any, own: slice) -> np.ndarray:
    changed = particles.phrase[own, 1 : STEPS + 1] != particles.phrase[own, :STEPS]
    return changed.sum((1, 2)) - (particles.died[own, :STEPS] >= 0).sum(1)


@pytest.fixture(scope="module")
def deaf(new_belief, show):
    belief = new_belief(PARTICLES, **DEAF, **EVENTFUL)
    show(belief, STEPS)
    np.testing.assert_allclose(belief.particles.fit[:PARTICLES, :STEPS].std(), 0.0, atol=0.5)
    return belief


KINDS = ("phrase", "switch", "wake", "event", "noise", "rest", "count", "taste")


@pytest.mark.parametrize("kind", KINDS)
def test_moves_keep_the_prior_where_nothing_is_learnt(deaf, kind):
    move, before = getattr(moves, f"move_{kind}"), _summary(deaf)
    accepted = 0
    for i in range(PARTICLES):
        for m in range(TRIES):
            key = np.uint64(noise.step_key(np.uint64(KINDS.index(kind)), i * TRIES + m))
            arguments = deaf._known, deaf.past, deaf.particles, i, STEPS, key
            accepted += move(*arguments, deaf._user, deaf._scratch)
    assert accepted > (0.005 if kind == "count" else 0.05) * PARTICLES * TRIES
    for name, values in _summary(deaf).items():
        old = before[name]
        error = np.sqrt((values.var() + old.var()) / PARTICLES) + 1e-6
        assert abs(values.mean() - old.mean()) < 4.5 * error, name
