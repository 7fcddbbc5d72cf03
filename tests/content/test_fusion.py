"""Fusion of texts with what items carry beside them: both are in the vectors, by their weights."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from llmrec_env.content.embedding_space import Space
from llmrec_env.content.fusion import FUSIONS, Channel, ItemSpace, channel_of, joined

ITEMS, PHRASES, WIDTH, DIM = 200, 30, 40, 16


@pytest.fixture(scope="module")
def text() -> ItemSpace:
    rng = np.random.default_rng(0)
    spread = 0.9 ** np.arange(WIDTH)  # texts vary in few directions
    items, phrases = (spread * rng.normal(size=(n, WIDTH)) for n in (ITEMS, PHRASES))
    space = Space.fit(items, phrases, DIM)
    return ItemSpace(space.project_items(items), space.project_phrases(phrases), space)


@pytest.fixture(scope="module")
def rows() -> np.ndarray:
    rows = np.random.default_rng(1).normal(3.0, 5.0, size=(ITEMS, 6)).astype(np.float32)
    rows[7] = np.nan
    return rows


def likeness(a: Any, b: Any) -> float:
    """Correlation of the cosines of pairs of items."""
    pairs = np.triu_indices(len(a), 1)
    return float(np.corrcoef((a @ a.T)[pairs], (b @ b.T)[pairs])[0, 1])


def test_a_channel_is_centred_and_of_length_one(rows: np.ndarray):
    channel = channel_of(rows, 4)
    known = np.arange(ITEMS) != 7
    assert channel.directions.shape == (ITEMS, 4)
    np.testing.assert_allclose(np.linalg.norm(channel.directions[known], axis=1), 1.0)
    assert not channel.directions[7].any() and channel.lengths[7] == 0.0
    assert channel.lengths[known].mean() == pytest.approx(1.0)
    whole = channel_of(rows, 99)
    centred = rows[known] - rows[known].mean(axis=0)
    lengths = np.linalg.norm(centred, axis=1)
    expected = (centred @ centred.T) / np.outer(lengths, lengths)
    found = whole.directions[known] @ whole.directions[known].T
    np.testing.assert_allclose(found, expected, atol=1e-4)


@pytest.mark.parametrize("rule", ["concatenation", "gated-sum"])
def test_items_are_alike_by_text_and_by_channel_as_the_weight_says(
    text: ItemSpace, rows: np.ndarray, rule: str
):
    channel = channel_of(rows, DIM // 2)
    by_text, by_channel = [], []
    for weight in (0.0, 0.25, 0.6):
        fused = FUSIONS[rule](text, channel, weight)
        np.testing.assert_allclose(np.linalg.norm(fused.vectors, axis=1), 1.0, atol=1e-6)
        np.testing.assert_allclose(np.linalg.norm(fused.phrase_vectors, axis=1), 1.0, atol=1e-6)
        by_text.append(likeness(fused.vectors, text.vectors))
        by_channel.append(likeness(fused.vectors, channel.directions))
    assert by_text[0] == pytest.approx(1.0, abs=1e-4) and abs(by_channel[0]) < 0.1
    assert by_text[0] > by_text[1] > by_text[2] and by_channel[0] < by_channel[1] < by_channel[2]
    assert by_text[1] > by_channel[1] > 0.2


@pytest.mark.parametrize("rule", ["concatenation", "gated-sum"])
def test_a_phrase_finds_the_items_that_its_text_finds(text: ItemSpace, rows: np.ndarray, rule: str):
    fused = FUSIONS[rule](text, channel_of(rows, DIM // 2), 0.25)
    pairs = fused.phrase_vectors @ fused.vectors.T, text.phrase_vectors @ text.vectors.T
    assert np.corrcoef(pairs[0].ravel(), pairs[1].ravel())[0, 1] > 0.9
    best = pairs[0].max(axis=1).mean()
    assert fused.space.scale == pytest.approx(best, rel=1e-5)


@pytest.mark.parametrize("rule", ["concatenation", "gated-sum"])
def test_an_item_without_a_vector_lies_where_texts_lie(
    text: ItemSpace, rows: np.ndarray, rule: str
):
    fused = FUSIONS[rule](text, channel_of(rows, DIM // 2), 0.5)
    near = fused.phrase_vectors @ fused.vectors[7], text.phrase_vectors @ text.vectors[7]
    assert np.corrcoef(*near)[0, 1] > 0.98  # but for the axes that a concatenation leaves out


def test_other_texts_are_read_into_the_fused_space(text: ItemSpace, rows: np.ndarray):
    rng = np.random.default_rng(0)
    spread = 0.9 ** np.arange(WIDTH)
    _, phrases = (spread * rng.normal(size=(n, WIDTH)) for n in (ITEMS, PHRASES))
    for rule in FUSIONS:
        fused = FUSIONS[rule](text, channel_of(rows, DIM // 2), 0.25)
        read = fused.space.project_phrases(phrases)
        np.testing.assert_allclose(read, fused.phrase_vectors, atol=1e-4)


def test_texts_alone_are_the_same_arrays(text: ItemSpace, rows: np.ndarray):
    assert FUSIONS["text-alone"](text, channel_of(rows, 4), 0.5) is text


def test_the_gate_opens_for_unusual_vectors(text: ItemSpace):
    directions = np.zeros((ITEMS, 2))
    directions[:, 0] = 1.0
    lengths = np.linspace(0.2, 1.8, ITEMS)
    fused = FUSIONS["gated-sum"](text, Channel(directions, lengths), 0.5)
    own = (fused.vectors * text.vectors).sum(axis=1)
    assert own[:20].mean() > own[-20:].mean() + 0.1


def test_channels_join_with_one_weight_each(rows: np.ndarray):
    one, other = channel_of(rows, 4), channel_of(rows[::-1].copy(), 3)
    both = joined([one, other])
    assert both.directions.shape == (ITEMS, 7)
    shares = (both.directions[:, :4] ** 2).sum(axis=1)
    assert shares[7] == 0.0 and shares[ITEMS - 8] == pytest.approx(1.0)
    np.testing.assert_allclose(np.delete(shares, [7, ITEMS - 8]), 0.5, rtol=1e-5)
    assert joined([one]) is one
