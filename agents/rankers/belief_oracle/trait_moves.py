"""Moves of what no event decides: noise of log-weights, where they rest, taste and community."""

from __future__ import annotations

import math

import numpy as np

from agents.rankers.belief_oracle.likelihood import response_fit
from agents.rankers.belief_oracle.particles import load
from agents.rankers.belief_oracle.trials import ACCEPT, begin_trial, first_prior, take
from llmrec_env.simulation import noise
from llmrec_env.simulation.compilation import kernel
from llmrec_env.simulation.elementary import log64
from llmrec_env.simulation.population import COMMUNITY_TASTE, OWN_TASTE
from llmrec_env.simulation.user_record import TASTE_DIM
from llmrec_env.simulation.users import MAX_LOG_WEIGHT

_NOISE_WINDOW = 40  # newest steps whose noise is moved


@kernel
def move_noise(known, past, particles, i, end, key, user, scratch):
    """Moves the noise of one log-weight, or of all, from some step on (preconditioned walk)."""
    start = end - 1 - noise.below(key, 10, min(end, _NOISE_WINDOW))
    slot = noise.below(key, 11, user.slots + 2)
    kept = 0.8
    if slot < user.slots:
        kept = 0.0 if noise.uniform(key, 12) < 0.5 else 0.6
    trial, new = begin_trial(particles, i, start, end), math.sqrt(1.0 - kept * kept)
    for t in range(start, end):
        step_key = noise.step_key(key, t)
        for p in range(user.slots):
            if slot >= user.slots or slot == p:
                old = particles.noise[i, t, p]
                particles.noise[trial, t, p] = kept * old + new * noise.normal(step_key, p)
    return take(known, past, particles, i, start, end, 0.0, key, user, scratch)


@kernel
def move_rest(known, past, particles, i, end, key, user, scratch):
    """Moves the resting log-weight of an interest, with which it also begins."""
    params, slot = known.params[0], noise.below(key, 10, user.slots)
    kept = 0.8 if noise.uniform(key, 11) < 0.5 else 0.0
    trial, new = begin_trial(particles, i, 0, end), math.sqrt(1.0 - kept * kept)
    rest = kept * particles.rest[i, slot] + new * params.base_sd * noise.normal(key, 12)
    particles.rest[trial, slot] = rest
    particles.weight[trial, 0, slot] = min(max(rest, -MAX_LOG_WEIGHT), MAX_LOG_WEIGHT)
    return take(known, past, particles, i, 0, end, 0.0, key, user, scratch)


@kernel
def community_of(known, particles, i, end, key, with_taste):
    """Returns a community drawn by the phrases of particle i, and by its taste if so wanted."""
    count = known.community_taste.shape[0]
    scores = np.empty(count)
    for c in range(count):
        scores[c] = first_prior(known, particles.phrase[i, 0], c)
        for t in range(end):
            if particles.died[i, t] >= 0:
                scores[c] += known.fresh[c, particles.fresh[i, t]]
        if with_taste:
            for r in range(TASTE_DIM):
                own = particles.taste[i, r] - COMMUNITY_TASTE * known.community_taste[c, r]
                scores[c] -= 0.5 * (own / OWN_TASTE) ** 2
    best, most = 0, -np.inf
    for c in range(count):  # Gumbel-max
        score = scores[c] + noise.gumbel(key, 20 + c)
        if score > most:
            best, most = c, score
    return best


@kernel
def move_taste(known, past, particles, i, end, key, user, scratch):
    """Moves the taste within its community, or to another one as the phrases say.

    No trajectory depends on taste: nothing is replayed.
    """
    trial, community = particles.log_weight.shape[0], particles.community[i]
    choice = noise.uniform(key, 10)
    if choice < 0.15:
        particles.community[i] = community_of(known, particles, i, end, key, True)
        return True
    kept, target = 1.0, community
    if choice < 0.3:
        target = community_of(known, particles, i, end, key, False)
    else:
        kept = 0.95 if choice < 0.6 else (0.8 if choice < 0.85 else 0.3)
    new = math.sqrt(1.0 - kept * kept)
    for r in range(TASTE_DIM):
        own = particles.taste[i, r] - COMMUNITY_TASTE * known.community_taste[community, r]
        own = kept * own + new * OWN_TASTE * noise.normal(key, 40 + r)
        particles.taste[trial, r] = COMMUNITY_TASTE * known.community_taste[target, r] + own
    return take_taste(known, past, particles, i, target, end, key, user, scratch)


@kernel
def take_taste(known, past, particles, i, community, end, key, user, scratch):
    """Gives particle i the taste of the trial row and a community, or leaves it."""
    trial = particles.log_weight.shape[0]
    change, old, new = np.zeros(end), particles.taste[i].copy(), particles.taste[trial]
    margin = -log64(noise.uniform(key, ACCEPT))
    for t in range(end):
        if known.params[0].resolution > 0.0:
            load(particles, i, t, user)
        user.goodwill, user.step = past.goodwill[t], t - past.num_logged[0]
        user.taste[:] = old
        before = response_fit(known, past, t, particles.text[i, t], user, scratch)
        user.taste[:] = new
        change[t] = response_fit(known, past, t, particles.text[i, t], user, scratch) - before
        margin += change[t]
    if margin < 0.0:
        return False
    particles.fit[i, :end] += change
    particles.taste[i] = new
    particles.community[i] = community
    return True
