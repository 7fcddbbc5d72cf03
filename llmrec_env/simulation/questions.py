"""HIDDEN: questions, which are the active interests, and the answers that resolve them."""

from __future__ import annotations

import numpy as np

from llmrec_env.simulation import noise
from llmrec_env.simulation.compilation import inlined
from llmrec_env.simulation.interests import dormant_slot, replace

NEVER = -40.0
"""Logit of satisfaction with an answer that resolves no question."""


@inlined
def fits(params, trait, cosine):
    """Says whether an answer at a cosine to a question resolves it, which depth helps to do."""
    fit = cosine / params.scale + params.resolution_substance * trait.substance
    return fit >= params.resolution


@inlined
def gate(user, params, trait, affinity, k, logit):
    """Returns the logit of satisfaction with slot k: NEVER if it resolves no open question.

    Args:
        affinity: cosines of the interests and the slots, (k, interests).
    """
    if params.resolution > 0.0:
        closest = np.float32(-1.0)
        for p in range(user.slots):
            if user.active[p] == 1:
                closest = max(closest, affinity[k, p])
        if not fits(params, trait, closest):
            return NEVER
    return logit


@inlined
def resolved_slot(user, params, traits, affinity, k, response):
    """Returns the slot of the question that what was consumed of slot k resolved, -1 for none.

    What woke or was born in the step was no question when the answer was read.
    """
    slot = -1
    if params.resolution > 0.0 and response.feedback[k] == 1:
        trait = traits[response.slate[k]]
        for p in range(user.slots):
            new = user.phrase[p] == response.woken or user.phrase[p] == response.born
            if user.active[p] == 1 and not new and fits(params, trait, affinity[k, p]):
                if slot < 0 or affinity[k, p] > affinity[k, slot]:
                    slot = p
    return slot


@inlined
def resolve(user, params, interests, traits, scratch, key, response):
    """Ends the questions that what satisfied resolved; the next one is a dormant interest.

    Returns the slot of the next question, -1 if nothing was resolved.

    Args:
        scratch: holds `affinity` cos(e_p, y_k).
    """
    asked = -1
    for k in range(response.choice + 1 if params.resolution > 0.0 else 0):
        died = resolved_slot(user, params, traits, scratch.affinity, k, response)
        if died >= 0:
            draw = noise.RESOLVE + 64 * k
            born = dormant_slot(user, key, draw)
            if born >= 0:
                replace(user, params, interests, died, born, key, draw, response)
                asked = born
    return asked
