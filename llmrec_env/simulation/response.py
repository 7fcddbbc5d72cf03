"""HIDDEN: response of a user to a slate: one item is chosen, or none; it satisfies or not."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from llmrec_env import portable_math
from llmrec_env.config import EnvConfig, world_numbers
from llmrec_env.simulation import noise
from llmrec_env.simulation.compilation import inlined, kernel
from llmrec_env.simulation.elementary import MAX_EXPONENT, exp32, exp64, one_minus_exp32
from llmrec_env.simulation.inner_products import LANES, products_with, row_dot

MAX_SLATE = 20
TASTE_DIM = 4
_AGAIN = 3.0  # logit lost by an item consumed lately

PARAMETERS = np.dtype(
    [
        *((name, np.float64) for name in world_numbers()),  # by their names in EnvConfig
        ("examined", np.float64, (MAX_SLATE,)),  # exam_k = k^-gamma
        ("rank_penalty", np.float64, (MAX_SLATE,)),  # gamma ln k
        ("scale", np.float64),  # s_f
    ]
)
"""The parameters of the dynamics that compiled functions read: one record."""

TRAITS = np.dtype(
    [
        ("taste", np.float32, (TASTE_DIM,)),  # b, what its kind of users like beside the text
        ("quality", np.float32),  # standardised
        ("substance", np.float32),  # q in [-1, 1] of the item's text; below 0 is clickbait
    ]
)
"""What items are like beside their text; one record an item."""


def response_dtype(slate_size: int) -> np.dtype[np.void]:
    """Returns the record of one user's response to a slate, and of how the user changed."""
    return np.dtype(
        [
            ("slate", np.int32, (slate_size,)),  # item ids in the order shown
            ("choice", np.int32),  # slot, -1 for none
            ("item", np.int32),  # item id, -1 for none
            ("satisfied", np.int32),  # z, 0 or 1
            ("relevance", np.float32),  # f(u, a, y) of the chosen item, 0 for none
            ("observed_relevance", np.float32),  # f(v, y) with the agent's own v
            ("query", np.int32),  # id of the phrase typed, -1 for none
            ("died", np.int32),  # phrase ids of the last change of the step, -1 for none
            ("born", np.int32),
            ("woken", np.int32),
            ("slept", np.int32),
            ("refined_from", np.int32),
            ("refined_to", np.int32),
            ("terminated", np.int32),
            ("truncated", np.int32),
        ],
        align=True,
    )


def parameters(config: EnvConfig, scale: float) -> npt.NDArray[np.void]:
    """Returns the effective parameters as an array of one record, (1,)."""
    effective = config.effective()
    params = np.zeros(1, PARAMETERS)
    for name in world_numbers():
        params[name] = getattr(effective, name)
    ranks = range(1, MAX_SLATE + 1)
    params["examined"] = portable_math.power(ranks, -effective.position_bias)
    params["rank_penalty"] = effective.position_bias * portable_math.log1p(np.arange(MAX_SLATE))
    params["scale"] = scale
    return params


class Scratch(NamedTuple):
    """Working memory of one step of one user; k' is k rounded up to 8."""

    weights: npt.NDArray[np.float32]  # (LANES,), omega, 0 behind the interests
    affinity: npt.NDArray[np.float32]  # (k, LANES), cos(e_p, y_k)
    relevance: npt.NDArray[np.float32]  # (k',), f(u, a, y_k)
    satiation: npt.NDArray[np.float32]  # (k',), sat(y_k)
    odds: npt.NDArray[np.float32]  # (k,), of choosing the slot, against the null item
    logits: npt.NDArray[np.float64]  # (k,), of satisfaction if chosen
    change: npt.NDArray[np.float32]  # (LANES,), of the log-weights
    slate_mean: npt.NDArray[np.float32]  # (d,)


@kernel
def new_scratch(k, d):
    """Returns working memory for k slate slots and d dimensions."""
    return Scratch(
        np.zeros(LANES, np.float32),
        np.zeros((k, LANES), np.float32),
        np.empty((k + 7) // 8 * 8, np.float32),
        np.empty((k + 7) // 8 * 8, np.float32),
        np.empty(k, np.float32),
        np.empty(k, np.float64),
        np.empty(LANES, np.float32),
        np.empty(d, np.float32),
    )


@kernel
def sigmoid(x):
    """Returns 1 / (1 + exp(-x))."""
    return 1.0 / (1.0 + exp64(-x))


@kernel
def satiation_of(user, vectors, item):
    """Returns sat(y) in [0, 1): how tired the user is of what lies in the item's direction."""
    return one_minus_exp32(max(row_dot(user.satiation, vectors, item), np.float32(0.0)))


@inlined
def appeal(user, params, trait, relevance, satiation):
    """Returns the utility of an item at rank 1, and the logit of P(z = 1) if it is consumed."""
    utility = (
        params.choice_relevance * relevance
        - params.satiation_choice * satiation
        + params.choice_quality * trait.quality
        - params.lure * trait.substance
    )
    logit = (
        params.satisfaction_bias
        + params.satisfaction_relevance * relevance
        - params.satiation_satisfaction * satiation
        + params.satisfaction_quality * trait.quality
        + params.goodwill_satisfaction * user.goodwill
    )
    return utility, logit


@kernel
def consumed_before(user, item):
    """Says whether the item is among the last 50 that the user consumed."""
    count = 0
    for j in range(user.consumed.shape[0]):  # no early exit: a loop of fixed length is vectorised
        count += 1 if user.consumed[j] == item else 0
    return count > 0


@inlined
def respond(user, params, vectors, traits, key, response, scratch):
    """Fills in what the user chooses from `response.slate` and whether it satisfies.

    The choice is a conditional logit with a null item (McFadden, 1974); examination falls with the
    rank as in the position-based model. One uniform number decides, the null item lying first, so
    that two agents on one seed differ in whether anything is chosen only where they must.

    Args:
        key: the noise key of the step.
        scratch: holds `relevance` f(u, a, y_k) (k,); receives `odds` and `logits` (k,).
    """
    relevance, odds, logits = scratch.relevance, scratch.odds, scratch.logits
    slots, satiation = response.slate.shape[0], scratch.satiation
    products_with(user.satiation, vectors, response.slate, satiation)
    for k in range(satiation.shape[0]):
        satiation[k] = one_minus_exp32(max(satiation[k], np.float32(0.0)))
    for k in range(slots):
        item = response.slate[k]
        utility, logits[k] = appeal(user, params, traits[item], relevance[k], satiation[k])
        utility -= params.rank_penalty[k] + params.choice_null
        if user.step < 0 and consumed_before(user, item):  # sessions offer nothing twice
            utility -= _AGAIN
        odds[k] = np.float32(min(utility, np.float64(MAX_EXPONENT)))
    for k in range(slots):
        odds[k] = exp32(odds[k])
    total = 1.0  # the odds of the null item
    for k in range(slots):
        total += odds[k]
    response.choice, response.item, response.satisfied, response.relevance = -1, -1, 0, 0.0
    left = noise.uniform(key, noise.CHOICE) * total - 1.0
    for k in range(slots):
        if left < 0.0:
            return
        left -= odds[k]
        if left < 0.0 or k == slots - 1:
            response.choice, response.item = k, response.slate[k]
            response.relevance = relevance[k]
            if noise.uniform(key, noise.SATISFACTION) < sigmoid(logits[k]):
                response.satisfied = 1
            return
