"""Likelihood of what is public of a step, by who the user may be."""

from __future__ import annotations

import numpy as np

from llmrec_env.simulation.compilation import inlined, kernel
from llmrec_env.simulation.elementary import exp32, exp64, log64
from llmrec_env.simulation.questions import gate
from llmrec_env.simulation.response import appeal, sigmoid
from llmrec_env.simulation.users import relevance_of

_LEAST_QUERY = 1e-3  # probability of a typed phrase that is none of the interests: keeps mobility
_LEAST = 1e-300


@inlined
def response_fit(known, past, t, text, user, scratch):
    """Returns the log-probability of what the user consumed of step t's slate, and of each z.

    Args:
        text: y . u of each slot, (k,).
        user: whose taste and goodwill, and where answers resolve questions whose phrases, are read.
    """
    params, response = known.params[0], past.responses[t]
    odds, logits = scratch.odds, scratch.logits
    for k in range(response.slots):
        trait = known.traits[response.slate[k]]
        relevance = relevance_of(user, params, trait, text[k])
        satiation, attachment = past.satiation[t, k], past.attachment[t, k]
        utility, logits[k] = appeal(user, params, trait, relevance, satiation, attachment)
        if params.resolution > 0.0:
            for p in range(user.slots):
                scratch.affinity[k, p] = past.cosines[t, user.phrase[p], k]
            logits[k] = gate(user, params, trait, scratch.affinity, k, logits[k])
        odds[k] = np.float32(utility - past.penalty[t, k])
    for k in range(response.slots):
        odds[k] = exp32(odds[k])
    if params.cascade == 1:
        return log64(max(browsing_chance(params, response, odds, logits), _LEAST))
    total, chance = 1.0, 1.0
    for k in range(response.slots):
        total += odds[k]
    if response.choice >= 0:
        chance = odds[response.choice] * feedback_chance(response, response.choice, logits)
    return log64(max(chance / total, _LEAST))


@inlined
def feedback_chance(response, k, logits):
    """Returns the probability of the feedback of a slot that was consumed."""
    return sigmoid(logits[k] if response.feedback[k] == 1 else -logits[k])


@kernel
def browsing_chance(params, response, odds, logits):
    """Returns the probability of what a cascade consumed: where it stopped is not public."""
    last, unseen = response.choice, 1.0  # P(nothing more | slot k is examined), from the last slot
    for k in range(response.slots - 1, last, -1):
        skipped = 1.0 / (1.0 + np.float64(odds[k]))
        unseen = skipped * (1.0 - params.cascade_skipped + params.cascade_skipped * unseen)
    chance = 1.0
    for k in range(last + 1):
        consumed = odds[k] / (1.0 + np.float64(odds[k]))
        if response.feedback[k] < 0:
            chance *= (1.0 - consumed) * params.cascade_skipped
            continue
        goes_on = params.cascade_dissatisfied
        if response.feedback[k] == 1:
            goes_on = params.cascade_satisfied
        chance *= consumed * feedback_chance(response, k, logits)
        chance *= goes_on if k < last else 1.0 - goes_on + goes_on * unseen
    return chance if last >= 0 else unseen


@inlined
def logged_fit(past, t, user):
    """Returns the log-probability of a logged slate: a search for one active interest.

    The policy takes a random slot, and if it is dormant the next active one.
    """
    chance, run = 0.0, 0
    for step in range(2 * user.slots):  # twice around: the runs before the first active slot
        p = step % user.slots
        run += 1
        if user.active[p] == 1:
            if step >= user.slots:
                chance += run * past.logged[t, user.phrase[p]]
            run = 0
    return log64(max(chance / user.slots, _LEAST))


@inlined
def query_fit(response, user):
    """Returns the log-probability of the phrase that was typed, given that one was."""
    total, typed = 0.0, 0.0
    for p in range(user.slots):
        if user.active[p] == 1:
            share = exp64(user.weight[p])
            total += share
            typed += share if user.phrase[p] == response.query else 0.0
    return log64(max(typed / total, _LEAST_QUERY))
