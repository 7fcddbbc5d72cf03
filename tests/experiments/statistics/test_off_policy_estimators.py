"""Off-policy estimators on bandits of two slots whose values are known."""

from __future__ import annotations

import numpy as np
import pytest

from experiments.statistics.off_policy_estimators import (
    LEVELS,
    OverlapError,
    Terms,
    doubly_robust,
    effective_size,
    importance_weights,
    interval_of,
    inverse_propensity,
    self_normalised,
    switched,
)

CONTEXTS, ITEMS, SLOTS = 3, 4, 2
STEPS = 300


def _independent(own):
    """A slot's reward depends on it alone."""
    return own


def _above(own):
    """The second slot earns less below a good first one."""
    return np.stack([own[:, 0], own[:, 1] * (1.0 - own[:, 0])], 1)


def _trading(own):
    """The first slot earns more above a good one, but the slate is the sum of two parts."""
    return np.stack([0.5 * own[:, 0] + 0.4 * own[:, 1], 0.5 * own[:, 1]], 1)


def _competing(own):
    """Slots compete for one click."""
    return own / (0.2 + own.sum(1, keepdims=True))


RIGHT = {
    _independent: {"slate", "prefix", "slot", "additive"},
    _above: {"slate", "prefix"},
    _trading: {"slate", "additive"},
    _competing: {"slate"},
}


class Bandit:
    """Every step that a policy of independent slots can log, and how likely it is."""

    def __init__(self, reward=_independent, seed=2):
        rng = np.random.default_rng(seed)
        quality = rng.uniform(0.05, 0.9, (CONTEXTS, SLOTS, ITEMS))
        logging = rng.dirichlet(np.full(ITEMS, 3.0), (CONTEXTS, SLOTS))
        target = rng.dirichlet(np.full(ITEMS, 0.7), (CONTEXTS, SLOTS))
        sizes = (CONTEXTS, ITEMS, ITEMS, 2, 2)
        context, *rest = (axis.ravel() for axis in np.indices(sizes))
        actions, self.rewards = np.stack(rest[:2], 1), np.stack(rest[2:], 1).astype(float)
        where = context[:, None], np.arange(SLOTS), actions
        self.target, self.logged, own = target[where], logging[where], quality[where]
        means = reward(own)
        chance = np.where(self.rewards == 1, means, 1.0 - means).prod(1) / CONTEXTS
        self.chance = chance * self.logged.prod(1)
        self.value = float((chance * self.target.prod(1) * self.rewards.sum(1)).sum())
        self.model = 0.8 * own, 0.8 * (target * quality).sum(-1)[context]
        self.rng = rng

    def moments(self, level, estimator=inverse_propensity, *more):
        """Mean and variance of what one step adds to an estimate."""
        weights = importance_weights(self.target, self.logged, level)
        model = () if estimator is inverse_propensity else self.model
        added = estimator(self.rewards, weights, *model, *more).numerator.sum(1)
        mean = float(self.chance @ added)
        return mean, float(self.chance @ np.square(added - mean))

    def drawn(self, steps=STEPS):
        """Rewards, target, propensities, and the model of steps drawn."""
        rows = self.rng.choice(len(self.chance), steps, p=self.chance / self.chance.sum())
        return [x[rows] for x in (self.rewards, self.target, self.logged, *self.model)]


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("reward", RIGHT, ids=lambda reward: reward.__name__)
def test_a_level_is_unbiased_exactly_where_its_assumption_holds(reward, level):
    bandit = Bandit(reward)
    for estimator in (inverse_propensity, doubly_robust):
        bias = bandit.moments(level, estimator)[0] - bandit.value
        assert (abs(bias) < 1e-12) == (level in RIGHT[reward]), bias


def test_variance_falls_with_what_is_assumed_and_with_a_model():
    spread = {
        (level, estimator): Bandit().moments(level, estimator)[1]
        for level in LEVELS
        for estimator in (inverse_propensity, doubly_robust)
    }
    for level in LEVELS:
        assert spread[level, doubly_robust] < 0.8 * spread[level, inverse_propensity]
    for estimator in (inverse_propensity, doubly_robust):
        ordered = [spread[level, estimator] for level in ("slate", "prefix", "slot")]
        assert ordered == sorted(ordered, reverse=True)


def test_a_threshold_goes_from_the_model_alone_to_dr():
    bandit = Bandit()
    moments = [bandit.moments("slate", switched, threshold) for threshold in (0.0, 2.0, np.inf)]
    assert moments[0][0] == pytest.approx(0.8 * bandit.value)  # the model's own error
    assert moments[-1] == bandit.moments("slate", doubly_robust)
    biases = [abs(mean - bandit.value) for mean, _ in moments]
    variances = [variance for _, variance in moments]
    assert variances == sorted(variances) and biases == sorted(biases, reverse=True)


def test_self_normalised_stays_in_the_range_of_rewards_and_is_consistent():
    bandit = Bandit()
    rewards, target, logged, *_ = bandit.drawn()
    weights, ones = importance_weights(target, logged, "slate"), np.ones_like(rewards)
    assert self_normalised(ones, weights).value == pytest.approx(SLOTS)
    assert inverse_propensity(ones, weights).value != pytest.approx(SLOTS, abs=1e-3)
    weights = importance_weights(bandit.target, bandit.logged, "slate")
    terms = self_normalised(bandit.rewards, weights)
    everything = Terms(*(bandit.chance[:, None] * column for column in terms))
    assert everything.value == pytest.approx(bandit.value)


@pytest.mark.parametrize("level", LEVELS)
def test_the_logging_policy_itself_earns_what_was_logged(level):
    rewards, _, logged, predicted, _ = Bandit(_competing).drawn()
    weights = importance_weights(logged, logged, level)
    np.testing.assert_allclose(weights, 1.0)
    assert effective_size(weights) == pytest.approx(STEPS)
    for terms in (
        inverse_propensity(rewards, weights),
        self_normalised(rewards, weights),
        doubly_robust(rewards, weights, predicted, predicted),
    ):
        assert terms.value == pytest.approx(rewards.sum(1).mean())


def test_weights_of_each_level_by_hand():
    target, logged = np.array([[0.5, 0.2], [0.1, 0.0]]), np.array([[0.25, 0.4], [0.1, 0.5]])
    expected = {
        "slate": [[1.0, 1.0], [0.0, 0.0]],
        "prefix": [[2.0, 1.0], [1.0, 0.0]],
        "slot": [[2.0, 0.5], [1.0, 0.0]],
        "additive": [[1.5, 1.5], [0.0, 0.0]],
    }
    for level, weights in expected.items():
        np.testing.assert_allclose(importance_weights(target, logged, level), weights)
    assert effective_size(np.array([[1.0], [0.0], [0.0]])) == 1.0


def test_intervals_hold_the_truth_and_keep_the_steps_of_a_user_together():
    bandit, held = Bandit(), 0
    for _ in range(60):
        rewards, target, logged, *_ = bandit.drawn()
        terms = inverse_propensity(rewards, importance_weights(target, logged, "slot"))
        interval = interval_of(terms, np.arange(STEPS))
        held += interval.low <= bandit.value <= interval.high
    assert held >= 51
    twice = Terms(*(np.repeat(column, 4, axis=0) for column in terms))
    wide = interval_of(twice, np.repeat(np.arange(STEPS), 4))
    narrow = interval_of(twice, np.arange(4 * STEPS))
    assert wide.high - wide.low > 1.6 * (narrow.high - narrow.low)
    same = interval_of(terms, np.arange(STEPS), less=terms)
    assert tuple(same) == (0.0, 0.0, 0.0)


def test_what_cannot_be_estimated_is_refused_with_its_remedy():
    ones = np.full((3, 2), 0.5)
    with pytest.raises(ValueError, match=r"no propensities.*SlotMixture"):
        importance_weights(ones, None)
    with pytest.raises(ValueError, match=r"Did you mean 'slate'"):
        importance_weights(ones, ones, "slates")
    with pytest.raises(ValueError, match=r"logged holds 0.0.*above 0"):
        importance_weights(ones, 0.0 * ones)
    with pytest.raises(ValueError, match=r"target holds nan"):
        importance_weights(np.nan * ones, ones)
    with pytest.raises(ValueError, match=r"pass \(m, K\)"):
        importance_weights(ones, ones[:2])
    apart = ones * [1.0, 0.0]
    for level in LEVELS:
        with pytest.raises(OverlapError, match=r"slots \[.*2\].*more exploration"):
            importance_weights(apart, ones, level)
