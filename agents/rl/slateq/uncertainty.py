"""How unsure a belief is of candidates, and how much a choice would tell of the user.

Two things are not known of a user: which interest is at work now, and the taste beside the texts.
The hypotheses about the first are the phrases that are believed in most, each by its weight; taste
has a Gaussian posterior.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from agents.joint.posterior import factorise, unsure_relevance
from agents.rl.slateq.tracking import Tracker
from llmrec_env.simulation.compilation import kernel
from llmrec_env.simulation.inner_products import cosines

Doubles = npt.NDArray[np.float64]
_HYPOTHESES = 16  # phrases; the others have little weight each


def interest_deviation(tracker: Tracker, candidates: npt.NDArray[np.int32]) -> Doubles:
    """Returns the deviation of the text's closeness over interests that may be at work, (n, c)."""
    deviation = np.empty(candidates.shape)
    model = tracker.model
    _write_interest_deviation(tracker.belief, model.phrases, model.vectors, candidates, deviation)
    return deviation


@kernel
def _write_interest_deviation(belief, phrases, vectors, candidates, deviation):
    count = candidates.shape[1]
    most = np.empty(min(_HYPOTHESES, belief.shape[1]), np.int64)
    closeness = np.empty((most.shape[0] + 3, count), np.float32)  # cosines come in fours
    mean, square = np.empty(count, np.float32), np.empty(count, np.float32)
    for i in range(candidates.shape[0]):
        ids = np.maximum(candidates[i], 0)
        mass = _believed_most(belief[i], most)
        cosines(most, phrases, ids, vectors, closeness)
        mean[:], square[:] = 0.0, 0.0
        for p in range(most.shape[0]):
            share = np.float32(belief[i, most[p]] / mass)
            for c in range(count):
                mean[c] += share * closeness[p, c]
        for p in range(most.shape[0]):
            share = np.float32(belief[i, most[p]] / mass)
            for c in range(count):
                square[c] += share * (closeness[p, c] - mean[c]) ** 2
        for c in range(count):
            deviation[i, c] = np.sqrt(square[c])


@kernel
def _believed_most(weights, most):
    """Writes the phrases of the largest weights, largest first; returns the sum of these."""
    for p in range(weights.shape[0]):
        place = min(p, most.shape[0])
        while place > 0 and weights[p] > weights[most[place - 1]]:
            place -= 1
        if place < most.shape[0]:
            for after in range(min(p, most.shape[0] - 1), place, -1):
                most[after] = most[after - 1]
            most[place] = p
    total = 0.0
    for p in most:
        total += weights[p]
    return total


def exploration_bonus(
    tracker: Tracker, candidates: npt.NDArray[np.int32], interest: float, taste: float
) -> Doubles | float:
    """Returns what is added to values for what is not known of candidates, (n, c), or 0.

    Optimism in the face of uncertainty: as many deviations of the closeness to the text, and of
    taste, as `interest` and `taste` say. What a privileged observation tells is not unsure.
    """
    bonus: Doubles | float = 0.0
    if tracker.relevance is None and interest > 0.0:
        bonus = bonus + interest * interest_deviation(tracker, candidates)
    if tracker.relevance is None and taste > 0.0:
        bonus = bonus + taste * taste_deviation(tracker, candidates)
    return bonus


def taste_deviation(tracker: Tracker, candidates: npt.NDArray[np.int32]) -> Doubles:
    """Returns the posterior's deviation of what relevance has beside the text, (n, c)."""
    deviation = np.empty(candidates.shape)
    _write_taste_deviation(tracker.precision, tracker.model.taste.factors, candidates, deviation)
    return deviation


@kernel
def _write_taste_deviation(precision, factors, candidates, deviation):
    r, count = precision.shape[1], candidates.shape[1]
    lower, parts, zeros = np.empty((r, r)), np.empty((r, count)), np.zeros(count)
    relevance, variance = np.empty(count), np.empty(count)
    for i in range(candidates.shape[0]):
        ids = np.maximum(candidates[i], 0)
        factorise(precision[i], lower)
        unsure_relevance(zeros, lower, factors, ids, parts, relevance, variance)
        for c in range(count):
            deviation[i, c] = np.sqrt(variance[c])


def information(odds: Doubles, deviation: Doubles) -> Doubles:
    """Returns how much a choice or a refusal would tell of the utility, in nats, (n, c).

    The expected loss of entropy of a Gaussian utility by one logistic answer, its curvature taken
    at the mean (MacKay, Neural Computation 4, 1992: information-based objective functions).

    Args:
        odds: of choosing each candidate alone.
        deviation: of its utility.
    """
    chosen = odds / (1.0 + odds)
    return 0.5 * np.log1p(chosen * (1.0 - chosen) * np.square(deviation))
