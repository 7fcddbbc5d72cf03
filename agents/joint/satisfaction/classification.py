"""Classification report of predicted probabilities of two classes, and their calibration."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from scipy.optimize import minimize_scalar
from scipy.special import expit
from sklearn.metrics import (
    accuracy_score,
    f1_score,
    log_loss,
    precision_score,
    recall_score,
    roc_auc_score,
)

_Floats = npt.NDArray[np.float64]


class Bin(NamedTuple):
    """Predictions of similar size."""

    predicted: float
    """Their mean."""
    observed: float
    """Share of them that came true."""
    number: int


class ClassificationReport(NamedTuple):
    """Predictions beside outcomes; a probability of 0.5 or more predicts a yes."""

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
    """Mean of -log of the probability of the outcome, nats."""
    calibration_error: float
    """Mean distance of `predicted` and `observed` over the bins, weighted by their size."""
    reliability: list[Bin]
    """The reliability table, lowest predictions first; all bins hold as many."""


def evaluate(
    probability: npt.ArrayLike, outcome: npt.ArrayLike, bins: int = 10
) -> ClassificationReport:
    """Returns how good probabilities (n,) of outcomes, 0 or 1, (n,), are.

    Expected calibration error: Naeini, Cooper and Hauskrecht, AAAI 2015, in bins of equal mass.

    Raises:
        ValueError: shapes differ, values are no probabilities or labels, or one class is missing.
    """
    p, z = _checked(probability, outcome)
    if len(p) < bins or bins < 1:
        raise ValueError(f"{len(p)} predictions cannot fill bins={bins}; use fewer bins.")
    predicted = p >= 0.5
    table = _reliability(p, z, bins)
    return ClassificationReport(
        number=len(p),
        base_rate=float(z.mean()),
        accuracy=float(accuracy_score(z, predicted)),
        precision=float(precision_score(z, predicted)) if predicted.any() else math.nan,
        recall=float(recall_score(z, predicted)),
        f1=float(f1_score(z, predicted)),
        auc=float(roc_auc_score(z, p)),
        log_loss=float(log_loss(z, np.clip(p, 1e-12, 1.0 - 1e-12))),
        calibration_error=sum(abs(x.predicted - x.observed) * x.number for x in table) / len(p),
        reliability=table,
    )


def fit_temperature(logits: npt.ArrayLike, outcome: npt.ArrayLike) -> float:
    """Returns T, 0.05 to 20, for which sigmoid(logit / T) has the least log loss.

    Guo, Pleiss, Sun and Weinberger, On calibration of modern neural networks, ICML 2017. Use it
    on users that were not learnt from.
    """
    margins, z = np.asarray(logits, np.float64), np.asarray(outcome, np.float64)
    _checked(expit(margins), z)

    def loss(log_temperature: float) -> float:
        scaled = margins * math.exp(-log_temperature)
        return float((np.logaddexp(0.0, scaled) - z * scaled).mean())

    best = minimize_scalar(loss, bounds=(math.log(0.05), math.log(20.0)), method="bounded")
    return math.exp(float(best.x))


def _reliability(p: _Floats, z: _Floats, bins: int) -> list[Bin]:
    """Bins of equal mass; equal predictions share their outcome, whatever their order."""
    tie = np.unique(p, return_inverse=True)[1]
    share = (np.bincount(tie, z) / np.bincount(tie))[tie]
    parts = np.array_split(np.argsort(p, kind="stable"), bins)
    return [Bin(float(p[part].mean()), float(share[part].mean()), len(part)) for part in parts]


def _checked(probability: npt.ArrayLike, outcome: npt.ArrayLike) -> tuple[_Floats, _Floats]:
    p, z = np.asarray(probability, np.float64), np.asarray(outcome, np.float64)
    if p.ndim != 1 or p.shape != z.shape:
        raise ValueError(f"shapes {p.shape} and {z.shape} differ; pass one label a prediction.")
    if not ((p >= 0) & (p <= 1)).all() or not np.isin(z, (0, 1)).all():
        raise ValueError("predictions must be 0 to 1, and labels 0 or 1, all of them finite.")
    if not 0 < z.sum() < len(z):
        raise ValueError("all labels are the same: nothing can be told apart; add the other class.")
    return p, z
