"""Rank correlation of leaderboards."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import kendalltau

from experiments.statistics.intervals import Resampling, Scores
from experiments.statistics.rank_correlation import kendall, rank_correlation

FEW = Resampling(resamples=300)


def board(means, noise, seed, users=60):
    """Scores of agents around their means, in two worlds."""
    generator = np.random.default_rng(seed)
    worlds = np.repeat([0, 1], users // 2)
    return [
        Scores.of(mean + noise * generator.normal(size=users), worlds, np.arange(users))
        for mean in means
    ]


def test_it_is_that_of_scipy(generator):
    for _ in range(20):
        one, other = generator.normal(size=(2, 7))
        assert kendall(one, other) == pytest.approx(kendalltau(one, other).statistic)


def test_clear_orders_are_told_apart():
    up, noise = np.arange(5.0), 0.1
    same = rank_correlation(board(up, noise, 0), board(3 * up + 1, noise, 1), FEW)
    reverse = rank_correlation(board(up, noise, 0), board(-up, noise, 1), FEW)
    assert same == (1.0, 1.0, 1.0) and reverse == (-1.0, -1.0, -1.0)


def test_its_interval_is_wide_where_users_are_few():
    up = 0.2 * np.arange(5.0)
    few = rank_correlation(board(up, 1.0, 0, 20), board(up, 1.0, 1, 20), FEW)
    many = rank_correlation(board(up, 1.0, 0, 4000), board(up, 1.0, 1, 4000), FEW)
    assert few.low < few.high and few.low <= few.value
    assert many.high - many.low < few.high - few.low and many.value > 0.7


def test_other_agents_or_users_are_refused():
    five, four = board(np.arange(5.0), 0.1, 0), board(np.arange(4.0), 0.1, 0)
    with pytest.raises(ValueError, match="leaderboards of 5 and 4 agents"):
        rank_correlation(five, four)
    with pytest.raises(ValueError, match="leaderboards of 1 and 1 agents"):
        rank_correlation(five[:1], five[:1])
    with pytest.raises(ValueError, match="other numbers of users"):
        rank_correlation(five, board(np.arange(5.0), 0.1, 0, 40))
