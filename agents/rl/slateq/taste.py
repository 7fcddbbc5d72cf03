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

from agents.joint.factors import Clicks, FactorModel, Prior, text_basis
from agents.joint.posterior import factorise, solve_lower, solve_upper
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
def learn_from(own, precision, others, other_spreads, pull, weight, gradient, lower):
    """Moves Gaussian factors by a Newton step of the likelihood of products with others.

    Args:
        own: mean, (r,), with its `precision`, (r, r).
        others: what it was multiplied by, (K, r), and how unsure that is, (K, r, r).
        pull: slope of the log-likelihood by each product, (K,); `weight`: its curvature.
        gradient: room for (r,) numbers; `lower`: for (r, r).
    """
    gradient[:] = 0.0
    for k in range(pull.shape[0]):
        for a in range(own.shape[0]):
            gradient[a] += pull[k] * others[k, a]
            for b in range(own.shape[0]):
                precision[a, b] += weight[k] * (
                    others[k, a] * others[k, b] + other_spreads[k, a, b]
                )
                gradient[a] -= weight[k] * other_spreads[k, a, b] * own[b]
    factorise(precision, lower)
    solve_lower(lower, gradient, gradient)
    solve_upper(lower, gradient)
    for a in range(own.shape[0]):
        own[a] += gradient[a]


@kernel
def learn_taste(taste, slate, mean, precision, pull, weight, learning, room):
    """Moves a user's factors by a step, and if `learning` those of the items shown.

    Args:
        mean: of the user's factors, (r,), with their `precision`, (r, r).
        pull: slope of the log-likelihood by aᵀq of each slot, (K,); `weight`: its curvature.
        room: (r,), (K, r), (K, r, r) and 2 (r, r) numbers.
    """
    gradient, others, spreads, lower, spread = room
    for k in range(slate.shape[0]):
        others[k], spreads[k] = taste.factors[slate[k]], taste.spread[slate[k]]
    if learning:
        invert(precision, lower, spread)
        spreads_of_user, before = spread.reshape(1, *spread.shape), mean.copy().reshape(1, -1)
        for k in range(slate.shape[0]):
            item = slate[k]
            learn_from(
                taste.factors[item],
                taste.precision[item],
                before,
                spreads_of_user,
                pull[k : k + 1],
                weight[k : k + 1],
                gradient,
                lower,
            )
            invert(taste.precision[item], lower, taste.spread[item])
    learn_from(mean, precision, others, spreads, pull, weight, gradient, lower)
