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

Doubles = npt.NDArray[np.float64]
_HYPOTHESES = 16  # phrases; the others have little weight each


def interest_deviation(tracker: Tracker, candidates: npt.NDArray[np.int32]) -> Doubles:
    """Returns the deviation of the text's closeness over interests that may be at work, (n, c)."""
    belief, model = tracker.belief, tracker.model
    most = np.argpartition(-belief, _HYPOTHESES - 1, axis=1)[:, :_HYPOTHESES]
    weights = np.take_along_axis(belief, most, axis=1)
    share = weights / weights.sum(axis=1, keepdims=True)
    items = model.vectors[np.maximum(candidates, 0)]
    closeness = items @ model.phrases[most].transpose(0, 2, 1)  # (n, c, phrases)
    mean = np.einsum("ncp,np->nc", closeness, share)
    variance = np.einsum("ncp,np->nc", np.square(closeness - mean[..., None]), share)
    return np.sqrt(variance).astype(np.float64)


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
