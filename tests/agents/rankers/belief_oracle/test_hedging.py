"""Hedged slates: about the best of all, and the oracles' own where nothing is unknown."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from agents.rankers.belief_oracle.hedging import hedged_slate, slate_value
from agents.rankers.oracles import best_cascade, best_slate
from llmrec_env.config import EnvConfig
from llmrec_env.simulation.response import parameters


def _params(tiny, response):
    return parameters(EnvConfig(**(tiny | {"response": response})), 0.8)[0]


def _hypotheses(rng, n, candidates):
    odds = rng.lognormal(-1, 2, (n, candidates))
    return odds, rng.random((n, candidates)), rng.gamma(2, 0.3, (n, candidates)), np.full(n, 1 / n)


def _hedged(params, odds, satisfaction, value, weights, k):
    slate = np.empty(k, np.int64)
    ids = np.arange(odds.shape[1], dtype=np.int32)
    hedged_slate(params, odds, satisfaction, value, weights, ids, slate)
    return slate


@pytest.mark.parametrize("response", ["logit", "cascade"])
@pytest.mark.parametrize("seed", range(10))
def test_it_is_about_the_best_of_all_slates(seed, response, tiny):
    params = _params(tiny, response)
    hypotheses = _hypotheses(np.random.default_rng(seed), 3, 7)
    slate = _hedged(params, *hypotheses, 3)
    values = [
        slate_value(params, *hypotheses, np.array(order), 3)
        for order in itertools.permutations(range(7), 3)
    ]
    assert len(set(slate)) == 3
    assert slate_value(params, *hypotheses, slate, 3) > 0.98 * max(values)


@pytest.mark.parametrize("n", [1, 5])
@pytest.mark.parametrize("seed", range(10))
def test_for_one_hypothesis_it_is_the_oracles_slate(seed, n, tiny):
    odds, satisfaction, value, _ = _hypotheses(np.random.default_rng(seed), 1, 30)
    repeated = [np.repeat(x, n, 0) for x in (odds, satisfaction, value)]
    ids, expected = np.arange(30), np.empty(5, np.int64)
    for response in ("logit", "cascade"):
        params = _params(tiny, response)
        if response == "logit":
            best_slate(odds[0], value[0], ids, params["examined"], expected)
        else:
            best_cascade(odds[0], satisfaction[0], value[0], ids, params, expected)
        slate = _hedged(params, *repeated, np.full(n, 1 / n), 5)
        np.testing.assert_array_equal(slate, expected)


@pytest.mark.parametrize("response", ["logit", "cascade"])
def test_it_has_something_for_either_of_two_hypotheses(response, tiny):
    odds = np.full((2, 10), 1e-3)
    odds[0, :5], odds[1, 5:] = 20.0, 19.0  # either wants one half, a little more the first
    ones = np.ones((2, 10))
    slate = _hedged(_params(tiny, response), odds, 0.5 * ones, ones, np.array([0.5, 0.5]), 4)
    assert {c // 5 for c in slate} == {0, 1}


def test_what_is_not_there_is_never_shown(tiny):
    odds, satisfaction, value, weights = _hypotheses(np.random.default_rng(0), 4, 8)
    ids = np.array([3, -1, 5, 7, -1, 9, 11, 13], np.int32)
    odds[:, ids < 0] = satisfaction[:, ids < 0] = value[:, ids < 0] = 0.0
    for response in ("logit", "cascade"):
        slate = np.empty(5, np.int64)
        hedged_slate(_params(tiny, response), odds, satisfaction, value, weights, ids, slate)
        assert (ids[slate] >= 0).all() and len(set(slate)) == 5
