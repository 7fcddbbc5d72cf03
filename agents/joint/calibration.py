"""Calibration of log-odds to what happened."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt


def calibrated(
    odds: npt.NDArray[np.float64], satisfied: npt.NDArray[np.float64]
) -> npt.NDArray[np.float64]:
    """Returns slope and offset of log-odds, (2,), that fit outcomes; Platt 1999.

    Args:
        odds: log-odds that something satisfies, (m,).
        satisfied: whether it did, 0 or 1, (m,).
    """
    slope_offset, design = np.array([1.0, 0.0]), np.stack([odds, np.ones_like(odds)], axis=1)
    for _ in range(20):  # Newton's method
        probability = 1.0 / (1.0 + np.exp(-design @ slope_offset))
        gradient = design.T @ (probability - satisfied)
        curvature = (design * (probability * (1.0 - probability))[:, None]).T @ design
        slope_offset = slope_offset - np.linalg.solve(curvature + 1e-6 * np.eye(2), gradient)
    return slope_offset.astype(np.float64)
