"""Classifier on encodings: it learns that likeness satisfies and satiation does not."""

from __future__ import annotations

import numpy as np
import pytest

from llmrec_env.content.encoding_classifier import EncodingClassifier
from llmrec_env.content.profiles import Profile

DIM = 8
NAMES = [f"text {i}" for i in range(40)]


@pytest.fixture(scope="module")
def vectors():
    drawn = np.random.default_rng(0).standard_normal((len(NAMES), DIM)).astype(np.float32)
    unit = drawn / np.linalg.norm(drawn, axis=1, keepdims=True)
    return dict(zip(NAMES, unit, strict=True))


def _pairs(vectors, n, seed):
    rng = np.random.default_rng(seed)
    liked, tiring, items = rng.choice(NAMES, (3, n))
    fits = np.array([vectors[a] @ vectors[b] for a, b in zip(liked, items, strict=True)])
    tires = np.array([vectors[a] @ vectors[b] for a, b in zip(tiring, items, strict=True)])
    trust = rng.integers(-2, 3, n)
    chance = 1 / (1 + np.exp(-(4 * fits - 4 * np.maximum(tires, 0) + trust)))
    profiles = [
        Profile(((2, str(a)),), ((1, str(b)),), int(c))
        for a, b, c in zip(liked, tiring, trust, strict=True)
    ]
    return profiles, [str(x) for x in items], chance, rng.random(n) < chance


def test_it_recovers_what_made_the_answers(vectors):
    profiles, items, _, z = _pairs(vectors, 6000, 1)
    classifier = EncodingClassifier(vectors)
    classifier.learn(profiles, items, z)
    profiles, items, chance, _ = _pairs(vectors, 1000, 2)
    said = classifier.probabilities(profiles, items)
    assert np.corrcoef(said, chance)[0, 1] > 0.95
    assert abs(said.mean() - chance.mean()) < 0.03
    _, likeness, _, tired, trust, _ = classifier.weights[:6]
    assert likeness > 0 > tired and trust > 0
    # Alone and in company, the same bits.
    alone = [classifier.probabilities([p], [y])[0] for p, y in zip(profiles, items, strict=True)]
    assert said.tolist() == alone


def test_it_says_nothing_before_it_has_learnt(vectors):
    with pytest.raises(RuntimeError, match="call learn first"):
        EncodingClassifier(vectors).probabilities([Profile(((2, NAMES[0]),))], [NAMES[1]])
