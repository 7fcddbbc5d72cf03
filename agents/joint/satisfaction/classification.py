"""How good predicted probabilities of two classes are, and how to calibrate them."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from scipy.optimize import minimize_scalar
from scipy.special import expit

from llmrec_env import metrics

_Floats = npt.NDArray[np.float64]


class Bin(NamedTuple):
    """Predictions of similar size."""

    predicted: float
    """Their mean."""
    observed: float
    """Share of them that came true."""
    number: int


class Judgement(NamedTuple):
    """Predictions beside what happened; a probability of 0.5 or more predicts a yes."""

    number: int
    base_rate: float
    """Share of yes."""
    accuracy: float
    precision: float
    """Share of the predicted yes that came true; NaN if none was predicted."""
    recall: float
    """Share of the yes that were predicted."""
    f1: float
    auc: float
    log_loss: float
    """Mean of -log of the probability of what happened, nats."""
    calibration_error: float
    """Mean distance of `predicted` and `observed` over the bins, weighted by their size."""
    reliability: list[Bin]
    """The reliability table, lowest predictions first; all bins hold as many."""


def judge(probability: npt.ArrayLike, happened: npt.ArrayLike, bins: int = 10) -> Judgement:
    """Returns how good probabilities (n,) of what happened, 0 or 1, (n,), are.

    Expected calibration error: Naeini, Cooper and Hauskrecht, AAAI 2015, in bins of equal mass.

    Raises:
        ValueError: shapes differ, values are no probabilities or labels, or one class is missing.
    """
    p, z = _checked(probability, happened)
    if len(p) < bins or bins < 1:
        raise ValueError(f"{len(p)} predictions cannot fill bins={bins}; use fewer bins.")
    yes = p >= 0.5
    hits = float((yes & (z == 1)).sum())
    precision = hits / yes.sum() if yes.any() else math.nan
    parts = np.array_split(np.argsort(p, kind="stable"), bins)
    tie = np.unique(p, return_inverse=True)[1]
    share = (np.bincount(tie, z) / np.bincount(tie))[tie]  # whatever the order of equal predictions
    table = [Bin(float(p[x].mean()), float(share[x].mean()), len(x)) for x in parts]
    of_label = np.clip(np.where(z == 1, p, 1.0 - p), 1e-12, 1.0)
    return Judgement(
        number=len(p),
        base_rate=float(z.mean()),
        accuracy=float((yes == z).mean()),
        precision=float(precision),
        recall=hits / float(z.sum()),
        f1=2.0 * hits / float(yes.sum() + z.sum()),
        auc=float(metrics.auc(p, z)),
        log_loss=float(-np.log(of_label).mean()),
        calibration_error=sum(abs(x.predicted - x.observed) * x.number for x in table) / len(p),
        reliability=table,
    )


def fit_temperature(logits: npt.ArrayLike, happened: npt.ArrayLike) -> float:
    """Returns T, 0.05 to 20, for which sigmoid(logit / T) has the least log loss.

    Guo, Pleiss, Sun and Weinberger, On calibration of modern neural networks, ICML 2017. Use it
    on users that were not learnt from.
    """
    margins, z = np.asarray(logits, np.float64), np.asarray(happened, np.float64)
    _checked(expit(margins), z)

    def loss(log_temperature: float) -> float:
        scaled = margins * math.exp(-log_temperature)
        return float((np.logaddexp(0.0, scaled) - z * scaled).mean())

    found = minimize_scalar(loss, bounds=(math.log(0.05), math.log(20.0)), method="bounded")
    return math.exp(float(found.x))


def _checked(probability: npt.ArrayLike, happened: npt.ArrayLike) -> tuple[_Floats, _Floats]:
    p, z = np.asarray(probability, np.float64), np.asarray(happened, np.float64)
    if p.ndim != 1 or p.shape != z.shape:
        raise ValueError(f"shapes {p.shape} and {z.shape} differ; pass one label a prediction.")
    if not ((p >= 0) & (p <= 1)).all() or not np.isin(z, (0, 1)).all():
        raise ValueError("predictions must be 0 to 1, and labels 0 or 1, all of them finite.")
    if not 0 < z.sum() < len(z):
        raise ValueError("all labels are the same: nothing can be told apart; add the other class.")
    return p, z
