"""Taste: what a user likes beside the texts, aᵀq of factors of users and items.

Items begin with what the joint recommender's factor model finds in logs. From then on each step
adds a Newton step of its likelihood to the user's factors, and while learning to those of what was
shown: both are Gaussian, and what is little known of one teaches little about the other (streaming
variational Bayes: Broderick et al., NeurIPS 2013).
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from agents.joint.factors import Clicks, FactorModel, Prior, mean_of_items, text_basis
from agents.joint.posterior import factorise, move_factors, solve_lower, solve_upper
from llmrec_env.simulation.compilation import kernel

Doubles = npt.NDArray[np.float64]
RANK = 8
PRIOR = Prior(deviation=0.005, text_map=0.01)  # as joint's, whose search it was
_SWEEPS = 8


class Taste(NamedTuple):
    """Factors of the items, and where those of users begin."""

    factors: Doubles  # (N, r), q
    precision: Doubles  # (N, r, r)
    spread: Doubles  # (N, r, r), its inverse
    mean: Doubles  # (r,), of users of whom nothing is known
    start: Doubles  # (r, r), their precision


def no_taste(num_items: int) -> Taste:
    """Returns factors that say nothing yet."""
    eye = np.eye(RANK)
    spread = np.tile(PRIOR.deviation * eye, (num_items, 1, 1))
    precision = np.tile(eye / PRIOR.deviation, (num_items, 1, 1))
    return Taste(np.zeros((num_items, RANK)), precision, spread, np.zeros(RANK), eye)


def taste_of(clicks: Clicks, q: dict[str, float], vectors: Any, seed: int) -> tuple[Taste, Any]:
    """Returns what logs tell of taste, and the items' biases of choice and satisfaction, (N, 2).

    Args:
        clicks: logged steps, and what the texts say of them.
        q: `relevance_choice`, `relevance_satisfaction`, and weights of the losses, `click`, `text`.
        vectors: of the items, (N, d).
        seed: of landmarks among the texts.
    """
    model = FactorModel(clicks, q, text_basis(vectors, seed), RANK, PRIOR)
    found = model.learn(_SWEEPS)
    factors, spread, click_bias, text_bias = found.taste
    precision: Any = np.linalg.inv(spread)
    taste = Taste(factors, precision, spread, found.mean, found.precision)
    return taste, np.stack([click_bias, text_bias], axis=1)


def of_any_world(
    name: str, values: npt.NDArray[Any], num_items: int, num_phrases: int
) -> npt.NDArray[Any]:
    """Returns a saved array, with what it tells of single items and phrases at their mean."""
    if name.endswith(".biases") or name in ("taste.factors", "taste.precision", "taste.spread"):
        return mean_of_items(values, num_items)
    if name.endswith(".prior"):  # logarithms of weights, whose sum stays
        return np.full(num_phrases, np.log(np.exp(values).sum() / num_phrases), values.dtype)
    return values


@kernel
def invert(precision, lower, inverse):
    """Writes the inverse of a positive definite matrix, (r, r)."""
    factorise(precision, lower)
    inverse[:] = 0.0
    for a in range(inverse.shape[0]):
        inverse[a, a] = 1.0
        solve_lower(lower, inverse[a], inverse[a])
        solve_upper(lower, inverse[a])


@kernel
def taste_score(mean, factors, item):
    """Returns aᵀq of an item."""
    total = 0.0
    for r in range(mean.shape[0]):
        total += mean[r] * factors[item, r]
    return total


@kernel
def learn_taste(taste, slate, mean, precision, pull, weight, learning, room):
    """Moves a user's factors by a step, and if `learning` those of the items shown.

    Args:
        mean: of the user's factors, (r,), with their `precision`, (r, r).
        pull: slope of the log-likelihood by aᵀq of each slot, (K,); `weight`: its curvature.
        room: (r,), (K, r), (K, r, r) and 2 (r, r) numbers, and the slots 0 to K - 1.
    """
    gradient, others, spreads, lower, spread, slots = room
    for k in range(slate.shape[0]):
        others[k], spreads[k] = taste.factors[slate[k]], taste.spread[slate[k]]
    if learning:
        invert(precision, lower, spread)
        user, user_spread = mean.copy().reshape(1, -1), spread.reshape(1, *spread.shape)
        for k in range(slate.shape[0]):
            item, slope, curvature = slate[k], pull[k : k + 1], weight[k : k + 1]
            own, own_precision = taste.factors[item], taste.precision[item]
            only = slots[:1]
            move_factors(
                own, own_precision, user, user_spread, only, slope, curvature, gradient, lower
            )
            invert(own_precision, lower, taste.spread[item])
    move_factors(mean, precision, others, spreads, slots, pull, weight, gradient, lower)
