"""HIDDEN: what users type when patience runs low, derived from their state without a model."""

from __future__ import annotations

import numpy as np

from llmrec_env.interface.instructions import CLICKBAIT, ENOUGH, MORE, NUM_WORDINGS
from llmrec_env.simulation import noise
from llmrec_env.simulation.compilation import inlined, kernel
from llmrec_env.simulation.elementary import log64
from llmrec_env.simulation.inner_products import rows_dot
from llmrec_env.simulation.interests import relative_weights
from llmrec_env.simulation.response import satiation_of

_GOODWILL = 2.0
"""Strength of a complaint about clickbait per unit of goodwill below 0."""


@inlined
def speaks_up(user, params, key, response):
    """Says whether the user says what is wrong: patience runs low, and nothing satisfied."""
    if user.patience >= params.instruct_patience or response.terminated == 1:
        return False
    for k in range(response.choice + 1):
        if response.feedback[k] == 1:
            return False
    return noise.uniform(key, noise.INSTRUCT) < params.instruct_rate


@inlined
def shown(user, params, phrases, vectors, p, response):
    """Returns how much of interest p was on the slate, 0 to 1: the best of the slots."""
    most = np.float32(0.0)
    for k in range(response.slots):
        most = max(most, rows_dot(phrases, user.phrase[p], vectors, response.slate[k]))
    return min(most / params.scale, 1.0)


@inlined
def write(kind, phrase, response):
    """Writes an instruction without its wording."""
    response.instruction, response.about = kind, phrase


@inlined
def stronger(strength, key, draw, most):
    """Returns the Gumbel score of a complaint, and whether it is the highest so far."""
    if strength <= 0.0:
        return most, False
    score = log64(strength) + noise.gumbel(key, draw)
    return max(score, most), score > most


@kernel
def instruct(user, params, phrases, vectors, weights, key, response):
    """Writes the instruction of a step, drawn among the user's complaints by their strength.

    More on an active interest, by its weight and how little of it was shown; enough of one, by how
    much of it was shown and how tired the user is of it; less clickbait, by lost goodwill.

    Args:
        weights: scratch for omega.
        key: the noise key of the step.
    """
    response.instruction, response.about, response.wording = -1, -1, -1
    if not speaks_up(user, params, key, response):
        return
    relative_weights(user, weights)
    most, highest = stronger(-_GOODWILL * user.goodwill, key, noise.INSTRUCT + 2, -1e9)
    if highest:
        write(CLICKBAIT, -1, response)
    for p in range(user.slots):
        if user.active[p] == 1:
            phrase, served = user.phrase[p], shown(user, params, phrases, vectors, p, response)
            draw = noise.INSTRUCT + 3 + 2 * p
            most, highest = stronger(weights[p] * (1.0 - served), key, draw, most)
            if highest:
                write(MORE, phrase, response)
            tired = satiation_of(user, phrases, phrase)
            most, highest = stronger(served * tired, key, draw + 1, most)
            if highest:
                write(ENOUGH, phrase, response)
    if response.instruction >= 0:
        response.wording = noise.below(key, noise.INSTRUCT + 1, NUM_WORDINGS)
