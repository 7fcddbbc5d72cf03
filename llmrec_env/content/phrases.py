"""Interest phrases of a catalogue: authored, or derived from clusters of its texts."""

from __future__ import annotations

import dataclasses
import math
import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from llmrec_env import portable_math
from llmrec_env.content.catalog import Catalog
from llmrec_env.content.embedding_space import Space

_Rows = npt.NDArray[np.float64]
_Ids = npt.NDArray[np.int64]

_TOPIC_SIZE, _MOST_TOPICS = 60, 30  # items a topic of a small catalogue; topics of a large one
_FACET_SIZE, _MOST_FACETS = 33, 20  # items a facet; facets a topic
_PHRASES_PER_FACET = 3
_EXAMPLES = 3  # items named by a derived phrase
_SHORT_NAME = 8  # words of a text that stand for a title
_LONGEST_NAME = 80  # characters
_NAME_WORDS = 3  # words that name a topic without a label
_STARTS, _ITERATIONS = 4, 50  # of k-means
_SEED = 0

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
        catalog = _with_clusters(catalog, centred)
        bank = _derived(catalog, centred)
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


# --- topics and facets of a catalogue without them


def _with_clusters(catalog: Catalog, centred: _Rows) -> Catalog:
    if catalog.topic_names and catalog.facets.min() >= 0:
        return catalog
    n = len(catalog)
    topics, names = catalog.topics.astype(np.int64), catalog.topic_names
    if not names:
        topics = _clusters(centred, min(max(n // _TOPIC_SIZE, 1 + (n >= 30)), _MOST_TOPICS))
        names = _topic_names(catalog, topics)
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


def _topic_names(catalog: Catalog, topics: _Ids) -> tuple[str, ...]:
    """Names made of genres, or else of the words that set a topic's texts apart."""
    words: list[set[str]] = (
        [set(genres) for genres in catalog.genres]
        if catalog.genres is not None
        else [set(re.findall(r"[^\W\d_]{4,}", text.lower())) for text in catalog.texts]
    )
    total = Counter(word for item_words in words for word in item_words)
    names: list[str] = []
    for topic in range(int(topics.max()) + 1):
        ids = np.flatnonzero(topics == topic)
        counts = Counter(word for item in ids for word in words[item])
        # How much more often than elsewhere, times how often: a rare word alone names nothing.
        score = {
            word: round(number * math.log(number / len(ids) * len(catalog) / total[word]), 6)
            for word, number in counts.items()
        }
        ranked = sorted(counts, key=lambda word: (-score[word], word))
        name = _enumeration(ranked[:_NAME_WORDS]) or "miscellaneous"
        names.append(name if name not in names else f"{name} ({topic + 1})")
    return tuple(names)


# --- derived phrases


def _derived(catalog: Catalog, centred: _Rows) -> list[tuple[int, str]]:
    """Phrases (facet, text) that name the facet's most central items, each phrase others."""
    bank: list[tuple[int, str]] = []
    for facet in range(int(catalog.facets.max()) + 1):
        ids = np.flatnonzero(catalog.facets == facet)
        central = ids[np.argsort(-_nearness(centred[ids]), kind="stable")]
        number = min(_PHRASES_PER_FACET, len(ids))
        for start in range(number):
            examples = central[start : number * _EXAMPLES : number]
            bank.append((facet, _phrase(catalog, ids, examples)))
    return bank


def _nearness(rows: _Rows) -> npt.NDArray[np.float64]:
    """How near each row is to the mean of all, (n,)."""
    return portable_math.products(rows, [portable_math.mean(rows)])[:, 0]


def _phrase(catalog: Catalog, ids: _Ids, examples: _Ids) -> str:
    names = _enumeration([_short_name(catalog, int(item)) for item in examples])
    if catalog.genres is not None:
        count = Counter(genre for item in ids for genre in catalog.genres[item])
        frequent = [genre for genre, number in count.most_common(3) if number >= len(ids) / 2]
        genres = _enumeration(frequent or [genre for genre, _ in count.most_common(1)])
        kind = f"{genres} films" if genres else "films"
        return f"enjoys {kind} such as {names}"
    topic = catalog.topic_names[int(catalog.topics[ids[0]])]
    return f"enjoys {topic}, such as {names}"


def _short_name(catalog: Catalog, item: int) -> str:
    if catalog.titles is not None:
        return catalog.titles[item][:_LONGEST_NAME].rstrip()
    words = catalog.texts[item].split()[:_SHORT_NAME]
    return " ".join(words)[:_LONGEST_NAME].rstrip(".,;:!? ")


def _enumeration(words: Sequence[str]) -> str:
    """`a`, `a and b`, `a, b and c`."""
    return " and ".join([", ".join(words[:-1]), words[-1]] if len(words) > 1 else words)
