"""The reference implementation of Agarwal et al. 2021 and its published numbers against ours.

rliable is no dependency of the project; what compares with its code runs where it can be imported
(`pip install --no-deps rliable arch statsmodels patsy absl-py`: the arch that rliable 1.2 asks for
fails under pandas 3), the numbers of its own tests everywhere. Where intervals are compared its
runs are our users and its tasks our worlds: both draw the first within the second.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from experiments.statistics.intervals import (
    Resampling,
    Scores,
    bootstrap_interval,
    iqm,
    mean,
    performance_profile,
    probability_of_improvement,
)

HOW = Resampling(resamples=4000)
# The matrices (runs, tasks) of rliable's metrics_test.py, and what it asserts of them.
X = np.array([[1, 2], [2, 2], [1, 1], [2, 1]])
Y = np.array([[1, 1], [2, 2], [3, 3]])


def found(name: str) -> Any:
    module = f"rliable.{name}"
    # Not ImportError alone: arch 7 raises TypeError under pandas 3.
    return pytest.importorskip(module, reason="rliable cannot be imported", exc_type=Exception)


@pytest.fixture
def metrics() -> Any:
    return found("metrics")


@pytest.fixture
def library(monkeypatch) -> Any:
    """rliable's intervals; they draw from numpy's global generator alone."""
    module = found("library")
    base = module.arch_bs.IIDBootstrap
    begin = base.__init__

    def begin_without(self: Any, *args: Any, random_state: None = None, **kwargs: Any) -> None:
        begin(self, *args, **kwargs)  # rliable 1.2 passes an argument that arch 8 lacks

    monkeypatch.setattr(base, "__init__", begin_without)
    np.random.seed(0)  # noqa: NPY002
    return module


@pytest.fixture
def table() -> np.ndarray:
    """Scores (users, worlds) that differ between worlds."""
    return np.random.default_rng(1).gamma(2.0, [[3.0, 5.0, 9.0]], (80, 3))


def of_worlds(table: np.ndarray) -> Scores:
    users, worlds = np.indices(table.shape)
    return Scores.of(table.ravel(), worlds.ravel(), users.ravel())


def of_runs(table: np.ndarray) -> Scores:
    """Scores of (runs, tasks) with tasks as users and runs as training seeds."""
    seeds, users = np.indices(table.shape)
    return Scores.of(table.ravel(), users=users.ravel(), seeds=seeds.ravel())


def every_pair(x: np.ndarray, y: np.ndarray) -> tuple[Scores, Scores]:
    """Both with a seed for every pair of runs: so that ours, which pairs, compares them all."""
    return of_runs(np.repeat(x, len(y), axis=0)), of_runs(np.tile(y, (len(x), 1)))


def test_published_numbers() -> None:
    for table, value in ((X, 1.5), (Y, 2.0)):
        scores = of_runs(table)
        assert mean(table) == iqm(table) == value
        assert bootstrap_interval(scores, "mean", HOW).value == value
        assert bootstrap_interval(scores, "iqm", HOW).value == value
    assert probability_of_improvement(*every_pair(X, Y), HOW).value == pytest.approx(1 / 3)


def test_aggregates_agree(metrics, table) -> None:
    for part in (table, table[:7], table[:1]):
        assert iqm(part) == pytest.approx(metrics.aggregate_iqm(part), rel=1e-12)
        assert mean(part) == pytest.approx(metrics.aggregate_mean(part), rel=1e-12)


@pytest.mark.parametrize("ties", [False, True])
def test_probability_of_improvement_agrees_over_all_pairs_of_runs(metrics, ties) -> None:
    generator = np.random.default_rng(2)
    x, y = generator.gamma(3.0, 2.0, (5, 20)), generator.gamma(3.0, 1.5, (4, 20))
    if ties:
        x, y = x.round(), y.round()
    theirs = metrics.probability_of_improvement(x, y)
    assert probability_of_improvement(*every_pair(x, y), HOW).value == pytest.approx(theirs)
    # With one run of y, pairs are all there is.
    theirs = metrics.probability_of_improvement(x, y[:1])
    ours = probability_of_improvement(of_runs(x), of_runs(y[:1]), HOW)
    assert ours.value == pytest.approx(theirs)


def test_profiles_agree(library, table) -> None:
    at = np.linspace(0.0, 60.0, 25)
    profiles, intervals = library.create_performance_profile({"own": table}, at, reps=4000)
    ours = performance_profile(of_worlds(table), at, HOW)
    np.testing.assert_allclose(ours.share, profiles["own"], atol=1e-12)
    np.testing.assert_allclose([ours.low, ours.high], intervals["own"], atol=0.009)
    assert np.max(ours.high - ours.low) > 0.09  # ten times the tolerance


@pytest.mark.parametrize("statistic", ["mean", "iqm"])
def test_intervals_agree(library, metrics, table, statistic) -> None:
    def theirs(scores: np.ndarray) -> np.ndarray:
        return np.array([getattr(metrics, f"aggregate_{statistic}")(scores)])

    values, intervals = library.get_interval_estimates({"own": table}, theirs, reps=4000)
    ours = bootstrap_interval(of_worlds(table), statistic, HOW)
    assert ours.value == pytest.approx(values["own"][0])
    width = ours.high - ours.low
    assert ours[1:] == pytest.approx(intervals["own"].ravel().tolist(), abs=0.06 * width)
