"""HIDDEN: response of a user to a slate: what is consumed, and whether it satisfies.

By `logit` one item is consumed, or none; by `cascade` any number of them, in the order shown; by
`llm` what `logit` says, and whether it satisfies is drawn with a chance that comes from outside.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from llmrec_env import portable_math
from llmrec_env.config import EnvConfig, world_numbers
from llmrec_env.simulation import noise
from llmrec_env.simulation.compilation import inlined, kernel
from llmrec_env.simulation.creators import attachment_to
from llmrec_env.simulation.elementary import MAX_EXPONENT, exp32, exp64, one_minus_exp32
from llmrec_env.simulation.freshness import freshness
from llmrec_env.simulation.inner_products import LANES, products_with, row_dot
from llmrec_env.simulation.questions import gate
from llmrec_env.simulation.records import extended
from llmrec_env.simulation.user_record import TASTE_DIM, satiation_vector

MAX_SLATE = 20
AGAIN = 3.0  # logit lost by an item consumed lately

PARAMETERS = np.dtype(
    [
        *((name, np.float64) for name in world_numbers()),  # by their names in EnvConfig
        ("cascade", np.int64),  # 1: the response is `cascade`
        ("null", np.float64),  # choice_null, or cascade_null in `cascade`
        ("examined", np.float64, (MAX_SLATE,)),  # exam_k = k^-gamma; 1 in `cascade`
        ("rank_penalty", np.float64, (MAX_SLATE,)),  # gamma ln k; 0 in `cascade`
        ("scale", np.float64),  # s_f
        ("num_creators", np.int64),  # 0 where users do not mind who made an item
    ]
)
"""The parameters of the dynamics that compiled functions read: one record."""

TRAITS = np.dtype(
    [
        ("taste", np.float32, (TASTE_DIM,)),  # b, what its kind of users like beside the text
        ("quality", np.float32),  # standardised
        ("substance", np.float32),  # q in [-1, 1] of the item's text; below 0 is clickbait
        ("published", np.int32),  # step, which is public
        ("creator", np.int32),  # number, which is public
    ]
)
"""What items are like beside their text; one record an item."""


RESPONSE = np.dtype(
    [
        ("slots", np.int32),  # k
        ("examined", np.int32),  # slots looked at, the first ones; `logit`: all
        ("choice", np.int32),  # slot of the last item consumed, -1 for none
        ("item", np.int32),  # its id, -1 for none
        ("satisfied", np.int32),  # its z, 0 or 1
        ("relevance", np.float32),  # its f(u, a, y), 0 for none
        ("satisfied_relevance", np.float32),  # sum of z f(u, a, y) over the slate
        ("satisfied_observed_relevance", np.float32),  # sum of z f(v, y), the agent's own v
        ("query", np.int32),  # id of the phrase typed, -1 for none
        ("instruction", np.int32),  # kind of the instruction typed, -1 for none
        ("about", np.int32),  # id of its phrase, -1 for none
        ("wording", np.int32),
        ("died", np.int32),  # phrase ids of the last change of the step, -1 for none
        ("born", np.int32),
        ("woken", np.int32),
        ("slept", np.int32),
        ("refined_from", np.int32),
        ("refined_to", np.int32),
        ("terminated", np.int32),
        ("truncated", np.int32),
        ("slate", np.int32, (MAX_SLATE,)),  # item ids in the order shown
        ("feedback", np.int32, (MAX_SLATE,)),  # z of what was consumed, -1: not consumed
    ]
)
"""One user's response to a slate, and how the user changed."""


INSTRUCTION = ("instruction", "about", "wording")
_CHANGES = ("died", "born", "woken", "slept", "refined_from", "refined_to")


def response_dtype(slate_size: int) -> np.dtype[np.void]:
    """Returns the record of responses to slates of one size."""
    return extended(RESPONSE, {"slate": slate_size, "feedback": slate_size}, [])


def no_responses(n: int, slate_size: int) -> npt.NDArray[np.void]:
    """Returns records of nothing having happened, (n,)."""
    responses = np.zeros(n, response_dtype(slate_size))
    responses["slots"] = slate_size
    for name in ("slate", "feedback", "choice", "item", "query", *INSTRUCTION, *_CHANGES):
        responses[name] = -1
    return responses


def parameters(config: EnvConfig, scale: float, num_creators: int = 0) -> npt.NDArray[np.void]:
    """Returns the effective parameters as an array of one record, (1,).

    Args:
        config: of the environment.
        scale: s_f.
        num_creators: to whom users may become attached.
    """
    effective = config.effective()
    params = np.zeros(1, PARAMETERS)
    for name in world_numbers():
        params[name] = getattr(effective, name)
    params["cascade"] = cascade = effective.response == "cascade"
    params["null"] = effective.cascade_null if cascade else effective.choice_null
    position_bias = 0.0 if cascade else effective.position_bias
    ranks = range(1, MAX_SLATE + 1)
    params["examined"] = portable_math.power(ranks, -position_bias)
    params["rank_penalty"] = position_bias * portable_math.log1p(np.arange(MAX_SLATE))
    params["scale"], params["num_creators"] = scale, num_creators
    return params


class Scratch(NamedTuple):
    """Working memory of one step of one user; k' is k rounded up to 8."""

    weights: npt.NDArray[np.float32]  # (LANES,), omega, 0 behind the interests
    affinity: npt.NDArray[np.float32]  # (k, LANES), cos(e_p, y_k)
    relevance: npt.NDArray[np.float32]  # (k',), f(u, a, y_k)
    satiation: npt.NDArray[np.float32]  # (k',), sat(y_k)
    odds: npt.NDArray[np.float32]  # (k,), of consuming the slot against passing over
    logits: npt.NDArray[np.float64]  # (k,), of satisfaction if consumed
    change: npt.NDArray[np.float32]  # (LANES,), of the log-weights
    slate_mean: npt.NDArray[np.float32]  # (d,)
    slots: npt.NDArray[np.int32]  # (k,), 0 .. k - 1


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
        np.arange(k).astype(np.int32),
    )


@kernel
def sigmoid(x):
    """Returns 1 / (1 + exp(-x))."""
    return 1.0 / (1.0 + exp64(-x))


@kernel
def satiation_of(user, vectors, item):
    """Returns sat(y) in [0, 1): how tired the user is of what lies in the item's direction."""
    return one_minus_exp32(max(row_dot(satiation_vector(user), vectors, item), np.float32(0.0)))


@inlined
def appeal(user, params, trait, relevance, satiation, attachment):
    """Returns the utility of an item at rank 1, and the logit of P(z = 1) if it is consumed."""
    utility = (
        params.choice_relevance * relevance
        - params.satiation_choice * satiation
        + params.choice_quality * trait.quality
        - params.lure * trait.substance
    )
    if params.new_items > 0.0:
        fresh = freshness(trait.published, user.step, params.freshness_half_life)
        utility += params.freshness_choice * fresh
    if params.creator_growth > 0.0:
        utility += params.creator_choice * attachment
    logit = (
        params.satisfaction_bias
        + params.satisfaction_relevance * relevance
        - params.satiation_satisfaction * satiation
        + params.satisfaction_quality * trait.quality
        + params.goodwill_satisfaction * user.goodwill
    )
    if params.creator_growth > 0.0:
        logit += params.creator_satisfaction * attachment
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
    """Fills in what the user consumes of `response.slate` and whether it satisfies.

    Args:
        key: the noise key of the step.
        scratch: holds `affinity` cos(e_p, y_k) (k, p) and `relevance` f(u, a, y_k) (k,); receives
            `odds` and `logits` (k,).
    """
    relevance, odds, logits = scratch.relevance, scratch.odds, scratch.logits
    slots, satiation = response.slots, scratch.satiation
    products_with(satiation_vector(user), vectors, response.slate[:slots], satiation)
    for k in range(satiation.shape[0]):
        satiation[k] = one_minus_exp32(max(satiation[k], np.float32(0.0)))
    for k in range(slots):
        item = response.slate[k]
        attachment = attachment_to(user, params, traits[item].creator)
        utility, logits[k] = appeal(
            user, params, traits[item], relevance[k], satiation[k], attachment
        )
        logits[k] = gate(user, params, traits[item], scratch.affinity, k, logits[k])
        utility -= params.rank_penalty[k] + params.null
        if user.step < 0 and consumed_before(user, item):  # sessions offer nothing twice
            utility -= AGAIN
        odds[k] = np.float32(min(utility, np.float64(MAX_EXPONENT)))
        response.feedback[k] = -1
    for k in range(slots):
        odds[k] = exp32(odds[k])
    response.choice, response.item, response.satisfied, response.relevance = -1, -1, 0, 0.0
    response.satisfied_relevance = 0.0
    if params.cascade == 1:
        browse(params, key, response, scratch)
    else:
        choose(key, response, scratch)


@inlined
def choose(key, response, scratch):
    """Consumes one item or none, by a conditional logit with a null item (McFadden, 1974).

    Examination falls with the rank as in the position-based model. One uniform number decides, the
    null item lying first, so that two agents on one seed differ in whether anything is chosen only
    where they must.
    """
    odds, slots = scratch.odds, scratch.odds.shape[0]
    response.examined = slots
    total = 1.0  # the odds of the null item
    for k in range(slots):
        total += odds[k]
    left = noise.uniform(key, noise.CHOICE) * total - 1.0
    for k in range(slots):
        if left < 0.0:
            break
        left -= odds[k]
        if left < 0.0 or k == slots - 1:
            randomness = noise.uniform(key, noise.SATISFACTION)
            consume(k, randomness < sigmoid(scratch.logits[k]), response, scratch)
            break


@inlined
def satisfy(chance, key, response, scratch):
    """Draws once more whether the one item consumed satisfies, with this chance, P(z = 1)."""
    if response.choice >= 0:
        response.satisfied_relevance = 0.0
        satisfied = noise.uniform(key, noise.SATISFACTION) < chance
        consume(response.choice, satisfied, response, scratch)


@inlined
def browse(params, key, response, scratch):
    """Examines the slots in order, consumes what appeals, and stops by what came of it.

    A cascade (Craswell et al., WSDM 2008) that goes on after a click (Guo, Liu and Wang, WSDM
    2009), with a probability that depends on whether it satisfied.
    """
    for k in range(scratch.odds.shape[0]):
        draw = noise.CASCADE + 3 * k
        response.examined = k + 1
        goes_on = params.cascade_skipped
        if noise.uniform(key, draw) * (1.0 + scratch.odds[k]) < scratch.odds[k]:
            satisfied = noise.uniform(key, draw + 1) < sigmoid(scratch.logits[k])
            consume(k, satisfied, response, scratch)
            goes_on = params.cascade_satisfied if satisfied else params.cascade_dissatisfied
        if noise.uniform(key, draw + 2) >= goes_on:
            break


@inlined
def consume(k, satisfied, response, scratch):
    """Writes that the item of slot k was consumed."""
    response.choice, response.item = k, response.slate[k]
    response.relevance = scratch.relevance[k]
    response.satisfied = response.feedback[k] = 1 if satisfied else 0
    if satisfied:
        response.satisfied_relevance += scratch.relevance[k]
