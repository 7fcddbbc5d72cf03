import time

import numpy as np
import pytest
import scipy.stats
from made_up import crossed

from experiments.statistics.intervals import (
    RatioError,
    Resampling,
    Scores,
    bootstrap_interval,
    iqm,
    mean,
    normalised_score,
    paired_difference,
    performance_profile,
    probability_of_improvement,
    ratio,
    relative_improvement,
)

FAST = Resampling(resamples=500)


def test_iqm_by_hand() -> None:
    assert iqm([100, 1, 2, 3, 4, 5, 6, -100]) == (2 + 3 + 4 + 5) / 4
    assert iqm([0, 1, 2, 3, 40]) == 2.0  # a quarter of five is one whole session at each end
    assert mean([1, 2, 6]) == 3.0


@pytest.mark.parametrize("function", [mean, iqm, Scores.of])
@pytest.mark.parametrize("bad", [[1.0, np.nan], [np.inf, 1.0], []])
def test_what_is_not_finite_is_refused(function, bad) -> None:
    with pytest.raises(ValueError, match=r"not finite|no value"):
        function(bad)


@pytest.mark.parametrize(
    ("name", "statistic"),
    [("mean", np.mean), ("iqm", lambda x, axis: scipy.stats.trim_mean(x, 0.25, axis=axis))],
)
def test_bootstrap_agrees_with_scipy(name, statistic, generator) -> None:
    values = generator.gamma(2.0, 5.0, 400)
    theirs = scipy.stats.bootstrap(
        (values,), statistic, method="percentile", n_resamples=9999, rng=1
    ).confidence_interval
    ours = bootstrap_interval(Scores.of(values), name, Resampling(resamples=9999))
    assert ours.value == pytest.approx(statistic(values, axis=0))
    assert ours[1:] == pytest.approx((theirs.low, theirs.high), abs=0.06)  # width is about 1.3


@pytest.mark.parametrize("size", [1, 2, 3, 4, 7, 8, 401])
def test_iqm_agrees_with_scipy(size, generator) -> None:
    values = generator.standard_cauchy(size)
    assert iqm(values) == pytest.approx(scipy.stats.trim_mean(values, 0.25), rel=1e-12)


def test_improvement_over_one_seed_agrees_with_scipy(generator) -> None:
    """Where b has one seed, a user's pairs are all pairs: U of Mann and Whitney, by number."""
    a, b = generator.integers(5, size=(30, 4)), generator.integers(5, size=(30, 1))
    u = [
        scipy.stats.mannwhitneyu(*x, method="asymptotic").statistic
        for x in zip(a, b, strict=True)
        if np.ptp(np.concatenate(x))  # scipy divides by the spread
    ]
    alike = 30 - len(u)
    ours = probability_of_improvement(crossed(a), crossed(b), FAST)
    assert ours.value == pytest.approx((sum(u) / 4 + 0.5 * alike) / 30)


def test_iqm_of_several_seeds_is_that_of_all_sessions(generator) -> None:
    values = generator.normal(size=(30, 3))
    assert bootstrap_interval(crossed(values), "iqm", FAST).value == pytest.approx(iqm(values))


def test_order_of_sessions_is_without_effect(generator) -> None:
    table = generator.normal(10, 1, (20, 3))
    users, seeds = (x.ravel() for x in np.indices(table.shape))
    order = generator.permutation(60)
    shuffled = Scores.of(table.ravel()[order], users[order] % 2, users[order], seeds[order])
    same = crossed(table, worlds=2)
    assert bootstrap_interval(shuffled, "iqm", FAST) == bootstrap_interval(same, "iqm", FAST)


def test_pairing_narrows_the_interval(generator) -> None:
    user = generator.gamma(4.0, 3.0, 500)  # differs far more between users than between agents
    a = Scores.of(1.1 * user + generator.normal(0, 0.5, 500))
    b = Scores.of(user + generator.normal(0, 0.5, 500))
    strangers = Scores.of(generator.permutation(b.values[:, 0]))
    paired, unpaired = relative_improvement(a, b, FAST), relative_improvement(a, strangers, FAST)
    assert paired.value == pytest.approx(unpaired.value) == pytest.approx(0.1, abs=0.02)
    assert paired.low > 0
    assert paired.high - paired.low < (unpaired.high - unpaired.low) / 4


def test_gain_and_difference_by_hand() -> None:
    b = Scores.of([1.0, 2.0, 3.0, 4.0])
    a = Scores.of(1.5 * b.values[:, 0])
    assert relative_improvement(a, b, FAST) == pytest.approx((0.5, 0.5, 0.5))
    difference = paired_difference(a, b, FAST)
    assert difference.value == pytest.approx(1.25)
    assert 0.5 <= difference.low < difference.high <= 2.0


def test_the_gain_covers_the_truth() -> None:
    hits = 0
    for trial in range(300):
        generator = np.random.default_rng(trial)
        user = generator.gamma(4.0, 3.0, 150)
        a = Scores.of(1.2 * user * generator.gamma(10, 0.1, 150))
        b = Scores.of(user * generator.gamma(10, 0.1, 150))
        gain = relative_improvement(a, b, Resampling(resamples=300, rng=trial))
        hits += gain.low <= 0.2 <= gain.high
    assert 0.90 <= hits / 300 <= 0.985


def test_an_agent_of_one_seed_stands_against_all_seeds_of_the_other(generator) -> None:
    b = Scores.of(np.full(40, 2.0), seeds=np.full(40, 7))
    a = crossed(np.broadcast_to([2.0, 4.0, 6.0], (40, 3)))
    gain = relative_improvement(a, b, FAST)
    assert gain.value == pytest.approx(1.0)
    assert gain.low < 0.6 < 1.4 < gain.high  # the seeds of a are drawn though b has one
    assert probability_of_improvement(b, a, FAST).value == pytest.approx(0.5 / 3)


def test_known_probability_of_improvement(generator) -> None:
    a = Scores.of([1.0, 5.0, 2.0, 3.0])
    b = Scores.of([0.0, 4.0, 9.0, 3.0])
    assert probability_of_improvement(a, b, FAST).value == pytest.approx((2 + 0.5) / 4)
    shift = generator.normal(0.5, 1.0, 4000)  # P(N(.5, 1) > 0)
    base = generator.normal(0, 3, 4000)
    estimate = probability_of_improvement(Scores.of(base + shift), Scores.of(base), FAST)
    assert estimate.low < scipy.stats.norm.cdf(0.5) < estimate.high
    mirrored = probability_of_improvement(Scores.of(base), Scores.of(base + shift), FAST)
    assert mirrored == pytest.approx((1 - estimate.value, 1 - estimate.high, 1 - estimate.low))


@pytest.mark.parametrize("seeds", [1, 3])
def test_profile_agrees_with_the_survival_function(seeds, generator) -> None:
    values = generator.gamma(2.0, 5.0, (200, seeds)).round()  # with ties, and scores at thresholds
    at = np.array([12.0, -1.0, 0.0, 3.0, 3.5, 1e9])
    profile = performance_profile(crossed(values, worlds=2), at, FAST)
    expected = scipy.stats.ecdf(values.ravel()).sf.evaluate(at)
    np.testing.assert_allclose(profile.share, expected, atol=1e-12)
    assert profile.share[1] == 1.0 and profile.share[-1] == 0.0
    assert profile.low.shape == profile.high.shape == at.shape


def test_bands_of_a_profile_are_those_of_the_share_at_each_threshold(generator) -> None:
    values, at = generator.normal(size=(60, 3)), [-0.5, 0.0, 1.0]
    profile = performance_profile(crossed(values, worlds=2), at, FAST)
    for i, threshold in enumerate(at):
        share = bootstrap_interval(crossed(1.0 * (values > threshold), worlds=2), "mean", FAST)
        assert [column[i] for column in profile] == pytest.approx(list(share))


def test_bands_of_a_profile_cover_the_truth() -> None:
    at, hits = np.array([-1.0, 0.0, 0.7]), np.zeros(3)
    truth = scipy.stats.norm.sf(at)
    for trial in range(300):
        scores = Scores.of(np.random.default_rng(trial).normal(size=150))
        profile = performance_profile(scores, at, Resampling(resamples=300, rng=trial))
        hits += (profile.low <= truth) & (truth <= profile.high)
    assert (hits / 300 > 0.90).all() and (hits / 300 < 0.985).all()


@pytest.mark.parametrize("bad", [[0.0, np.nan], 1.0, [[1.0]]])
def test_thresholds_of_no_use_are_refused(bad) -> None:
    with pytest.raises(ValueError, match="at must be"):
        performance_profile(Scores.of([1.0, 2.0]), bad)


def test_a_ratio_is_that_of_sums(generator) -> None:
    a, b = Scores.of([1.0, 5.0, 0.0]), Scores.of([10.0, 20.0, 2.0])
    assert ratio(a, b, FAST).value == pytest.approx(6 / 32)
    steps = generator.integers(1, 50, 400).astype(float)
    reward = 0.3 * steps + generator.normal(0, 1, 400)
    estimate = ratio(Scores.of(reward), Scores.of(steps), FAST)
    assert estimate.low < 0.3 < estimate.high
    gain = relative_improvement(Scores.of(reward), Scores.of(steps), FAST)
    assert gain == pytest.approx(tuple(x - 1.0 for x in estimate))
    with pytest.raises(RatioError):
        ratio(a, Scores.of([0.0, 0.0, 0.0]), FAST)


def test_normalised_score(generator) -> None:
    low, high = generator.gamma(2, 1, 100), 20 + generator.gamma(2, 1, 100)
    ends = Scores.of(low), Scores.of(high)
    for share in (0.0, 0.25, 1.0):
        own = Scores.of(low + share * (high - low))
        estimate = normalised_score(own, *ends, FAST)
        assert estimate == pytest.approx((share,) * 3)
    with pytest.raises(RatioError, match="above that of `low`"):
        normalised_score(*ends, ends[0], FAST)


def test_a_gain_over_nothing_is_refused() -> None:
    a = Scores.of([1.0, 2.0, 3.0])
    for values in ([0.0, 0.0, 0.0], [0.0, 0.0, 1e-3], [-1.0, 0.5, 0.2]):
        with pytest.raises(RatioError, match="paired_difference"):
            relative_improvement(a, Scores.of(values), FAST)


def test_unaligned_pairs_name_what_is_missing(generator) -> None:
    worlds, users = np.repeat([0, 1], 5), np.tile(np.arange(5), 2)
    whole = Scores.of(generator.normal(size=10), worlds, users)
    part = Scores.of(generator.normal(size=8), worlds[:-2], users[:-2])
    with pytest.raises(ValueError, match=r"second agent lacks.*2 missing.*\(1, 3\), \(1, 4\)"):
        relative_improvement(whole, part)
    with pytest.raises(ValueError, match=r"first agent lacks.*\(1, 3\)"):
        probability_of_improvement(part, whole)
    moved = Scores.of(generator.normal(size=10), worlds + 1, users)
    with pytest.raises(ValueError, match=r"first agent lacks.*5 missing, first \[\(2, 0\)"):
        paired_difference(whole, moved)


def test_other_seeds_name_what_is_missing() -> None:
    values, users = np.arange(8.0), np.tile(np.arange(4), 2)
    a = Scores.of(values, users=users, seeds=np.repeat([0, 1], 4))
    b = Scores.of(values, users=users, seeds=np.repeat([0, 2], 4))
    with pytest.raises(ValueError, match=r"first agent lacks a training seed.*\[2\]"):
        relative_improvement(a, b)
    with pytest.raises(ValueError, match="training seed"):
        normalised_score(Scores.of(values[:4]), a, b)


def test_incomplete_or_repeated_sessions_are_refused() -> None:
    with pytest.raises(ValueError, match=r"1 sessions are missing.*\(0, 1, 1\)"):
        Scores.of([1.0, 2.0, 3.0], users=[0, 1, 0], seeds=[0, 0, 1])
    with pytest.raises(ValueError, match=r"more than once.*\(0, 1, 0\)"):
        Scores.of([1.0, 2.0, 3.0], users=[0, 1, 1])
    with pytest.raises(ValueError, match="World 4 has one user"):
        Scores.of([1.0, 2.0, 3.0], [0, 0, 4], [0, 1, 2])
    with pytest.raises(ValueError, match="one length"):
        Scores.of([1.0, 2.0], users=[0])


@pytest.mark.slow
def test_ten_thousand_users_take_less_than_two_seconds(generator) -> None:
    worlds = np.repeat(np.arange(4), 2500)
    a, b = (Scores.of(generator.gamma(2, 5, 10_000), worlds, np.arange(10_000)) for _ in "ab")
    for call in (lambda: bootstrap_interval(a, "iqm"), lambda: relative_improvement(a, b)):
        started = time.process_time()
        call()
        assert time.process_time() - started < 2.0
