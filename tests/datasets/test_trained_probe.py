"""A probe of substance learns from labels, and says nothing where they cannot teach."""

from __future__ import annotations

import numpy as np
import pytest

from llmrec_env.datasets.trained_probe import LEAST_LABELS, train_probe


def made(n: int = 200, noise: float = 0.1):
    rng = np.random.default_rng(0)
    vectors = rng.normal(size=(n, 12))
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    truth = np.clip(2.0 * vectors[:, 3] + noise * rng.normal(size=n), -1, 1)
    return vectors, truth


def test_labels_stay_and_the_others_are_read():
    vectors, truth = made()
    labels = np.where(np.arange(200) < 100, truth, np.nan)
    substance, reading, correlation = train_probe(vectors, labels)  # type: ignore[misc]
    assert np.array_equal(substance[:100], labels[:100]) and np.abs(substance).max() <= 1
    assert np.corrcoef(substance[100:], truth[100:])[0, 1] > 0.9
    assert correlation == pytest.approx(np.corrcoef(reading[:100], truth[:100])[0, 1], abs=0.01)
    assert reading.mean() == pytest.approx(0, abs=1e-9) and reading.std() == pytest.approx(1)


def test_a_reading_is_not_the_label_itself():
    vectors, _ = made()
    noise = np.random.default_rng(1).uniform(-1, 1, 200)  # nothing that texts could tell
    _, reading, correlation = train_probe(vectors, noise)  # type: ignore[misc]
    assert abs(correlation) < 0.25 and abs(np.corrcoef(reading, noise)[0, 1]) < 0.25


@pytest.mark.parametrize("labels", [np.full(200, np.nan), np.full(200, 0.5)])
def test_too_little_to_learn_from_is_nothing(labels):
    vectors, truth = made()
    assert train_probe(vectors, labels) is None
    labels = np.where(np.arange(200) < LEAST_LABELS - 1, truth, np.nan)
    assert train_probe(vectors, labels) is None
