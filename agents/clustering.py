"""Clusters of texts by the directions of their vectors."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import sparse

Rows = npt.NDArray[Any]  # of float32 or float64


def spherical_k_means(rows: Rows, centres: Rows, rounds: int) -> tuple[Rows, npt.NDArray[np.int32]]:
    """Returns the centres after some rounds, (c, d), and the cluster of each row in the last, (n,).

    Args:
        rows: unit vectors, (n, d).
        centres: unit vectors to begin with, (c, d); one that no row is nearest to stays.
        rounds: at least one.
    """
    numbers, labels = np.arange(len(rows)), np.zeros(len(rows), np.int32)
    for _ in range(rounds):
        labels = (rows @ centres.T).argmax(1).astype(np.int32)
        member = (np.ones(len(rows), rows.dtype), (labels, numbers))
        sums = np.asarray(sparse.csr_matrix(member, (len(centres), len(rows))) @ rows)
        norms = np.linalg.norm(sums, axis=1, keepdims=True)
        centres = np.where(norms > 0, sums / np.maximum(norms, 1e-9), centres)
    return centres, labels
