import itertools

import numpy as np
import pytest
from made_up import crossed

from experiments.statistics.intervals import (
    Resampling,
    Scores,
    bootstrap_interval,
    iqm,
    performance_profile,
)
from experiments.statistics.resampling import draw_counts

FAST = Resampling(resamples=500)
MANY = Resampling(resamples=20_000)


@pytest.mark.parametrize(("name", "truth"), [("mean", 10.0), ("iqm", None)])
def test_intervals_of_many_users_cover_the_truth(name, truth) -> None:
    population = np.random.default_rng(9).gamma(2.0, 5.0, 1_000_000)
    truth = truth or iqm(population)
    hits = 0
    for trial in range(400):
        generator = np.random.default_rng(trial)
        scores = Scores.of(generator.gamma(2.0, 5.0, 120))
        interval = bootstrap_interval(scores, name, Resampling(resamples=300, rng=trial))
        hits += interval.low <= truth <= interval.high
    assert 0.91 <= hits / 400 <= 0.98


def test_intervals_with_several_seeds_cover_and_are_not_much_too_wide() -> None:
    hits, widths, values = 0, [], []
    for trial in range(300):
        generator = np.random.default_rng(trial)
        user, seed = generator.normal(size=(100, 1)), 0.1 * generator.normal(size=(1, 5))
        table = 10 + user + seed + generator.normal(size=(100, 5))
        interval = bootstrap_interval(crossed(table), "mean", Resampling(resamples=300, rng=trial))
        hits += interval.low <= 10 <= interval.high
        widths.append(interval.high - interval.low)
        values.append(interval.value)
    assert 0.92 <= hits / 300 <= 0.99
    assert np.mean(widths) / (2 * 1.96 * np.std(values)) < 1.25


def test_means_over_drawn_seeds_vary_by_the_unbiased_amount(generator) -> None:
    """The variance of a mean over S seeds is s^2 / S with the unbiased s^2."""
    values, users = generator.normal(size=5), np.zeros(10, np.int64)
    drawn = [seeds @ values / seeds.sum(axis=1) for _, seeds in draw_counts(users, 5, MANY)]
    assert np.concatenate(drawn).var() == pytest.approx(values.var(ddof=1) / 5, rel=0.05)


def test_every_world_keeps_its_number_of_users() -> None:
    worlds = np.repeat([0, 3, 4], [2, 50, 7])
    blocks = [users for users, _ in draw_counts(worlds, 1, MANY)]
    assert len(blocks) > 1  # it takes several
    users = np.concatenate(blocks)
    assert users.shape == (MANY.resamples, 59)
    for world, size in ((0, 2), (3, 50), (4, 7)):
        assert (users[:, worlds == world].sum(axis=1) == size).all()
    np.testing.assert_allclose(users.mean(axis=0), 1.0, atol=0.05)  # everyone alike


def test_worlds_are_strata() -> None:
    """Worlds that differ, users alike within each: sizes kept, nothing varies."""
    worlds = np.repeat([0, 1, 2], [10, 40, 5])
    scores = Scores.of(100.0 * worlds, worlds, np.arange(55))
    interval = bootstrap_interval(scores, "mean", FAST)
    assert interval.low == pytest.approx(interval.value) == pytest.approx(interval.high)
    pooled = bootstrap_interval(Scores.of(100.0 * worlds), "mean", FAST)
    assert pooled.high - pooled.low > 10


def test_a_seed_gives_the_same_interval_and_another_seed_another(generator) -> None:
    scores = Scores.of(generator.normal(size=50))
    one, two = Resampling(rng=1), Resampling(rng=2)
    assert bootstrap_interval(scores, "mean", one) == bootstrap_interval(scores, "mean", one)
    assert bootstrap_interval(scores, "mean", one) != bootstrap_interval(scores, "mean", two)


def test_draws_do_not_hang_on_what_was_drawn_before(generator) -> None:
    one, two = (crossed(generator.normal(size=(40, 2)), worlds) for worlds in (1, 2))
    before = bootstrap_interval(one, "mean", FAST)
    bootstrap_interval(two, "mean", FAST)
    performance_profile(one, [0.0], FAST)
    assert bootstrap_interval(one, "mean", FAST) == before
    running = Resampling(rng=np.random.default_rng(0))
    assert bootstrap_interval(one, "mean", running) != bootstrap_interval(one, "mean", running)


@pytest.mark.parametrize("bad", [{"level": 0.0}, {"level": 1.0}, {"resamples": 10}])
def test_numbers_out_of_range_are_refused(bad) -> None:
    with pytest.raises(ValueError, match=next(iter(bad))):
        Resampling(**bad)
    with pytest.raises(ValueError, match="median"):
        bootstrap_interval(Scores.of([1.0, 2.0]), "median")  # type: ignore[arg-type]


def test_every_seed_and_level_nests(generator) -> None:
    scores = crossed(generator.normal(size=(60, 4)), worlds=3)
    for name, rng in itertools.product(("mean", "iqm"), range(3)):
        narrow = bootstrap_interval(scores, name, Resampling(level=0.5, rng=rng))
        wide = bootstrap_interval(scores, name, Resampling(level=0.99, rng=rng))
        assert wide.low < narrow.low < narrow.value < narrow.high < wide.high
