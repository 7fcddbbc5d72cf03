"""Topics and facets of a catalogue without them: clusters of its texts."""

from __future__ import annotations

import dataclasses

import numpy as np
import numpy.typing as npt

from llmrec_env import portable_math
from llmrec_env.content.catalog import Catalog
from llmrec_env.content.cluster_words import topic_names

_Rows = npt.NDArray[np.float64]
_Ids = npt.NDArray[np.int64]

_TOPIC_SIZE, _MOST_TOPICS = 60, 30  # items a topic; topics of a large catalogue
_SMALL_TOPIC, _FEW_TOPICS = 8, 8  # items a topic of a small catalogue, up to so many topics
_FACET_SIZE, _MOST_FACETS = 33, 20  # items a facet; facets a topic
_STARTS, _ITERATIONS = 4, 50  # of k-means
_SEED = 0


def with_clusters(catalog: Catalog, centred: _Rows) -> Catalog:
    """Returns the catalogue with a topic and a facet for every item.

    Args:
        catalog: with topics, or without.
        centred: unit rows of the items, around their mean, (N, D).
    """
    if catalog.topic_names and catalog.facets.min() >= 0:
        return catalog
    n = len(catalog)
    topics, names = catalog.topics.astype(np.int64), catalog.topic_names
    if not names:
        few = min(n // _SMALL_TOPIC, _FEW_TOPICS)
        topics = _clusters(centred, min(max(n // _TOPIC_SIZE, few), _MOST_TOPICS))
        names = topic_names(catalog, topics)
    facets = np.empty(n, dtype=np.int32)
    num_facets = 0
    for topic in range(len(names)):
        ids = np.flatnonzero(topics == topic)
        count = min(max(round(len(ids) / _FACET_SIZE), 1), _MOST_FACETS)
        deviation = portable_math.unit_rows(centred[ids] - portable_math.mean(centred[ids]))
        facets[ids] = num_facets + _clusters(deviation, count)
        num_facets = int(facets[ids].max()) + 1
    return dataclasses.replace(
        catalog, topics=topics.astype(np.int32), topic_names=names, facets=facets
    )


def _clusters(rows: _Rows, count: int) -> _Ids:
    """Spherical k-means: a label 0 to count - 1 for each row, every label at least once.

    The tightest of a few starts, because one start can leave two groups in one cluster.
    """
    rng = np.random.default_rng(_SEED)
    starts = [
        _refined(rows, min(count, len(rows)), rng) for _ in range(_STARTS if count > 1 else 1)
    ]
    return max(starts, key=lambda start: start[0])[1]


def _refined(rows: _Rows, count: int, rng: np.random.Generator) -> tuple[float, _Ids]:
    """Mean cosine of rows to their centres, and the labels, from one start."""
    centres = rows[_spread_out(rows, count, rng)]
    labels, fit = np.full(len(rows), -1, dtype=np.int64), 0.0
    for _ in range(_ITERATIONS):
        cosines = portable_math.products(rows, centres)  # (n, count)
        highest = cosines.max(axis=1)
        previous, labels = labels, cosines.argmax(axis=1)
        fit = float(portable_math.mean(highest))
        _fill_empty(labels, highest, count)
        if np.array_equal(previous, labels):
            break
        member = labels == np.arange(count)[:, None]  # (count, n)
        sums = member.astype(np.float64) @ portable_math.on_grid(rows, 30)
        centres = portable_math.unit_rows(sums)
    return fit, labels


def _spread_out(rows: _Rows, count: int, rng: np.random.Generator) -> list[int]:
    """Rows to start from, drawn with probabilities by squared distance (k-means++)."""
    centres = [int(rng.integers(len(rows)))]
    distance = np.full(len(rows), np.inf)
    while len(centres) < count:
        cosine = portable_math.products(rows, rows[centres[-1:]])[:, 0]
        distance = np.minimum(distance, np.maximum(2.0 - 2.0 * cosine, 0.0))
        share = np.cumsum(distance)
        row = np.searchsorted(share, rng.random() * share[-1], side="right")
        centres.append(min(int(row), len(rows) - 1))  # all rows alike: nothing was drawn
    return centres


def _fill_empty(labels: _Ids, cosine: npt.NDArray[np.float64], count: int) -> None:
    """Give each empty cluster the row that fits its own cluster least."""
    for empty in np.setdiff1d(np.arange(count), labels):
        spare = np.flatnonzero(np.bincount(labels, minlength=count)[labels] > 1)
        labels[spare[cosine[spare].argmin()]] = empty
