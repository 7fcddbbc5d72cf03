"""The joint recommender on logs without slates: both halves, and each without the other."""

from __future__ import annotations

import numpy as np
import pytest

from agents.dataset import Dataset
from agents.joint.without_slates import without_slates
from agents.rankers.ease_text import EaseText
from agents.rankers.item_models import Ease

ITEMS = 14


@pytest.fixture
def log():
    cells = np.random.default_rng(0).permutation(30 * 12)[
        :140
    ]  # items 12 and 13 are never consumed
    return Dataset.from_columns(cells // 12, cells % 12, np.ones(140), np.arange(140), ITEMS)


def texts(seed=1):
    vectors = np.random.default_rng(seed).normal(size=(ITEMS, 4)).astype(np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def scores(agent, log, vectors):
    """What each item alone says of the others."""
    agent.learn(log, vectors)
    found = agent.score_items(np.arange(ITEMS)[:, None], np.ones((ITEMS, 1), np.float32))
    return np.where(np.eye(ITEMS, dtype=bool), 0.0, found)


def test_with_both_halves_it_is_ease_drawn_to_texts(log):
    expected = scores(EaseText(), log, texts())
    np.testing.assert_array_equal(scores(without_slates(), log, texts()), expected)


def test_losses_weigh_against_each_other(log):
    settings = {"regularisation": 8.0, "cosine": 0.1, "popular": 0.0}
    half = scores(without_slates(click=0.5, text=3.0, **settings), log, texts())
    expected = scores(EaseText(regularisation=16.0, text=0.3, popular=0.0), log, texts())
    np.testing.assert_allclose(half, expected, atol=1e-6)


def test_without_the_clicks_texts_alone_speak(log):
    agent = without_slates(click=0.0, text=2.0, cosine=0.1)
    other = Dataset.from_columns([0, 0], [3, 4], [1.0, 1.0], [0, 1], ITEMS)
    found = scores(agent, log, texts())
    np.testing.assert_array_equal(found, scores(agent, other, texts()))
    expected = np.where(np.eye(ITEMS, dtype=bool), 0.0, 0.2 * texts() @ texts().T)
    np.testing.assert_allclose(found, expected, atol=1e-6)


def test_without_the_texts_it_is_ease(log):
    agent = without_slates(text=0.0, decay=0.95)
    found = scores(agent, log, texts())
    np.testing.assert_array_equal(found, scores(agent, log, texts(seed=2)))
    ease = scores(Ease(regularisation=200.0, gap_decay=0.97), log, None)
    np.testing.assert_allclose(found, ease, atol=1e-6)


@pytest.mark.parametrize(("click", "text"), [(-1.0, 1.0), (1.0, -0.5), (0.0, 0.0)])
def test_losses_without_weight_are_refused(click, text):
    with pytest.raises(ValueError, match=f"click={click}, text={text}: weights of losses"):
        without_slates(click=click, text=text)
