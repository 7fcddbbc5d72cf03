"""Fusion: item vectors in which a text and what an item carries beside it are one.

The text of an item lies at y (length 1), its other vector, centred and in principal components, at
x (length 1; 0 where there is none). w is the share of the squared length that x gets.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from llmrec_env import portable_math
from llmrec_env.content.embedding_space import Space, mean_best_cosine, principal_components

Floats = npt.NDArray[np.float64]


class Channel(NamedTuple):
    """What items carry beside their texts."""

    directions: Floats  # x, (N, m), unit rows, 0 where there is none
    lengths: Floats  # of the centred vectors before that, their mean 1, (N,)


class ItemSpace(NamedTuple):
    """How a recommender reads items and phrases, and where the encodings of other texts lie."""

    vectors: npt.NDArray[np.float32]  # of the items, unit rows, (N, d)
    phrase_vectors: npt.NDArray[np.float32]  # unit rows, (phrases, d)
    space: Space


def channel_of(rows: npt.NDArray[np.float32], most: int) -> Channel:
    """Returns a channel, centred and in at most so many principal components.

    Args:
        rows: a vector of each item, (N, D); NaN where there is none.
        most: components to keep.
    """
    known = np.isfinite(rows).all(axis=1)
    exponent = np.frexp(np.abs(rows[known]).max())[1]
    given = np.ldexp(rows[known].astype(np.float64), -exponent)  # numbers up to 1
    centred = given - portable_math.mean(given)
    components = principal_components(centred)[1][:, :most]
    scores = np.zeros((len(rows), components.shape[1]))
    scores[known] = portable_math.on_grid(centred / 2.0, 22) @ components  # exact sums
    lengths = portable_math.lengths(scores)
    typical = lengths / lengths.max()
    return Channel(portable_math.unit_rows(scores), typical / portable_math.mean(typical[known]))


def joined(channels: Sequence[Channel]) -> Channel:
    """Returns several channels as one, all of the same weight."""
    if len(channels) == 1:
        return channels[0]
    directions = portable_math.unit_rows(np.hstack([x.directions for x in channels]))
    return Channel(directions, np.sum([x.lengths for x in channels], axis=0) / len(channels))


def concatenation(text: ItemSpace, channel: Channel, weight: float) -> ItemSpace:
    """Returns [√(1 - w) y, √w x] in its d leading principal axes, at length 1."""
    dim = text.space.dim
    both = np.hstack([(1.0 - weight) ** 0.5 * text.vectors, weight**0.5 * channel.directions])
    axes = principal_components(both)[1][:, :dim].T  # (d, d + m)
    of_text = axes[:, :dim]
    components = portable_math.products(text.space.components, of_text).astype(np.float32)
    return _read(
        portable_math.products(both, axes),
        portable_math.products(text.phrase_vectors, of_text),
        dataclasses.replace(text.space, components=components),
    )


def gated_sum(text: ItemSpace, channel: Channel, weight: float) -> ItemSpace:
    """Returns √(1 - g) y + √g B x at length 1, with the gate g = wl / (1 - w + wl).

    The gate opens with l, how far the item's other vector is from the mean of all. B lays the
    leading components of x along the axes in which texts vary least.
    """
    gate = weight * channel.lengths / (1.0 - weight + weight * channel.lengths)
    laid = np.zeros(text.vectors.shape)
    laid[:, : channel.directions.shape[1]] = channel.directions
    items = np.sqrt(1.0 - gate)[:, None] * text.vectors + np.sqrt(gate)[:, None] * laid[:, ::-1]
    return _read(items, text.phrase_vectors, text.space)


def text_alone(text: ItemSpace, channel: Channel, weight: float) -> ItemSpace:
    """Returns the texts' vectors: what an item carries beside its text is not read."""
    return text


FUSIONS: dict[str, Callable[[ItemSpace, Channel, float], ItemSpace]] = {
    "concatenation": concatenation,
    "gated-sum": gated_sum,
    "text-alone": text_alone,
}


def _read(items: Floats, phrases: npt.ArrayLike, space: Space) -> ItemSpace:
    vectors = portable_math.unit_rows(items).astype(np.float32)
    phrase_vectors = portable_math.unit_rows(phrases).astype(np.float32)
    scale = mean_best_cosine(phrase_vectors, vectors)
    return ItemSpace(vectors, phrase_vectors, dataclasses.replace(space, scale=scale))
