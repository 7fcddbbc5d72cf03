"""Geometry of encoded texts: cosines by facet and topic, how visible substance is, and variety."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from experiments.report.text_tables import Table, number, print_tables
from llmrec_env.content.bundled_encodings import load_encoder_of
from llmrec_env.content.catalog import Catalog
from llmrec_env.content.embedding_space import Space
from llmrec_env.content.phrases import Phrases, phrases_of, substance_probe

_PAIRS = 200_000
_Rows = npt.NDArray[np.float32]


class _Target(NamedTuple):
    """What a quantity is called, and its values in a prototype on hand-made texts."""

    label: str
    raw: str
    centred: str


_TARGETS = {
    "random": _Target("items: random pair", ".156", "-.002"),
    "item_facet": _Target("items: same facet", ".60", ".53"),
    "item_topic": _Target("items: same topic, other facet", ".25", ".11"),
    "item_other": _Target("items: other topic", ".15", "-.01"),
    "phrase_facet": _Target("phrase-item: same facet", ".67", ".74"),
    "phrase_topic": _Target("phrase-item: same topic, other facet", ".17", ".13"),
    "phrase_other": _Target("phrase-item: other topic", ".06", "-.02"),
}
_SUMMARIES = {
    "kept_variance": ("variance kept", ".986"),
    "scale": ("s_f: mean over phrases of their best item", ""),
    "substance_correlation": ("substance: probe against label", ".86"),
    "distinct_1": ("distinct-1: different words, of all", ""),
    "distinct_2": ("distinct-2: different word pairs, of all", ""),
    "distinct_3": ("distinct-3: different word triples, of all", ""),
}


def run(
    catalog: str = "video", encoder: str = "minilm", dim: int = 128, num_items: int | None = None
) -> dict[str, float]:
    """Measure and print the geometry of an encoded catalogue.

    Args:
        catalog: a bundled catalogue, or the path of a table.
        encoder: `minilm`, `word-vectors`, `hashing`, or the directory of a transformer.
        dim: length d of vectors after centring and PCA.
        num_items: items to use; None: what the catalogue comes with.

    Returns:
        Mean cosines as `raw_...` and `centred_...`, `kept_variance`, `scale` (s_f),
        `substance_correlation` where the catalogue has labels, and `distinct_1` to `distinct_3`.
    """
    items = Catalog.load(catalog, num_items=num_items)
    reader, axes = load_encoder_of(items, encoder, "auto")
    raw_items = reader.encode(items.texts)
    items, phrases = phrases_of(items, raw_items)
    raw_phrases = reader.encode(phrases.texts)
    space = Space.fit(raw_items, raw_phrases, dim, axes)
    vectors, phrase_vectors = space.project_items(raw_items), space.project_phrases(raw_phrases)
    measured = {
        f"raw_{key}": x for key, x in cosines(items, phrases, raw_items, raw_phrases).items()
    }
    centred = cosines(items, phrases, vectors, phrase_vectors)
    measured |= {f"centred_{key}": x for key, x in centred.items()}
    measured |= {"kept_variance": space.kept_variance, "scale": space.scale}
    if items.substance is not None:
        probe = vectors @ substance_probe(reader.encode, space)
        measured["substance_correlation"] = float(np.corrcoef(probe, items.substance)[0, 1])
    measured |= {f"distinct_{n}": distinct(items.texts, n) for n in (1, 2, 3)}
    size = f"{len(items):,} items, {len(phrases):,} phrases"
    print_tables(*_tables(measured, f"{items.name}, {size}, {encoder}, d={dim}"))
    return measured


def cosines(
    items: Catalog, phrases: Phrases, vectors: _Rows, phrase_vectors: _Rows
) -> dict[str, float]:
    """Returns mean cosines by how two texts are related.

    Args:
        items: the catalogue, with topics and facets.
        phrases: its interest phrases.
        vectors: unit rows of the items, (N, d).
        phrase_vectors: unit rows of the phrases, (phrases, d).
    """
    rng = np.random.default_rng(0)
    left, right = rng.integers(len(items), size=(2, _PAIRS))
    left, right = left[left != right], right[left != right]
    pair = _paired(vectors, left, vectors, right)
    means = {"random": float(pair.mean())}
    topics, facets = items.topics, items.facets
    means |= {
        "item_topic": _mean(
            pair, (topics[left] == topics[right]) & (facets[left] != facets[right])
        ),
        "item_other": _mean(pair, topics[left] != topics[right]),
        "item_facet": _within_facets(vectors, facets),
    }
    table = phrase_vectors @ vectors.T  # (phrases, N)
    same_topic = phrases.topics[:, None] == topics[None, :]
    same_facet = phrases.facets[:, None] == facets[None, :]
    means["phrase_facet"] = _mean(table, same_facet)
    means["phrase_topic"] = _mean(table, same_topic & ~same_facet)
    means["phrase_other"] = _mean(table, ~same_topic)
    return means


def distinct(texts: Sequence[str], n: int) -> float:
    """Returns the share of different sequences of n words among all of them, texts apart.

    The larger, the fewer visible templates; it falls with the number of texts, so compare as many.
    Li et al., *A diversity-promoting objective function*, NAACL 2016.
    """
    words = [re.findall(r"\w+", text.lower()) for text in texts]
    grams = [tuple(each[i : i + n]) for each in words for i in range(len(each) - n + 1)]
    return len(set(grams)) / max(len(grams), 1)


def _paired(a: _Rows, left: npt.NDArray[np.int64], b: _Rows, right: npt.NDArray[np.int64]) -> _Rows:
    return np.vecdot(a[left], b[right])


def _mean(values: _Rows, where: npt.NDArray[np.bool_]) -> float:
    return float(values[where].mean(dtype=np.float64)) if where.any() else float("nan")


def _within_facets(vectors: _Rows, facets: npt.NDArray[np.int32]) -> float:
    """Mean cosine of all pairs of different items of one facet."""
    total, pairs = 0.0, 0
    for facet in np.unique(facets):
        rows = vectors[facets == facet].astype(np.float64)
        total += float((rows.sum(axis=0) ** 2).sum() - (rows**2).sum())
        pairs += len(rows) * (len(rows) - 1)
    return total / max(pairs, 1)


def _tables(measured: dict[str, float], title: str) -> list[Table]:
    cosine_rows = [
        [
            label,
            number(measured[f"raw_{key}"], decimals=3),
            raw,
            number(measured[f"centred_{key}"], decimals=3),
            centred,
        ]
        for key, (label, raw, centred) in _TARGETS.items()
    ]
    summary_rows = [
        [label, number(measured[key], decimals=3), target]
        for key, (label, target) in _SUMMARIES.items()
        if key in measured
    ]
    return [
        Table(["mean cosine", "raw", "aim", "centred", "aim"], cosine_rows, title),
        Table(["", "measured", "aim"], summary_rows),
    ]
