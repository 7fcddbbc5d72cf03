"""Embedding space of items and interests: centred, principal components, unit length."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from llmrec_env.content.encoders.protocol import Vectors

_NO_VARIANCE = 1e-10  # eigenvalues below this share of the largest are rounding
_NO_LENGTH = 1e-6  # a shorter projection of unit vectors is rounding
_GRID = 2.0**20
_BLOCK = 1024  # rows of the phrase-item table held at once


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
    def fit(cls, item_vectors: npt.ArrayLike, phrase_vectors: npt.ArrayLike, dim: int) -> Space:
        """The space of a catalogue.

        Args:
            item_vectors: encodings of the items, (N, D).
            phrase_vectors: encodings of the interest phrases, (P, D).
            dim: number of dimensions d to keep.

        Raises:
            ValueError: for malformed vectors, for a `dim` above the number of directions in which
                the items differ, and for phrases that no item resembles.
        """
        items = _as_matrix("item_vectors", item_vectors)
        phrases = _as_matrix("phrase_vectors", phrase_vectors)
        if items.shape[1] != phrases.shape[1]:
            raise ValueError(
                f"item_vectors have {items.shape[1]} columns but phrase_vectors have "
                f"{phrases.shape[1]}; encode both with the same encoder"
            )
        components, kept_variance = _principal_components(items - items.mean(axis=0), dim)
        space = cls(
            item_mean=items.mean(axis=0).astype(np.float32),
            phrase_mean=phrases.mean(axis=0).astype(np.float32),
            components=components.astype(np.float32),
            scale=1.0,
            kept_variance=kept_variance,
        )
        scale = _mean_best_cosine(space.project_phrases(phrases), space.project_items(items))
        if scale <= 0:
            raise ValueError(
                f"phrases and items are unrelated: the mean best cosine is {scale:.3f}, it must be "
                "positive; use phrases that describe this catalogue, or more items"
            )
        return replace(space, scale=scale)

    def project_items(self, vectors: npt.ArrayLike) -> Vectors:
        """Unit vectors of items, float32 (n, d), the same bits for any batch, from (n, D).

        Raises:
            ValueError: for malformed vectors, or a row that equals the mean and has no direction.
        """
        return self._project("item", vectors, self.item_mean)

    def project_phrases(self, vectors: npt.ArrayLike) -> Vectors:
        """Unit vectors of phrases, float32 (n, d), the same bits for any batch, from (n, D).

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
        # matvec works row by row: a matrix product gives other bits for other batch sizes.
        basis = np.ascontiguousarray(self.components.T, dtype=np.float64)  # (d, D)
        projected = np.matvec(basis, rows - mean)
        norms = np.sqrt(np.vecdot(projected, projected))
        if np.any(norms <= _NO_LENGTH):
            raise ValueError(
                f"{kind} vectors[{int(np.argmin(norms))}] equals the mean {kind} and has no "
                f"direction; remove {kind} texts that are all the same"
            )
        return (projected / norms[:, None]).astype(np.float32)


def _as_matrix(name: str, vectors: npt.ArrayLike, least: int = 2) -> npt.NDArray[np.float64]:
    matrix = np.asarray(vectors, dtype=np.float64)
    if matrix.ndim != 2 or matrix.shape[0] < least or matrix.shape[1] < 1:
        raise ValueError(
            f"{name} must have shape (n, D) with at least {least} rows, got {matrix.shape}"
        )
    if not np.isfinite(matrix).all():
        raise ValueError(f"{name} hold NaN or infinity; encode the texts again")
    return matrix


def _principal_components(
    centred: npt.NDArray[np.float64], dim: int
) -> tuple[npt.NDArray[np.float64], float]:
    """The first `dim` components as columns (D, dim), and the share of variance they keep."""
    eigenvalues, eigenvectors = np.linalg.eigh(centred.T @ centred / len(centred))
    eigenvalues, eigenvectors = eigenvalues[::-1], eigenvectors[:, ::-1]
    rank = int(np.sum(eigenvalues > max(eigenvalues[0] * _NO_VARIANCE, 1e-20)))
    if not 1 <= dim <= rank:
        raise ValueError(
            f"dim={dim} is out of range: these {len(centred)} item vectors of length "
            f"{centred.shape[1]} differ in {rank} directions; use dim=1 to {rank}, more distinct "
            "items, or an encoder with longer vectors"
        )
    components = eigenvectors[:, :dim]
    # An eigenvector's sign is arbitrary: make its largest entry positive.
    largest = np.argmax(np.abs(components), axis=0)
    components = components * np.sign(components[largest, np.arange(dim)])
    # The last bits of eigh depend on the number of threads; on a coarse grid they vanish.
    components = np.rint(components * _GRID) / _GRID
    return components, float(eigenvalues[:dim].sum() / eigenvalues[:rank].sum())


def _mean_best_cosine(phrases: Vectors, items: Vectors) -> float:
    best = np.full(len(phrases), -1.0, dtype=np.float32)
    for row in range(0, len(phrases), _BLOCK):
        block = phrases[row : row + _BLOCK]
        for column in range(0, len(items), _BLOCK):
            cosines = block @ items[column : column + _BLOCK].T
            best[row : row + _BLOCK] = np.maximum(best[row : row + _BLOCK], cosines.max(axis=1))
    return float(best.mean(dtype=np.float64))
