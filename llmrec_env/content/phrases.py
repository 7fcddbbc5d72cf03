"""Interest phrases of a catalogue: authored, or derived from clusters of its texts."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from llmrec_env import portable_math
from llmrec_env.content.catalog import Catalog
from llmrec_env.content.cluster_words import derived_phrases
from llmrec_env.content.clusters import with_clusters
from llmrec_env.content.embedding_space import Space

_PROBE_TOPICS = (
    "cooking sports science music money games travel history fashion animals machines health"
).split()
_IN_DEPTH = (
    "An in-depth, carefully researched analysis of {}, with sources.",
    "A rigorous lecture on {} in which experts examine the evidence.",
    "A thorough documentary on {}, based on detailed study.",
    "Advanced {} course: a comprehensive explanation for serious learners.",
)
_CLICKBAIT = (
    "You won't believe this shocking {} clip, number 7 will blow your mind!",
    "OMG, this insane viral {} video is going crazy, wait for the end!!!",
    "{} SHOCKER: one weird trick they don't want you to know!",
    "Silly {} jokes and gossip, smash that like button now!",
)


@dataclass(frozen=True, eq=False)
class Phrases:
    """The texts that interests are made of, topic by topic."""

    texts: tuple[str, ...]
    """(phrases,), no two alike."""
    topics: npt.NDArray[np.int32]
    """(phrases,), ascending."""
    facets: npt.NDArray[np.int32]
    """(phrases,), numbered as in the catalogue."""
    topic_start: npt.NDArray[np.int32]
    """(topics + 1,): topic t has at least one, from topic_start[t] up to topic_start[t + 1]."""

    def __len__(self) -> int:
        return len(self.texts)


def phrases_of(catalog: Catalog, item_vectors: npt.ArrayLike) -> tuple[Catalog, Phrases]:
    """Returns the catalogue with topics and facets for every item, and its interest phrases.

    Args:
        catalog: items, with or without topics.
        item_vectors: encodings of the items, (N, D), as the encoder gives them.

    Raises:
        ValueError: the vectors are not one row an item.
    """
    vectors = np.asarray(item_vectors, dtype=np.float64)
    if vectors.ndim != 2 or len(vectors) != len(catalog):
        raise ValueError(f"item_vectors must have shape ({len(catalog)}, D), got {vectors.shape}")
    if catalog.interests is not None:
        bank = [
            (int(facet), text) for facet, texts in enumerate(catalog.interests) for text in texts
        ]
    else:
        centred = portable_math.unit_rows(vectors - portable_math.mean(vectors))
        catalog = with_clusters(catalog, centred)
        bank = derived_phrases(catalog, centred)
    return catalog, _ordered(catalog, bank)


def neighbours(
    phrase_vectors: npt.NDArray[np.float32], topics: npt.NDArray[np.int32], count: int = 6
) -> npt.NDArray[np.int32]:
    """Returns the nearest other phrases of the same topic, nearest first.

    Where a topic has fewer they repeat; a phrase alone in its topic is its own neighbour.

    Args:
        phrase_vectors: unit rows, (phrases, d).
        topics: topic of each phrase, (phrases,).
        count: neighbours of a phrase.

    Returns:
        Phrase ids, (phrases, count).
    """
    nearest = np.empty((len(topics), count), dtype=np.int32)
    for topic in np.unique(topics):
        ids = np.flatnonzero(topics == topic)
        if len(ids) == 1:
            nearest[ids] = ids
            continue
        cosines = portable_math.products(phrase_vectors[ids], phrase_vectors[ids])
        np.fill_diagonal(cosines, -np.inf)
        order = np.argsort(-cosines, axis=1, kind="stable")[:, :-1]  # last: the phrase itself
        nearest[ids] = ids[order[:, np.arange(count) % order.shape[1]]]
    return nearest


def probe_texts() -> tuple[list[str], list[str]]:
    """Returns generic sentences of in-depth texts, and as many of clickbait."""
    # The same topics on both sides cancel: only the manner is left.
    in_depth = [text.format(topic) for topic in _PROBE_TOPICS for text in _IN_DEPTH]
    clickbait = [text.format(topic) for topic in _PROBE_TOPICS for text in _CLICKBAIT]
    return in_depth, clickbait


def substance_probe(
    encode: Callable[[Sequence[str]], npt.NDArray[np.float32]], space: Space
) -> npt.NDArray[np.float32]:
    """Returns the unit direction (d,) along which texts are in-depth rather than clickbait.

    It comes from a few generic sentences and no label of any catalogue, so that what it says of an
    item is an estimate that any recommender could make.
    """
    in_depth, clickbait = (portable_math.mean(encode(texts)) for texts in probe_texts())
    # A difference of two means has no mean left to remove.
    direction = portable_math.products([in_depth - clickbait], space.components.T)
    return portable_math.unit_rows(direction)[0].astype(np.float32)


def read_substance(
    vectors: npt.NDArray[np.float32], direction: npt.NDArray[np.float32]
) -> npt.NDArray[np.float32]:
    """Returns what a probe reads off items (N, d), standardised, (N,).

    Args:
        vectors: unit rows of the items.
        direction: of the probe, as `substance_probe` returns it.
    """
    probe = portable_math.products(vectors, [direction])[:, 0]
    deviation = probe - portable_math.mean(probe)
    spread = np.sqrt(portable_math.mean(deviation**2))
    return (deviation / max(spread, 1e-9)).astype(np.float32)


def _ordered(catalog: Catalog, bank: list[tuple[int, str]]) -> Phrases:
    """The phrases (facet, text) sorted by topic, each text once."""
    topic_of = np.zeros(int(catalog.facets.max()) + 1, dtype=np.int32)
    topic_of[catalog.facets] = catalog.topics
    facet_of = {text: facet for facet, text in reversed(bank)}  # the first where several
    rows = sorted((int(topic_of[facet]), facet, text) for text, facet in facet_of.items())
    topics = np.array([topic for topic, _, _ in rows], dtype=np.int32)
    num_topics = len(catalog.topic_names)
    phrases = Phrases(
        texts=tuple(text for _, _, text in rows),
        topics=topics,
        facets=np.array([facet for _, facet, _ in rows], dtype=np.int32),
        topic_start=np.searchsorted(topics, np.arange(num_topics + 1)).astype(np.int32),
    )
    for array in (phrases.topics, phrases.facets, phrases.topic_start):
        array.setflags(write=False)
    return phrases
