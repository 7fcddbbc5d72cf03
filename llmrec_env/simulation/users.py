"""HIDDEN: change of a user in a step: interests, satiation, goodwill and patience."""

from __future__ import annotations

import numpy as np

from llmrec_env.simulation import noise
from llmrec_env.simulation.compilation import inlined, kernel
from llmrec_env.simulation.creators import attach
from llmrec_env.simulation.inner_products import LANES, block8x2, products_with
from llmrec_env.simulation.interests import holds, relative_weights, switch_one
from llmrec_env.simulation.questions import resolve
from llmrec_env.simulation.regimes import enter_regime, regime_changes
from llmrec_env.simulation.user_record import MEMORY, satiation_vector

MAX_ACTIVE = 6
MAX_LOG_WEIGHT = 3.0
NOT_CLOSE = np.float32(0.25)  # cosine below which what is shown wakes nothing


@kernel
def relevance_of(user, params, trait, product):
    """Returns f(u, a, y) = [alpha(y) . u + kappa a . b]_+ of an item, from the product y . u."""
    taste = np.float32(0.0)
    for r in range(user.taste.shape[0]):
        taste += user.taste[r] * trait.taste[r]
    return max(product / params.scale + params.relevance_taste * taste, 0.0)


@inlined
def compare(user, phrases, vectors, traits, slate, params, scratch):
    """Writes how each interest relates to each slot, and the relevance of each.

    Args:
        scratch: receives `weights` omega_p, `affinity` cos(e_p, y_k), `relevance`.
    """
    weights, affinity, relevance = scratch.weights, scratch.affinity, scratch.relevance
    relative_weights(user, weights)
    for p in range(0, user.slots, 8):
        for k in range(0, slate.shape[0], 2):
            block8x2(
                phrases, (user.phrase, p), vectors, (slate, k), vectors.shape[1], affinity, k, p
            )
    products_with(weights, affinity, scratch.slots, relevance)
    for k in range(slate.shape[0]):
        relevance[k] = relevance_of(user, params, traits[slate[k]], relevance[k])


@inlined
def evolve(user, params, interests, vectors, traits, scratch, key, response):
    """Changes the user by one step: by itself, and because of what was shown and consumed.

    Args:
        scratch: holds `affinity` cos(e_p, y_k).
    """
    drift(user, params, scratch, key, response)
    wake(user, params, scratch, key, response)
    switch(user, params, interests, key, response)
    asked = resolve(user, params, interests, traits, scratch, key, response)
    forget(user, response)
    refine(user, params, interests, key, response)
    for p in range(user.slots):
        limit = np.float32(MAX_LOG_WEIGHT)
        user.weight[p] = min(max(user.weight[p], -limit), limit)
    satiate(user, params, vectors, response)
    goodwill = params.goodwill_decay * user.goodwill
    for k in range(response.choice + 1):
        if response.feedback[k] >= 0:
            item = response.slate[k]
            goodwill += params.goodwill_gain * traits[item].substance
            user.consumed[user.num_consumed % MEMORY] = item
            user.num_consumed += 1
    user.goodwill = goodwill
    attach(user, params, traits, response)
    ask(user, params, key, response)
    if asked >= 0:
        response.query = user.phrase[asked]
    user.step += 1


@inlined
def drift(user, params, scratch, key, response):
    """Log-weights wander around their rest, and follow what is consumed or merely shown."""
    affinity, change = scratch.affinity, scratch.change
    sigma, rate = np.float32(params.ou_sigma), np.float32(params.ou_rate)
    for first in range(0, user.slots, 8):  # eights of neighbours, which become vectors
        for p in range(first, first + 8):
            change[p] = 0.0
        if params.ou_sigma > 0.0:
            for p in range(first, first + 8):
                change[p] = sigma * noise.normal(key, noise.SPONTANEOUS + p)
        for k in range(response.choice + 1):
            if response.feedback[k] >= 0:
                effect = np.float32(params.reinforce * (1.0 if response.feedback[k] == 1 else -0.5))
                for p in range(first, first + 8):
                    change[p] += effect * max(affinity[k, p], np.float32(0.0))
        if params.exposure > 0.0:
            for k in range(response.examined):
                exposure = np.float32(params.exposure * params.examined[k])
                for p in range(first, first + 8):
                    change[p] += exposure * max(affinity[k, p], np.float32(0.0))
    for p in range(user.slots):
        user.weight[p] += rate * (user.rest[p] - user.weight[p]) + change[p]


@inlined
def attract(params, scratch, response):
    """Writes how strongly the slate calls each interest; times pi_d it is a probability.

    Args:
        scratch: holds `affinity` cos(e_p, y_k); receives `change`, the calls.
    """
    affinity, called = scratch.affinity, scratch.change
    for p in range(LANES):
        called[p] = 0.0
    for k in range(response.examined):
        weight = np.float32(params.examined[k])
        for p in range(LANES):
            called[p] = max(called[p], max(affinity[k, p] - NOT_CLOSE, np.float32(0.0)) * weight)
    for p in range(LANES):
        called[p] /= np.float32(1.0) - NOT_CLOSE
    for k in range(response.choice + 1):
        if response.feedback[k] >= 0:
            for p in range(LANES):
                called[p] += np.float32(0.5) * max(affinity[k, p] - NOT_CLOSE, np.float32(0.0))


@inlined
def wake(user, params, scratch, key, response):
    """Wakes at most one dormant interest: of those called, the one called most strongly."""
    response.woken = -1
    slot, strongest = -1, -1.0
    if params.discovery > 0.0:
        attract(params, scratch, response)
        for p in range(user.slots):
            called = scratch.change[p]
            if user.active[p] == 0 and called > strongest:
                if noise.uniform(key, noise.WAKE + p) < params.discovery * called:
                    slot, strongest = p, called
    if slot >= 0:
        user.active[slot] = 1
        user.weight[slot] = 0.5 * params.theta_birth
        response.woken = user.phrase[slot]


@inlined
def switch(user, params, interests, key, response):
    """An active interest dies and a dormant one is born: by chance, in a burst, in a new regime."""
    response.died, response.born = -1, -1
    if noise.uniform(key, noise.SWITCH) < params.switch_rate:
        switch_one(user, params, interests, key, noise.SWITCH + 1, response)
    if params.burst_step > 0 and user.step == int(params.burst_step):
        for burst in range(int(params.burst_size)):
            switch_one(user, params, interests, key, noise.SWITCH + 64 * (burst + 1), response)
    if regime_changes(params, user.step):
        for change in range(int(params.regime_size)):
            enter_regime(user, params, interests, key, noise.SWITCH + 64 * (change + 8), response)


@inlined
def forget(user, response):
    """Puts the weakest interest to sleep when more than six are awake."""
    response.slept = -1
    active, weakest = 0, -1
    for p in range(user.slots):
        if user.active[p] == 1:
            active += 1
            if weakest < 0 or user.weight[p] < user.weight[weakest]:
                weakest = p
    if active > MAX_ACTIVE:
        user.active[weakest] = 0
        response.slept = user.phrase[weakest]


@inlined
def refine(user, params, interests, key, response):
    """Moves one phrase to a neighbouring phrase of its topic."""
    response.refined_from, response.refined_to = -1, -1
    if noise.uniform(key, noise.REFINE) < params.refine_rate:
        slot = noise.below(key, noise.REFINE + 1, user.slots)
        index = noise.below(key, noise.REFINE + 2, interests.neighbours.shape[1])
        before = user.phrase[slot]
        after = interests.neighbours[before, index]
        if not holds(user, after):
            user.phrase[slot] = after
            if user.active[slot] == 1:
                response.refined_from, response.refined_to = before, after


@inlined
def satiate(user, params, vectors, response):
    """Satiation fades, and grows in the direction of what was consumed."""
    decay, satiation = np.float32(params.satiation_decay), satiation_vector(user)
    for j in range(user.dim):
        satiation[j] = decay * satiation[j]
    for k in range(response.choice + 1):
        if response.feedback[k] >= 0:
            item = response.slate[k]
            for j in range(user.dim):
                satiation[j] += vectors[item, j]


@inlined
def ask(user, params, key, response):
    """Sometimes the user types one of the active interests (probability ~ exp theta)."""
    response.query = -1
    if noise.uniform(key, noise.QUERY) < params.query_rate:
        most = -1e9
        for p in range(user.slots):
            if user.active[p] == 1:
                score = user.weight[p] + noise.gumbel(key, noise.QUERY + 1 + p)
                if score > most:
                    most, response.query = score, user.phrase[p]


@inlined
def tire(user, params, response):
    """Moves patience by all that was consumed; at 0 the user leaves."""
    change = -params.patience_ignored if response.choice < 0 else 0.0
    for k in range(response.choice + 1):
        if response.feedback[k] == 1:
            change += params.patience_satisfied
        elif response.feedback[k] == 0:
            change -= params.patience_dissatisfied
    user.patience = min(user.patience + change, params.patience_max)
    response.terminated = 1 if user.patience <= 0.0 else 0
    response.truncated = 1 if user.step >= params.horizon else 0
