"""Direction and scope of every mechanism that changes a user, on crafted states."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from llmrec_env.simulation.interests import relative_weights
from llmrec_env.simulation.records import compiled_view
from llmrec_env.simulation.user_record import USER

SLOTS = 8


def test_with_everything_off_only_the_clock_moves(craft):
    crafted = craft()
    before = crafted.users.copy()
    crafted.affinity[:] = 1.0
    crafted.evolve()
    for name in before.dtype.names:
        expected = before[name] + 1 if name == "step" else before[name]
        np.testing.assert_array_equal(crafted.users[name], expected, name)


@pytest.mark.parametrize("cosine", [0.8, -0.8])
@pytest.mark.parametrize(("satisfied", "effect"), [(True, 1.0), (False, -0.5)])
def test_consumption_moves_the_aligned_interest_by_how_it_satisfied(
    craft, cosine, satisfied, effect
):
    crafted = craft(reinforce=0.25)
    crafted.affinity[2, 1] = cosine
    crafted.affinity[5, 3] = 0.9  # of a slot that is not chosen
    crafted.consume(1, satisfied)
    expected = np.zeros(SLOTS)
    expected[2] = 0.25 * effect * max(cosine, 0.0)
    np.testing.assert_allclose(crafted.evolve()["weight"], expected, atol=1e-6)


def test_nothing_consumed_reinforces_nothing(craft):
    crafted = craft(reinforce=1.0)
    crafted.affinity[:] = 1.0
    assert (crafted.evolve()["weight"] == 0.0).all()


def test_exposure_raises_what_is_shown_by_how_much_it_is_examined(craft):
    crafted = craft(exposure=0.02, position_bias=1.0)
    crafted.affinity[1] = [0.5, -0.9, 0.2, 0.0, 1.0]
    crafted.affinity[6, 0] = 1.0  # dormant interests too
    expected = np.zeros(SLOTS)
    expected[1] = 0.02 * (0.5 + 0.2 / 3 + 1.0 / 5)
    expected[6] = 0.02
    np.testing.assert_allclose(crafted.evolve()["weight"], expected, atol=1e-6)


def test_log_weights_are_pulled_to_their_rest(craft):
    crafted = craft(ou_rate=0.03)
    crafted.users["rest"], crafted.users["weight"] = 1.0, np.linspace(-2, 2, SLOTS)
    expected = np.linspace(-2, 2, SLOTS)
    expected += 0.03 * (1.0 - expected)
    np.testing.assert_allclose(crafted.evolve()["weight"], expected, atol=1e-6)


def test_log_weights_wander_with_sigma_and_independently(craft):
    after, _ = craft(ou_sigma=0.12).outcomes(2000)
    steps = after["weight"] / 0.12
    assert stats.kstest(steps.ravel(), "norm").pvalue > 1e-3
    correlations = np.corrcoef(steps.T) - np.eye(SLOTS)
    assert np.abs(correlations).max() < 4.5 / 2000**0.5


def test_log_weights_are_clipped(craft):
    crafted = craft(reinforce=3.0)
    crafted.users["weight"] = [2.9, -2.9, 0, 0, 0, 0, 0, 0]
    crafted.affinity[:2, 0] = 1.0
    crafted.consume(0, True)
    assert crafted.evolve()["weight"][0] == 3.0
    crafted.users["weight"][0, 1] = -2.9
    crafted.consume(0, False)
    assert crafted.evolve()["weight"][1] == -3.0


def test_switches_happen_at_their_rate_and_swap_one_interest(craft):
    crafted = craft(switch_rate=0.3, theta_birth=1.25)
    before = crafted.users[0].copy()
    after, responses = crafted.outcomes(2000)
    switched = responses["died"] >= 0
    assert stats.binomtest(int(switched.sum()), 2000, 0.3).pvalue > 1e-3
    assert (after["last_switch"][switched] == before["step"]).all()
    assert (after[~switched]["phrase"] == before["phrase"]).all()
    assert (after["active"].sum(1) == 4).all()
    for user, response in zip(after[switched], responses[switched], strict=True):
        (born,) = np.flatnonzero(user["active"] > before["active"])
        (died,) = np.flatnonzero(user["active"] < before["active"])
        assert user["weight"][born] == np.float32(1.25)
        assert response["born"] == user["phrase"][born] == before["phrase"][born]
        assert response["died"] == before["phrase"][died]
        others = np.arange(SLOTS) != died
        assert (user["phrase"][others] == before["phrase"][others]).all()


def test_interests_die_in_proportion_to_their_weight_and_any_dormant_one_is_born(craft):
    crafted = craft(switch_rate=1.0)
    crafted.users["weight"] = [1, 0, -1, 0.5, 3, 0, 0, 0]
    after, _ = crafted.outcomes(2000)
    died = (after["active"] == 0)[:, :4].sum(0)
    odds = np.exp([1, 0, -1, 0.5])
    assert stats.chisquare(died, 2000 * odds / odds.sum()).pvalue > 1e-3
    assert stats.chisquare((after["active"] == 1)[:, 4:].sum(0)).pvalue > 1e-3


def test_seven_tenths_of_fresh_phrases_are_the_communitys(craft, world):
    crafted, interests = craft(switch_rate=1.0), world.interests
    after, _ = crafted.outcomes(4000)
    died = (after["active"][:, :4] == 0).argmax(1)
    phrases = after["phrase"][np.arange(4000), died]
    topic = np.searchsorted(interests.topic_start, phrases, side="right") - 1
    num_topics = len(interests.topic_start) - 1
    community = crafted.users["community"][0]
    own = np.bincount(interests.community_topics[community], minlength=num_topics)
    share = 0.7 * own / own.sum() + 0.3 / num_topics
    # a phrase that the user holds already is drawn again
    held = np.bincount(world.phrases.topics[crafted.users["phrase"][0]], minlength=num_topics)
    share *= 1 - held / np.diff(interests.topic_start)
    assert not np.isin(phrases, crafted.users["phrase"][0]).any()
    expected = 4000 * share / share.sum()
    assert stats.chisquare(np.bincount(topic, minlength=num_topics), expected).pvalue > 1e-3


def test_refinement_moves_one_phrase_to_a_neighbour_of_its_topic(craft, world):
    crafted = craft(refine_rate=0.5)
    crafted.users["phrase"] = world.interests.topic_start[:8]  # no neighbour is held already
    before = crafted.users[0].copy()
    after, responses = crafted.outcomes(1000)
    moved = (after["phrase"] != before["phrase"]).sum(1)
    assert moved.max() == 1
    assert stats.binomtest(int(moved.sum()), 1000, 0.5).pvalue > 1e-3
    topics = world.phrases.topics
    assert (topics[after["phrase"]] == topics[before["phrase"]]).all()
    for user, response in zip(after[moved == 1], responses[moved == 1], strict=True):
        (slot,) = np.flatnonzero(user["phrase"] != before["phrase"])
        assert user["phrase"][slot] in world.interests.neighbours[before["phrase"][slot]]
        said = (response["refined_from"], response["refined_to"])
        if before["active"][slot]:
            assert said == (before["phrase"][slot], user["phrase"][slot])
        else:
            assert said == (-1, -1)


def test_discovery_wakes_at_most_one_and_only_what_is_close(craft):
    crafted = craft(discovery=1.0, theta_birth=1.0)
    crafted.affinity[:, 0] = 0.25  # not close enough
    after, _ = crafted.outcomes(300)
    assert (after["active"] == crafted.users["active"]).all()
    crafted = craft(discovery=1.0, theta_birth=1.0)
    crafted.affinity[4, 0], crafted.affinity[7, 0] = 1.0, 1.0
    after, responses = crafted.outcomes(300)
    assert (after["active"].sum(1) == 5).all()
    assert (after["active"][:, 5:7] == 0).all()
    woken = np.where(after["active"][:, 4] == 1, 4, 7)
    rows = np.arange(300)
    assert (responses["woken"] == after["phrase"][rows, woken]).all()
    assert (after["weight"][rows, woken] == 0.5).all()
    crafted.affinity[4, 0] = 0.9  # called less than the other, which always answers
    after, _ = crafted.outcomes(100)
    assert (after["active"][:, 7] == 1).all() and (after["active"][:, 4] == 0).all()


@pytest.mark.parametrize("consumed", [False, True])
def test_discovery_has_the_probability_of_the_call(craft, consumed):
    crafted = craft(discovery=0.6, position_bias=1.0)
    crafted.affinity[5] = [0.3, 0.85, 0.0, 0.0, 0.85]
    if consumed:
        crafted.consume(4, True)
    called = 0.6 * (0.6 / 2 / 0.75 + (0.5 * 0.6 if consumed else 0.0))
    after, _ = crafted.outcomes(2000)
    assert stats.binomtest(int(after["active"][:, 5].sum()), 2000, called).pvalue > 1e-3


def test_the_weakest_of_more_than_six_sleeps(craft):
    crafted = craft()
    crafted.users["active"], crafted.users["weight"] = 1, [3, 2, 1, -2, 0, 1, 2, 3]
    crafted.users["active"][0, 7] = 0
    assert crafted.evolve()["active"].tolist() == [1, 1, 1, 0, 1, 1, 1, 0]
    assert crafted.responses["slept"] == crafted.users["phrase"][0, 3]
    assert crafted.evolve()["active"].sum() == 6
    assert crafted.responses["slept"] == -1


def test_satiation_rises_towards_the_consumed_and_decays(craft, world):
    crafted = craft(satiation_decay=0.8)
    crafted.users["satiation"][0, 0] = 2.0
    expected = 0.8 * crafted.users["satiation"][0]
    np.testing.assert_allclose(crafted.evolve()["satiation"], expected, rtol=1e-6)
    crafted.consume(3, False)
    expected = 0.8 * expected + world.items.vectors[3]
    np.testing.assert_allclose(crafted.evolve()["satiation"], expected, rtol=1e-5, atol=1e-7)


def test_goodwill_follows_the_substance_of_what_is_consumed(craft, world):
    crafted = craft(goodwill_gain=0.1, goodwill_decay=0.9)
    for item in (
        int(np.argmin(world.traits["substance"])),
        int(np.argmax(world.traits["substance"])),
    ):
        substance = world.traits["substance"][item]
        assert abs(substance) > 0.3
        crafted.users["goodwill"] = 0.0
        crafted.responses["slate"][0, 0] = item
        crafted.consume(0, True)
        assert crafted.evolve()["goodwill"] == pytest.approx(0.1 * substance, rel=1e-5)
        crafted.ignore()
        assert crafted.evolve()["goodwill"] == pytest.approx(0.09 * substance, rel=1e-5)


def test_consumed_items_are_remembered(craft):
    crafted = craft()
    crafted.consume(2, True)
    count = int(crafted.users["num_consumed"][0])
    crafted.evolve()
    assert crafted.users["num_consumed"][0] == count + 1
    assert crafted.users["consumed"][0, count % 50] == 2


def test_queries_name_active_interests_in_proportion_to_their_weight(craft):
    crafted = craft(query_rate=0.5)
    crafted.users["phrase"] = np.arange(SLOTS)
    crafted.users["weight"] = [1, 0, -1, 0.5, 3, 3, 3, 3]
    _, responses = crafted.outcomes(2000)
    typed = responses["query"][responses["query"] >= 0]
    assert stats.binomtest(len(typed), 2000, 0.5).pvalue > 1e-3
    odds = np.exp([1, 0, -1, 0.5])
    counts = np.bincount(typed, minlength=SLOTS)
    assert counts[4:].sum() == 0
    assert stats.chisquare(counts[:4], len(typed) * odds / odds.sum()).pvalue > 1e-3


@pytest.mark.parametrize(
    ("choice", "satisfied", "change"), [(-1, 0, -0.35), (2, 0, -0.6), (2, 1, 0.8)]
)
def test_patience_moves_by_the_response(craft, choice, satisfied, change):
    crafted = craft()
    crafted.users["patience"] = 5.0
    if choice >= 0:
        crafted.consume(choice, satisfied)
    crafted.tire()
    assert crafted.users["patience"][0] == pytest.approx(5.0 + change)
    assert crafted.responses["terminated"] == 0
    crafted.users["patience"] = 14.9
    crafted.tire()
    assert crafted.users["patience"][0] == pytest.approx(min(14.9 + change, 15.0))


@pytest.mark.parametrize(("patience", "leaves"), [(0.25, 1), (0.5, 1), (0.75, 0)])
def test_the_user_leaves_when_no_patience_is_left(craft, patience, leaves):
    crafted = craft(patience_ignored=0.5)
    crafted.users["patience"], crafted.users["step"] = patience, 12
    crafted.tire()
    assert crafted.responses["terminated"] == leaves and crafted.responses["truncated"] == 0


def test_relative_weights_are_one_for_the_strongest_and_zero_for_dormant(craft):
    crafted, out = craft(), np.empty(SLOTS, np.float32)
    crafted.users["weight"] = [1, 0, -1, 0.5, 3, 3, 3, 3]
    relative_weights(compiled_view(crafted.users, USER)[0], out)
    np.testing.assert_allclose(
        out, [1, np.exp(-1), np.exp(-2), np.exp(-0.5), 0, 0, 0, 0], rtol=1e-6
    )
