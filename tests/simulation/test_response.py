"""What a user does with a slate, against the formulas in plain numpy."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from scipy import stats

from llmrec_env.config import EnvConfig
from llmrec_env.simulation import noise
from llmrec_env.simulation.compilation import kernel
from llmrec_env.simulation.records import compiled_view
from llmrec_env.simulation.response import (
    RESPONSE,
    appeal,
    new_scratch,
    no_responses,
    parameters,
    respond,
    satiation_of,
)
from llmrec_env.simulation.user_record import USER
from llmrec_env.simulation.users import compare

SLOTS, SLATE, KEYS = 8, 5, 20_000


@kernel
def frequencies(user, params, vectors, traits, response, scratch, counts):
    """Counts what many noise keys lead to: (null, slot 0, ...) x (dissatisfied, satisfied)."""
    for i in range(KEYS):
        key = noise.step_key(np.uint64(i * 7919 + 1), 0)
        respond(user, params, vectors, traits, key, response, scratch)
        counts[response.choice + 1, response.satisfied] += 1


@kernel
def outcomes(user, params, vectors, traits, response, scratch, feedback, examined):
    """Writes what many noise keys lead to: the feedback of every slot, and the slots examined."""
    for i in range(KEYS):
        key = noise.step_key(np.uint64(i * 7919 + 1), 0)
        respond(user, params, vectors, traits, key, response, scratch)
        feedback[i], examined[i] = response.feedback[: response.slots], response.examined


@pytest.fixture
def user(world):
    user = world.users[:1].copy()
    user["consumed"], user["num_consumed"] = -1, 0
    user["step"] = -1  # while logged: only then an item can be shown that was consumed before
    user["satiation"], user["goodwill"] = 0.3 * world.items.vectors[7], 0.2
    return user


def _params(world, tiny, **changes):
    return parameters(EnvConfig(**(tiny | changes)), world.text.space.scale)


def _ask(world, user, params, slate, relevance):
    response = no_responses(1, SLATE)
    response["slate"], scratch = slate, new_scratch(SLATE, world.items.vectors.shape[1])
    scratch.relevance[:SLATE] = relevance
    counts = np.zeros((SLATE + 1, 2), np.int64)
    frequencies(
        compiled_view(user, USER)[0],
        params[0],
        world.items.vectors,
        world.traits,
        compiled_view(response, RESPONSE)[0],
        scratch,
        counts,
    )
    return counts


def _formulas(world, user, config, slate, relevance):
    """The utilities and logits of a slate, straight from their definition."""
    traits, user = world.traits[slate], user[0]
    sat = 1 - np.exp(-np.maximum(world.items.vectors[slate] @ user["satiation"], 0))
    utility = config.choice_relevance * relevance - config.satiation_choice * sat
    utility += config.choice_quality * traits["quality"]
    utility -= config.lure * traits["substance"]
    utility -= config.position_bias * np.log(np.arange(1, len(slate) + 1)) + config.choice_null
    utility -= 3.0 * np.isin(slate, user["consumed"])
    logit = config.satisfaction_bias + config.satisfaction_relevance * relevance
    logit -= config.satiation_satisfaction * sat
    logit += config.satisfaction_quality * traits["quality"]
    return utility, logit + config.goodwill_satisfaction * user["goodwill"]


@pytest.mark.parametrize("position_bias", [0.0, 0.5, 2.0])
def test_choices_and_satisfaction_have_the_probabilities_of_the_logits(
    world, tiny, user, position_bias
):
    slate = np.array([7, 11, 100, 250, 4], np.int32)
    relevance = np.array([0.3, 0.7, 0.4, 0.5, 0.45])
    user["consumed"][0, 17] = 250
    config = EnvConfig(**tiny, position_bias=position_bias)
    params = parameters(config, world.text.space.scale)
    counts = _ask(world, user, params, slate, relevance)
    utility, logit = _formulas(world, user, config, slate, relevance)
    odds = np.append(1.0, np.exp(utility))
    assert stats.chisquare(counts.sum(1), KEYS * odds / odds.sum()).pvalue > 1e-3
    assert counts[0, 1] == 0  # nothing chosen, nobody satisfied
    for slot, rate in enumerate(1 / (1 + np.exp(-logit))):
        satisfied, tried = int(counts[slot + 1, 1]), int(counts[slot + 1].sum())
        assert stats.binomtest(satisfied, tried, rate).pvalue > 1e-4


def _ways(consumed, satisfied, goes_on, seen=(), chance=1.0):
    """Yields what can happen in a cascade, the feedback of the slots examined, and how probable."""
    p, z = consumed[len(seen)], satisfied[len(seen)]
    for feedback, share in ((-1, 1 - p), (1, p * z), (0, p * (1 - z))):
        further = goes_on[feedback] if len(seen) + 1 < len(consumed) else 0.0
        yield (*seen, feedback), chance * share * (1 - further)
        if further > 0.0:
            yield from _ways(
                consumed, satisfied, goes_on, (*seen, feedback), chance * share * further
            )


def test_a_cascade_has_the_probabilities_of_its_formula(world, tiny, user):
    slate, relevance = np.array([7, 11, 100], np.int32), np.array([0.7, 0.8, 1.0])
    user["consumed"][0, 17] = 100
    continuation = {"cascade_skipped": 0.9, "cascade_satisfied": 0.6, "cascade_dissatisfied": 0.3}
    config = EnvConfig(**tiny, response="cascade", position_bias=2.0, **continuation)
    params = parameters(config, world.text.space.scale)
    response, scratch = no_responses(1, 3), new_scratch(3, 32)
    response["slate"], scratch.relevance[:3] = slate, relevance
    feedback, examined = np.empty((KEYS, 3), np.int64), np.empty(KEYS, np.int64)
    vectors, traits = world.items.vectors, world.traits
    record, responses = compiled_view(user, USER)[0], compiled_view(response, RESPONSE)
    outcomes(record, params[0], vectors, traits, responses[0], scratch, feedback, examined)
    as_logit = dataclasses.replace(config, position_bias=0.0, choice_null=config.cascade_null)
    utility, logit = _formulas(world, user, as_logit, slate, relevance)
    goes_on = {-1: 0.9, 1: 0.6, 0: 0.3}
    expected = dict(_ways(1 / (1 + np.exp(-utility)), 1 / (1 + np.exp(-logit)), goes_on))
    assert sum(expected.values()) == pytest.approx(1.0) and len(expected) == 3 + 9 + 27
    counts = dict.fromkeys(expected, 0)
    for row, length in zip(feedback.tolist(), examined.tolist(), strict=True):
        counts[tuple(row[:length])] += 1
        assert row[length:] == [-1] * (3 - length)
    likely = [way for way, chance in expected.items() if KEYS * chance > 5]
    observed = np.array([counts[way] for way in likely])
    probable = np.array([expected[way] for way in likely])
    assert len(likely) > 20 and observed.sum() > 0.99 * KEYS
    assert stats.chisquare(observed, observed.sum() * probable / probable.sum()).pvalue > 1e-3


def test_equal_items_are_chosen_by_their_rank(world, tiny, user):
    off = {"off": ["quality", "satiation", "goodwill"], "position_bias": 1.0}
    counts = _ask(world, user, _params(world, tiny, **off), np.arange(5), np.full(5, 0.7))
    share = 1 / np.arange(1, 6)
    chosen = counts[1:].sum(1)
    assert stats.chisquare(chosen, chosen.sum() * share / share.sum()).pvalue > 1e-3
    off["off"] = [*off["off"], "position"]
    chosen = _ask(world, user, _params(world, tiny, **off), np.arange(5), np.full(5, 0.7))[1:]
    assert stats.chisquare(chosen.sum(1)).pvalue > 1e-3


def _appeal(world, tiny, user, item=7, relevance=0.5, **changes):
    params = _params(world, tiny, **changes)
    record = compiled_view(user, USER)[0]
    satiation = satiation_of(record, world.items.vectors, item)
    zero = np.float32(0.0)  # attachment to the creator
    return appeal(record, params[0], world.traits[item], np.float32(relevance), satiation, zero)


def test_satiation_lowers_utility_and_logit_of_what_lies_in_its_direction(world, tiny, user):
    user["satiation"] = 0.0
    fresh = _appeal(world, tiny, user)
    user["satiation"] = 2.0 * world.items.vectors[7]
    tired = _appeal(world, tiny, user)
    full = 1 - np.exp(-2.0)
    assert satiation_of(compiled_view(user, USER)[0], world.items.vectors, 7) == pytest.approx(
        full, rel=1e-5
    )
    assert fresh[0] - tired[0] == pytest.approx(1.2 * full, rel=1e-4)
    assert fresh[1] - tired[1] == pytest.approx(1.8 * full, rel=1e-4)
    user["satiation"] = -2.0 * world.items.vectors[7]  # what is opposite does not refresh
    assert _appeal(world, tiny, user) == pytest.approx(fresh)


def test_relevance_raises_both(world, tiny, user):
    low, high = _appeal(world, tiny, user, relevance=0.2), _appeal(world, tiny, user, relevance=0.7)
    assert high[0] - low[0] == pytest.approx(0.5 * 6, rel=1e-5)
    assert high[1] - low[1] == pytest.approx(0.5 * 4, rel=1e-5)


def test_goodwill_raises_satisfaction_and_not_choice(world, tiny, user):
    user["goodwill"] = -1.0
    low = _appeal(world, tiny, user)
    user["goodwill"] = 1.0
    high = _appeal(world, tiny, user)
    assert high[0] == low[0] and high[1] - low[1] == pytest.approx(3.0, rel=1e-5)


def test_clickbait_is_chosen_more_and_satisfies_no_better(world, tiny, user):
    item = int(np.argmin(world.traits["substance"]))
    bare = _appeal(world, tiny, user, item=item, lure=0.0)
    lured = _appeal(world, tiny, user, item=item, lure=0.8)
    assert lured[0] - bare[0] == pytest.approx(-0.8 * world.traits["substance"][item], rel=1e-4)
    assert lured[0] > bare[0] and lured[1] == bare[1]


def test_quality_raises_both(world, tiny, user):
    with_it = _appeal(world, tiny, user)
    without = _appeal(world, tiny, user, off=["quality"])
    for on, off in zip(with_it, without, strict=True):
        assert on - off == pytest.approx(0.25 * world.traits[7]["quality"], rel=1e-3, abs=1e-6)


@pytest.mark.parametrize("kappa", [0.0, 0.2, 1.0])
def test_relevance_is_the_rectified_sum_of_text_and_taste(world, tiny, kappa):
    slate = np.arange(0, 500, 100, dtype=np.int32)
    scratch = new_scratch(SLATE, 32)
    params = _params(world, tiny, relevance_taste=kappa)
    vectors, phrases = world.items.vectors, world.interests.vectors
    signs = set()
    for i, user in enumerate(world.users[:10]):
        record = compiled_view(world.users, USER)[i]
        compare(record, phrases, vectors, world.traits, slate, params[0], scratch)
        active = user["active"] == 1
        omega = np.where(active, np.exp(user["weight"] - user["weight"][active].max()), 0)
        text = vectors[slate] @ (omega @ phrases[user["phrase"]]) / world.text.space.scale
        total = text + kappa * (world.traits["taste"][slate] @ user["taste"])
        signs |= set(np.sign(total))
        np.testing.assert_allclose(scratch.relevance[:SLATE], np.maximum(total, 0), atol=1e-5)
        cosines = vectors[slate] @ phrases[user["phrase"]].T
        np.testing.assert_allclose(scratch.affinity[:, :SLOTS], cosines, atol=1e-5)
    assert signs == {-1.0, 1.0}


def test_scale_is_the_mean_best_cosine_of_the_phrases(world):
    best = (world.interests.vectors @ world.items.vectors.T).max(1)
    assert world.params["scale"][0] == pytest.approx(best.mean(), rel=1e-5)


def test_huge_utilities_do_not_overflow(world, tiny, user):
    params = _params(world, tiny, choice_relevance=30.0, choice_null=-10.0)
    counts = _ask(world, user, params, np.arange(5), np.full(5, 100.0))
    assert counts[0].sum() == 0 and counts.sum() == KEYS


@pytest.mark.parametrize("effective", [True, False])
def test_parameters_are_the_effective_ones(tiny, effective):
    config = EnvConfig(**tiny, off=["drift"] if effective else [])
    params = parameters(config, 0.7)
    wanted = config.effective()
    for name in params.dtype.names:
        if name in {item.name for item in dataclasses.fields(wanted)}:
            assert params[name][0] == getattr(wanted, name), name
    np.testing.assert_allclose(params["examined"][0, :3], [1, 2**-0.5, 3**-0.5])
    np.testing.assert_allclose(params["rank_penalty"][0, :3], 0.5 * np.log([1, 2, 3]))
