"""Off-policy evaluation of slates: estimates of what a policy would earn, from logs of another.

Logs hold m steps: the slate that a logging policy π0 drew, the probability with which each slot was
drawn, and the reward r_k of each slot. A target policy π is judged by its probabilities of the same
slots. Both fill slots independently of each other given the context, so x_k = π(a_k) / π0(a_k) is
the exact ratio of a slot. What may be assumed of rewards decides the weight of r_k:

* `slate`: nothing. w = Π_j x_j, the ratio of whole slates (Horvitz and Thompson 1952).
* `prefix`: a slot's reward depends on it and the slots above. w_k = Π_{j <= k} x_j (McInerney et
  al., Counterfactual evaluation of slate recommendations with sequential reward interactions, KDD
  2020).
* `slot`: it depends on the slot alone. w_k = x_k (Li et al., Offline evaluation of ranking policies
  with click models, KDD 2018).
* `additive`: the reward of the slate is a sum of unknown parts, one of each slot. w = Σ_j x_j - K +
  1, the pseudo-inverse of a policy of independent slots (Swaminathan et al., Off-policy evaluation
  for slate recommendation, NeurIPS 2017).

The stronger the assumption, the smaller the variance. With the conditional logit slots compete for
one click: only `slate` is unbiased there.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from experiments.statistics.resampling import (
    DEFAULT,
    Floats,
    Interval,
    Resampling,
    draw_counts,
    percentiles,
)
from llmrec_env.config import unknown

LEVELS = ("slate", "prefix", "slot", "additive")


class OverlapError(ValueError):
    """Nothing that was logged could have been shown by the target policy."""


class Terms(NamedTuple):
    """An estimate as a sum of ratios over J parts: Σ_j Σ_m numerator_mj / Σ_m denominator_mj."""

    numerator: Floats  # (m, J)
    denominator: Floats  # (m, J)

    @property
    def value(self) -> float:
        """The estimate."""
        return float((self.numerator.sum(0) / self.denominator.sum(0)).sum())


def importance_weights(
    target: npt.ArrayLike, logged: npt.ArrayLike | None, level: str = "slate"
) -> Floats:
    """Returns the weight of the reward of each slot, (m, K).

    Args:
        target: probability with which the target policy fills each slot as it was, (m, K).
        logged: probability with which the logging policy did, its propensity, (m, K).
        level: of LEVELS, what is assumed of rewards.

    Raises:
        ValueError: logs without propensities or with impossible ones, other shapes, no such level.
        OverlapError: no weight is above zero in some slot.
    """
    if level not in LEVELS:
        raise ValueError(unknown("level", level, list(LEVELS)))
    if logged is None:
        raise ValueError(
            "logged=None: these logs have no propensities, so nothing can be weighted by them; "
            "record them with a policy that tells them (agents.off_policy.SlotMixture)."
        )
    weights: Any
    ratio = _ratios(np.asarray(target, np.float64), np.asarray(logged, np.float64))
    slots = ratio.shape[1]
    if level == "slate":
        weights = np.repeat(ratio.prod(axis=1, keepdims=True), slots, axis=1)
    elif level == "prefix":
        weights = np.cumprod(ratio, axis=1)
    elif level == "slot":
        weights = ratio
    else:
        weights = np.repeat(ratio.sum(axis=1, keepdims=True) - slots + 1.0, slots, axis=1)
    met = (weights if level != "additive" else ratio) > 0.0
    if not met.any(axis=0).all():
        missing = (np.flatnonzero(~met.any(axis=0)) + 1).tolist()
        raise OverlapError(
            f"of {len(ratio)} logged steps none could be the target policy's in slots {missing} "
            f"at level={level!r}; log with more exploration or by agents nearer to it, record more "
            "steps, or assume more of rewards: level='slot'."
        )
    return weights


def _ratios(target: Floats, logged: Floats) -> Floats:
    if target.shape != logged.shape or target.ndim != 2 or not target.size:
        raise ValueError(
            f"target and logged have shapes {target.shape} and {logged.shape}; pass (m, K) both."
        )
    for name, values, low in (("target", target, -1.0), ("logged", logged, 0.0)):
        bad = values[~((values > low) & (values >= 0.0) & (values <= 1.0 + 1e-9))]
        if len(bad):
            allowed = "above 0 and at most 1" if name == "logged" else "between 0 and 1"
            raise ValueError(f"{name} holds {bad[0]}; allowed: probabilities {allowed}.")
    return target / logged


def effective_size(weights: Floats) -> float:
    """Returns how many unweighted steps the weighted ones are worth in the worst slot.

    (Σ w)² / Σ w², L. Kish, Survey Sampling, 1965.
    """
    return float((weights.sum(0) ** 2 / np.square(weights).sum(0)).min())


# --- estimators: each returns the terms of an estimate of the mean reward of a slate


def inverse_propensity(rewards: Floats, weights: Floats) -> Terms:
    """Returns IPS, Σ_k mean of w_k r_k: unbiased where its weights are right, of high variance.

    Args:
        rewards: of the slots, (m, K).
        weights: of `importance_weights`, (m, K).
    """
    return Terms(weights * rewards, np.ones_like(weights))


def self_normalised(rewards: Floats, weights: Floats) -> Terms:
    """Returns SNIPS, Σ_k Σ w_k r_k / Σ w_k: a little biased, within the range of rewards.

    Swaminathan and Joachims, The self-normalized estimator for counterfactual learning, NeurIPS
    2015. Arguments as `inverse_propensity`.
    """
    return Terms(weights * rewards, weights)


def doubly_robust(rewards: Floats, weights: Floats, predicted: Floats, expected: Floats) -> Terms:
    """Returns DR, mean of q(π) + Σ_k w_k (r_k - q_k): right if the weights or the model are.

    Dudík, Langford and Li, Doubly robust policy evaluation and learning, ICML 2011.

    Args:
        rewards: of the slots, (m, K).
        weights: of `importance_weights`, (m, K).
        predicted: what a model expects of the slots that were logged, (m, K).
        expected: what it expects of the slots of the target policy, (m, K).
    """
    return switched(rewards, weights, predicted, expected, np.inf)


def switched(
    rewards: Floats, weights: Floats, predicted: Floats, expected: Floats, threshold: float
) -> Terms:
    """Returns switch-DR: DR that leaves slots to the model whose weight is above a threshold.

    Wang, Agarwal and Dudík, Optimal and adaptive off-policy evaluation in contextual bandits, ICML
    2017. 0 is the model alone (the direct method), infinity is DR. Other arguments as
    `doubly_robust`.
    """
    kept = np.where(np.abs(weights) <= threshold, weights, 0.0)
    return Terms(expected + kept * (rewards - predicted), np.ones_like(weights))


# --- intervals


def interval_of(
    terms: Terms,
    users: npt.NDArray[np.integer],
    less: Terms | None = None,
    resampling: Resampling = DEFAULT,
) -> Interval:
    """Returns an estimate with its bootstrap interval over users, whose steps stay together.

    Args:
        terms: of the estimate.
        users: whose step each is, (m,).
        less: terms of another estimate from the same steps, to be subtracted.
        resampling: of the interval.
    """
    _, rows = np.unique(users, return_inverse=True)
    parts = [terms] if less is None else [terms, less]
    sums = [[_by_user(rows, column) for column in part] for part in parts]
    drawn = []
    for counts, _ in draw_counts(np.zeros(rows.max() + 1, np.int64), 1, resampling):
        with np.errstate(divide="ignore", invalid="ignore"):  # a slot that was never met
            values = [((counts @ top) / (counts @ below)).sum(1) for top, below in sums]
        drawn.append(values[0] - values[1] if less is not None else values[0])
    flat = np.concatenate(drawn)
    value = terms.value - (0.0 if less is None else less.value)
    return Interval(value, *percentiles(flat[np.isfinite(flat)], resampling).tolist())


def _by_user(rows: npt.NDArray[np.integer], column: Floats) -> Floats:
    sums = np.zeros((rows.max() + 1, column.shape[1]))
    np.add.at(sums, rows, column)
    return sums
