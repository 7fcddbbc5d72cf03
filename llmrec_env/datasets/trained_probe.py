"""Probe of substance trained on a labelled part of a catalogue, by ridge regression."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]

LEAST_LABELS = 20
_PENALTIES = (0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0)
_FOLDS = 5


def train_probe(
    vectors: npt.NDArray[np.floating], labels: Floats
) -> tuple[Floats, Floats, float] | None:
    """Returns the substance of all items, what the probe reads, and how well it reads.

    Args:
        vectors: unit rows of the items, (N, d).
        labels: -1 to 1, nan where there is none, (N,).

    Returns:
        Substance, -1 to 1, a label or else what the probe predicts, (N,). The reading,
        standardised, that of a labelled item by a probe trained on others, (N,). Correlation of
        that reading and the labels. None for too few labels, or labels all alike.
    """
    known = np.flatnonzero(np.isfinite(labels))
    if len(known) < LEAST_LABELS or np.ptp(labels[known]) == 0:
        return None
    rows, target = np.asarray(vectors, np.float64), labels[known]
    fold = np.random.default_rng(0).permutation(len(known)) % _FOLDS

    def held_out(penalty: float) -> Floats:
        reading = np.empty(len(known))
        for part in range(_FOLDS):
            train, test = known[fold != part], known[fold == part]
            reading[fold == part] = _predict(rows[train], labels[train], rows[test], penalty)
        return reading

    readings = {penalty: held_out(penalty) for penalty in _PENALTIES}
    penalty = min(readings, key=lambda x: float(((readings[x] - target) ** 2).sum()))
    predicted = _predict(rows[known], target, rows, penalty)
    substance = np.clip(np.where(np.isfinite(labels), labels, predicted), -1.0, 1.0)
    predicted[known] = readings[penalty]
    deviation = predicted - predicted.mean()
    reading = deviation / max(float(deviation.std()), 1e-9)
    spread = float(np.std(readings[penalty]) * np.std(target))
    covariance = float(np.mean((readings[penalty] - readings[penalty].mean()) * target))
    return substance, reading, covariance / max(spread, 1e-9)


def _predict(rows: Floats, target: Floats, others: Floats, penalty: float) -> Floats:
    mean = rows.mean(axis=0)
    centred = rows - mean
    gram = centred.T @ centred + penalty * np.eye(rows.shape[1])
    weight = np.linalg.solve(gram, centred.T @ (target - target.mean()))
    return target.mean() + (others - mean) @ weight
