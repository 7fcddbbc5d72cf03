"""Embedding space of items and interests: centred, principal components, unit length."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from llmrec_env import portable_math
from llmrec_env.content.encoders.protocol import Vectors

_NO_VARIANCE = 1e-8  # eigenvalues below this share of the largest are rounding
_NO_LENGTH = 1e-6  # a shorter projection of unit vectors is rounding
_GRID_BITS = 20  # of components
_BLOCK = 1024  # rows worked on at once
_LONGEST_PORTABLE = 512  # D up to which components have the same bits on every machine


class Axes(NamedTuple):
    """The means of a catalogue's encodings, and all principal components of its items."""

    item_mean: Vectors  # (D,)
    phrase_mean: Vectors  # (D,)
    components: Vectors  # as columns, by falling variance, (D, rank)
    variances: npt.NDArray[np.float64]  # along each component, (rank,)

    @classmethod
    def fit(cls, item_vectors: npt.ArrayLike, phrase_vectors: npt.ArrayLike) -> Axes:
        """The axes of a catalogue, from encodings of items (N, D) and of interest phrases (P, D).

        The same encodings give the same bits on every machine, if D is at most 512.

        Raises:
            ValueError: for malformed vectors, or items that are all alike.
        """
        items = _as_matrix("item_vectors", item_vectors)
        phrases = _as_matrix("phrase_vectors", phrase_vectors)
        if items.shape[1] != phrases.shape[1]:
            raise ValueError(
                f"item_vectors have {items.shape[1]} columns but phrase_vectors have "
                f"{phrases.shape[1]}; encode both with the same encoder"
            )
        item_mean, phrase_mean = portable_math.mean(items), portable_math.mean(phrases)
        variances, components = principal_components(items - item_mean)
        return cls(
            item_mean.astype(np.float32),
            phrase_mean.astype(np.float32),
            components.astype(np.float32),
            variances,
        )


@dataclass(frozen=True, eq=False)
class Space:
    """A map from encoder vectors to the d-dimensional space of the simulation.

    Items and phrases are centred each by their own mean, because a short phrase and a long item
    text differ in style more than in subject; then both go through the items' principal
    components.
    """

    item_mean: Vectors
    """Mean of the item vectors, (D,)."""
    phrase_mean: Vectors
    """Mean of the phrase vectors, (D,)."""
    components: Vectors
    """Principal components of the items as columns, (D, d), by falling variance."""
    scale: float
    """s_f: mean over phrases of the cosine with their best item."""
    kept_variance: float
    """Share of the item variance that the components keep, 0 to 1."""

    @property
    def dim(self) -> int:
        """Number of dimensions d."""
        return int(self.components.shape[1])

    @classmethod
    def fit(
        cls,
        item_vectors: npt.ArrayLike,
        phrase_vectors: npt.ArrayLike,
        dim: int,
        axes: Axes | None = None,
    ) -> Space:
        """The space of a catalogue.

        Args:
            item_vectors: encodings of the items, (N, D).
            phrase_vectors: encodings of the interest phrases, (P, D).
            dim: number of dimensions d to keep.
            axes: those of a larger catalogue that this one is a part of; None: its own.

        Raises:
            ValueError: for malformed vectors, for a `dim` above the number of directions in which
                the items differ, and for phrases that no item resembles.
        """
        if axes is None:
            axes = Axes.fit(item_vectors, phrase_vectors)
        width, rank = axes.components.shape
        if not 1 <= dim <= rank:
            raise ValueError(
                f"dim={dim} is out of range: these {len(np.asarray(item_vectors))} item vectors of "
                f"length {width} differ in {rank} directions; use dim=1 to {rank}, more distinct "
                "items, or an encoder with longer vectors"
            )
        total = np.cumsum(axes.variances)
        space = cls(
            item_mean=axes.item_mean,
            phrase_mean=axes.phrase_mean,
            components=np.ascontiguousarray(axes.components[:, :dim]),
            scale=1.0,
            kept_variance=float(total[dim - 1] / total[-1]),
        )
        phrases, items = space.project_phrases(phrase_vectors), space.project_items(item_vectors)
        scale = mean_best_cosine(phrases, items)
        if scale <= 0:
            raise ValueError(
                f"phrases and items are unrelated: the mean best cosine is {scale:.3f}, it must be "
                "positive; use phrases that describe this catalogue, or more items"
            )
        return replace(space, scale=scale)

    def project_items(self, vectors: npt.ArrayLike) -> Vectors:
        """Unit vectors of items, float32 (n, d), the same bits in any batch, from (n, D).

        Raises:
            ValueError: for malformed vectors, or a row that equals the mean and has no direction.
        """
        return self._project("item", vectors, self.item_mean)

    def project_phrases(self, vectors: npt.ArrayLike) -> Vectors:
        """Unit vectors of phrases, float32 (n, d), the same bits in any batch, from (n, D).

        Raises:
            ValueError: for malformed vectors, or a row that equals the mean and has no direction.
        """
        return self._project("phrase", vectors, self.phrase_mean)

    def _project(self, kind: str, vectors: npt.ArrayLike, mean: Vectors) -> Vectors:
        rows = _as_matrix(f"{kind} vectors", vectors, least=0)
        if rows.shape[1] != mean.shape[0]:
            raise ValueError(
                f"{kind} vectors have {rows.shape[1]} columns, this space was fitted on "
                f"{mean.shape[0]}; encode with the encoder it was fitted with"
            )
        basis = portable_math.on_grid(self.components, _GRID_BITS)
        unit = np.empty((len(rows), self.dim), np.float32)
        for start in range(0, len(rows), _BLOCK):  # a block at a time: bounds memory
            centred, exponents = portable_math.scaled(rows[start : start + _BLOCK] - mean)
            # Multiples of 2 ** -42 up to 64: exact sums, in whatever order a library makes them.
            projected = portable_math.on_grid(centred, 22) @ basis
            lengths = np.ldexp(np.linalg.norm(projected, axis=1), exponents)
            if np.any(lengths <= _NO_LENGTH):
                raise ValueError(
                    f"{kind} vectors[{start + int(np.argmin(lengths))}] equals the mean {kind} and "
                    f"has no direction; remove {kind} texts that are all the same"
                )
            unit[start : start + _BLOCK] = portable_math.unit_rows(projected)
        return unit


def _as_matrix(name: str, vectors: npt.ArrayLike, least: int = 2) -> npt.NDArray[np.float64]:
    matrix = np.asarray(vectors, dtype=np.float64)
    if matrix.ndim != 2 or matrix.shape[0] < least or matrix.shape[1] < 1:
        raise ValueError(
            f"{name} must have shape (n, D) with at least {least} rows, got {matrix.shape}"
        )
    if not np.isfinite(matrix).all():
        raise ValueError(f"{name} hold NaN or infinity; encode the texts again")
    return matrix


def principal_components(
    centred: npt.NDArray[np.float64],
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Returns the variances of rows (n, D), falling, and the components as columns (D, rank)."""
    if centred.shape[1] <= _LONGEST_PORTABLE:
        covariance = portable_math.gram(centred) / len(centred)
        variances, components = portable_math.eigenvectors(covariance)
    else:  # Jacobi's method would take minutes
        variances, components = np.linalg.eigh(centred.T @ centred / len(centred))
        variances, components = variances[::-1], portable_math.oriented(components[:, ::-1])
    rank = int(np.sum(variances > max(variances[0] * _NO_VARIANCE, 1e-20)))
    # The last bits of eigh depend on the number of threads; on a coarse grid they vanish.
    return variances[:rank], portable_math.on_grid(components[:, :rank], _GRID_BITS)


def mean_best_cosine(phrases: Vectors, items: Vectors) -> float:
    """Returns s_f: the mean over phrases of the cosine with their best item; of unit rows."""
    best = np.full(len(phrases), -1.0)
    for row in range(0, len(phrases), _BLOCK):
        block = phrases[row : row + _BLOCK]
        for column in range(0, len(items), _BLOCK):
            highest = portable_math.products(block, items[column : column + _BLOCK]).max(axis=1)
            best[row : row + _BLOCK] = np.maximum(best[row : row + _BLOCK], highest)
    return float(portable_math.mean(best))
