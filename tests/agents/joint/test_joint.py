"""The joint recommender: its halves and their losses, its beliefs, what it shows, its refusals."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch

from agents.added_blocks import AddedBlocks
from agents.joint.calibration import calibrated
from agents.joint.factors import Clicks, FactorModel, Prior, text_basis
from agents.joint.past import Past, Place, columns_of
from agents.joint.recommender import Joint
from agents.joint.response import PARAMETERS, Response
from agents.rollout import rollout
from llmrec_env.config import EnvConfig


@pytest.fixture(scope="module")
def fitted(new_vec):
    agent = Joint(0)
    agent.fit(new_vec(4, autoreset_mode="same_step", observation="dict"), 0)
    return agent


@pytest.fixture(scope="module")
def steps(fitted):
    past = Past.of(fitted.data, fitted.texts)
    scores = np.random.default_rng(0).normal(size=past.slates.shape)
    return past.take(np.arange(0, len(past.users), 7)).steps(fitted.learnt.taste, 0.1 * scores[::7])


def refitted(agent, **settings):
    other = Joint(0, **settings)
    other.learn(agent.data, EnvConfig(slate_size=agent.slate_size))
    return other


def test_gradients_are_those_of_the_loss(steps):
    """Both losses against central differences."""
    response = Response(0.7, 1.3)
    response.loss(steps).backward()
    for name, parameter in response.named_parameters():
        assert parameter.grad is not None
        flat, gradient = parameter.data.view(-1), parameter.grad.flatten()
        for index in range(len(flat)):
            ends = []
            for change in (1e-5, -2e-5):
                flat[index] += change
                ends.append(float(response.loss(steps).detach()))
            flat[index] += 1e-5
            assert float(gradient[index]) == pytest.approx(
                (ends[0] - ends[1]) / 2e-5, rel=1e-4, abs=1e-8
            ), name


def test_the_loss_is_the_weighted_sum(steps):
    with torch.no_grad():
        response = Response(0.3, 2.0)
        parts = 0.3 * response.choice_loss(steps) + 2.0 * response.text_loss(steps)
        assert float(response.loss(steps)) == pytest.approx(float(parts))
        assert float(Response(0.3, 0.0).loss(steps)) == pytest.approx(
            0.3 * float(Response(1.0, 0.0).choice_loss(steps))
        )


def test_without_the_loss_of_choices_the_collaborative_half_is_gone(fitted):
    agent = refitted(fitted, click=0.0)
    taste = agent.learnt.taste
    assert taste.factors.shape == (600, 0) and not taste.click_bias.any()
    assert taste.text_bias.any() and agent.parameters["weights"].any()
    for name in ("relevance_choice", "bias_choice", "lure", "popular_choice", "position"):
        assert agent.parameters[name] == 0.0, name


def test_without_the_text_loss_no_text_is_read(fitted, new_vec):
    agent = refitted(fitted, text=0.0)
    assert not agent.parameters["weights"].any() and not agent.learnt.taste.text_bias.any()
    assert agent.learnt.taste.click_bias.any() and agent.learnt.taste.factors.any()
    shuffled = dataclasses.replace(
        fitted.data,
        items=fitted.data.items._replace(vectors=fitted.data.items.vectors[::-1].copy()),
    )
    other = Joint(0, text=0.0)
    other.learn(shuffled, EnvConfig(slate_size=5))
    np.testing.assert_array_equal(agent.learnt.taste.factors, other.learnt.taste.factors)
    observation, _ = new_vec(4, observation="dict").reset(seed=0)
    np.testing.assert_allclose(agent.probability(observation), 1.0)


def test_what_is_compiled_is_what_learns(fitted, steps):
    """The text's scores by features are those of the memory, and both responses agree."""
    past = Past.of(fitted.data, fitted.texts)
    blank = refitted(fitted, rank=0)
    expected = np.zeros(fitted.data.logs.items.shape)
    blank.after(columns_of(fitted.data), expected)
    rows = np.flatnonzero(past.choice < 5)
    some = past.take(rows)
    popularity = torch.tensor(fitted.texts.popularity[some.slates], dtype=torch.float64)
    with torch.no_grad():
        known = some.steps(blank.learnt.taste)
        known = known._replace(alike=torch.zeros_like(known.alike), popularity=popularity)
        odds = blank.response.log_odds(blank.response.relevance(known), known)
    chosen = odds.numpy()[np.arange(len(rows)), some.choice]
    np.testing.assert_allclose(expected[some.users, some.times], chosen, rtol=1e-4, atol=1e-5)


def test_a_step_is_not_foretold_by_its_own_click(fitted):
    """Popularity counts what satisfied others; the step itself is left out."""
    past, logs = Past.of(fitted.data, fitted.texts), fitted.data.logs
    counts = np.bincount(logs.slates[logs.feedback == 1], minlength=600)
    own = (np.arange(5) == past.choice[:, None]) & past.satisfied[:, None]
    left = np.log1p(counts[past.slates] - own) / np.log1p(counts.max())
    np.testing.assert_allclose(past.popularity, left, atol=1e-6)


def test_what_is_alike_on_a_slate_is_told_from_the_rest(fitted):
    past, vectors = Past.of(fitted.data, fitted.texts), fitted.texts.rows
    nearest = [
        max(vectors[slate[k]] @ vectors[slate[j]] for j in range(5) if j != k)
        for slate in past.slates[:20]
        for k in range(5)
    ]
    alike = past.alike[:20].ravel()
    np.testing.assert_allclose(alike - alike[0], np.array(nearest) - nearest[0], atol=1e-5)
    assert abs(np.median(past.alike)) < 1e-6
    assert fitted.response.raw["alike"].item() > 0.05  # logs show what users look for


def test_a_slate_is_worth_what_its_items_are_chosen_for(fitted, new_vec):
    env = new_vec(30, observation="dict")
    observation, _ = env.reset(seed=0)
    odds, value, *_ = fitted._appraised(observation)
    examined = np.arange(1, 6) ** -fitted.parameters[0]["position"]

    def worth(slates):
        share = np.take_along_axis(odds, slates, 1) * examined
        worths = share * np.take_along_axis(value, slates, 1)
        return worths.sum(1) / (1.0 + share.sum(1))

    best = worth(fitted.act(observation, np.ones(30, bool)))
    rng = np.random.default_rng(1)
    for _ in range(20):
        other = rng.permuted(np.tile(np.arange(20), (30, 1)), axis=1)[:, :5]
        assert (best >= worth(other) - 1e-12).all()


def test_it_learns_and_beats_what_knows_less(fitted, new_vec):
    from agents import make_agent

    env = new_vec(60, observation="dict", split="all")
    users, returns = np.arange(60), {}
    for name in ("random", "popular"):
        agent = make_agent(name, env.config)
        agent.fit(new_vec(4, observation="dict"), 0)
        returns[name] = rollout(agent, env, users, 3).reward.sum(1).mean()
    returns["joint"] = rollout(fitted, env, users, 3).reward.sum(1).mean()
    assert returns["joint"] > 1.1 * returns["popular"] > 1.1 * returns["random"]


def test_what_happens_in_a_session_changes_the_belief_at_once(fitted, new_vec):
    env = new_vec(4, observation="dict")
    before, _ = env.reset(seed=0)
    one, starts = fitted.belief(before), np.ones(4, bool)
    uncertain = np.trace(fitted.follow(before).posterior.precision, axis1=1, axis2=2)
    after = before
    for _ in range(6):
        after, *_ = env.step(fitted.act(after, starts))
    two = fitted.belief(after)
    assert one.shape == (4, 32) and (np.abs(one - two).max(axis=1) > 1e-3).all()
    certain = np.trace(fitted.follow(after).posterior.precision, axis1=1, axis2=2)
    assert (certain > uncertain).all()


def test_what_is_believed_follows_from_observations_however_often_they_are_shown(fitted, new_vec):
    env, twin = new_vec(4, observation="dict"), refitted(fitted)
    observation, _ = env.reset(seed=5)
    for _ in range(5):
        once = fitted.scores(observation)
        for _ in range(2):
            np.testing.assert_array_equal(fitted.scores(observation), once)
        np.testing.assert_array_equal(twin.scores(observation), once)
        one = {name: column[1:2] for name, column in observation.items()}
        del one["user_id"]
        observation, *_ = env.step(fitted.act(observation, np.ones(4, bool)))
    whole = fitted.follow(observation).posterior.mean.copy()
    fitted._followed = None  # as if it met these sessions now: their last 32 steps tell it all
    np.testing.assert_allclose(fitted.follow(observation).posterior.mean, whole, atol=1e-9)


def test_a_place_tells_one_step_from_many_and_from_another_session(new_vec):
    env = new_vec(3, observation="dict")
    places, observation = [], env.reset(seed=1)[0]
    for step in range(4):
        places.append(Place.of(observation))
        observation, *_ = env.step(np.tile(np.arange(5) + step, (3, 1)))
    assert places[1].steps_since(places[1], 32).tolist() == [0, 0, 0]
    assert places[2].steps_since(places[1], 32).tolist() == [1, 1, 1]
    assert places[3].steps_since(places[1], 32).tolist() == [32, 32, 32]
    assert places[1].steps_since(places[2], 32).tolist() == [32, 32, 32]
    other = Place(places[2].user + [0, 1, 0], *places[2][1:])
    assert other.steps_since(places[1], 32).tolist() == [1, 32, 1]


def test_factors_tell_who_likes_what_texts_do_not(world):
    """Two kinds of users and of items, all texts alike: choices alone tell them apart."""
    rng = np.random.default_rng(0)
    users, items = np.repeat(np.arange(80), 30), rng.integers(40, size=(2400, 3))
    liked = (items + users[:, None]) % 2 == 0
    choice = np.where(liked.any(axis=1), liked.argmax(axis=1), 3)
    flat = np.zeros((2400, 3))
    clicks = Clicks(users, items, choice, np.ones(2400, bool), flat, flat - 2.0, flat)
    q = np.zeros(1, PARAMETERS)
    q["click"], q["relevance_choice"] = 1.0, 5.0
    model = FactorModel(clicks, q[0], np.zeros((40, 1)), 2, Prior(0.01, 0.0))
    factors = model.learn(6).taste.factors
    likeness = model.users @ factors.T
    own = (np.arange(80)[:, None] + np.arange(40)) % 2 == 0
    assert likeness[own].mean() > likeness[~own].mean() + 0.2
    spread = np.trace(model.item_spread, axis1=1, axis2=2)
    assert (spread < 2 * 0.01).all()  # what was seen is known better than before


@pytest.mark.parametrize("differ", [False, True])
def test_biases_vary_as_much_as_items_do(differ):
    rng = np.random.default_rng(0)
    users, items = np.arange(4000) % 100, rng.integers(40, size=(4000, 2))
    appeal = 1.5 * rng.normal(size=40) if differ else np.zeros(40)
    utility = np.c_[appeal[items] - 1.0, np.zeros(4000)]
    choice = (utility + rng.gumbel(size=(4000, 3))).argmax(axis=1)
    flat = np.zeros((4000, 2))
    clicks = Clicks(users, items, choice, np.ones(4000, bool), flat, flat - 1.0, flat)
    q = np.zeros(1, PARAMETERS)
    q["click"], q["relevance_choice"] = 1.0, 5.0
    model = FactorModel(clicks, q[0], np.zeros((40, 1)), 0, Prior(0.01, 0.0))
    model.learn(12)
    assert model.bias_variances[0] > 0.5 if differ else model.bias_variances[0] < 0.02


def test_larger_catalogues_have_more_landmarks():
    rng = np.random.default_rng(0)
    for items, landmarks in ((8, 2), (400, 100), (2000, 256), (8000, 500)):
        vectors = rng.normal(size=(items, 8)).astype(np.float32)
        vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
        assert text_basis(vectors, 0).shape == (items, landmarks)


def test_items_that_nobody_met_inherit_from_their_kin(fitted):
    data, cold = fitted.data, np.arange(600) % 6 == 0
    logs = data.logs
    met = cold[logs.slates].any(axis=2)
    slates = np.where(met[..., None], -1, logs.slates)
    feedback = np.where(met[..., None], np.int8(-1), logs.feedback)
    apart = dataclasses.replace(data, logs=logs._replace(slates=slates, feedback=feedback))
    for text_map in (0.01, 0.0):
        agent = Joint(0, text_map=text_map)
        agent.learn(apart, EnvConfig(slate_size=5))
        assert agent.learnt.taste.factors[cold].any() == (text_map > 0)
        assert not agent.learnt.taste.click_bias[cold].any()
        spread = np.trace(agent.learnt.taste.spread, axis1=1, axis2=2)
        assert spread[cold].mean() > spread[~cold].mean()


def test_probabilities_are_calibrated(fitted, new_vec):
    observation, _ = new_vec(4, observation="dict").reset(seed=0)
    chance = fitted.probability(observation)
    assert chance.shape == (4, 20) and ((chance > 0) & (chance < 1)).all()
    generator = np.random.default_rng(0)
    odds = generator.normal(size=20_000)
    happened = generator.random(20_000) < 1 / (1 + np.exp(-(0.5 * odds - 1.0)))
    assert calibrated(odds, happened.astype(float)) == pytest.approx([0.5, -1.0], abs=0.06)


def test_calibration_is_fitted_to_held_out_users(fitted):
    expected = np.zeros(fitted.data.logs.items.shape)
    fitted.after(columns_of(fitted.data), expected)
    clicked, satisfied = fitted.data.logs.items >= 0, fitted.data.logs.satisfied == 1
    held_out = np.arange(len(expected)) % 10 == 0
    own, others = (
        calibrated(expected[who][clicked[who]], satisfied[who][clicked[who]].astype(float))
        for who in (held_out, ~held_out)
    )
    np.testing.assert_allclose(fitted.calibration, own)
    assert np.abs(fitted.calibration - others).max() > 0.01


def test_bad_settings_and_logs_are_refused(world, tiny):
    with pytest.raises(ValueError, match=r"slates 'exakt'. Did you mean 'exact'"):
        Joint(0, slates="exakt")
    with pytest.raises(ValueError, match=r"click=0.0, text=0.0: weights of losses"):
        Joint(0, click=0.0, text=0.0)
    with pytest.raises(ValueError, match=r"text=-1.0"):
        Joint(0, text=-1.0)
    with pytest.raises(ValueError, match=r"deviation=0.0.*deviation is above 0"):
        Joint(0, deviation=0.0)
    data = world.public()
    for value, said in ((1, "satisfied; a model"), (0, "did not satisfy; a model")):
        alike = np.where(data.logs.feedback >= 0, np.int8(value), np.int8(-1))
        one = dataclasses.replace(data, logs=data.logs._replace(feedback=alike))
        with pytest.raises(ValueError, match=rf"all \d+ clicks of the logs {said}"):
            Joint(0).learn(one, EnvConfig(**tiny))
    nothing = data.logs._replace(feedback=np.full_like(data.logs.feedback, -1))
    with pytest.raises(ValueError, match="no click"):
        Joint(0).learn(dataclasses.replace(data, logs=nothing), EnvConfig(**tiny))


def test_where_items_age_it_learns_that_fresh_ones_are_chosen_more(new_vec):
    env = new_vec(8, observation="dict", new_items=0.4, num_users=400, freshness_choice=3.0)
    agent = Joint(0)
    agent.fit(env, 0)
    learnt = agent.parameters[0]["fresh_choice"]
    assert 1.0 < learnt < 5.0
    observation = env.reset(seed=0)[0]
    aware = agent._appraised(observation)
    agent.parameters["fresh_choice"] = 0.0
    blind = agent._appraised(observation)
    ratio = np.exp(learnt * observation["candidate_freshness"].astype(np.float64))
    np.testing.assert_allclose(aware[0], blind[0] * ratio)
    np.testing.assert_array_equal(aware[1], blind[1])


def test_what_was_chosen_because_it_was_fresh_says_less_of_taste(new_vec):
    """Both saw the same steps; to one of them the items were old when they were shown."""
    env = new_vec(30, observation="dict", new_items=0.6, num_users=400, freshness_choice=4.0)
    agent = Joint(0)
    agent.fit(env, 0)
    observation = env.reset(seed=0)[0]
    for _ in range(6):
        observation = env.step(agent.act(observation, np.zeros(30, np.bool_)))[0]
    agent.forget()
    mean = agent.follow(observation).posterior.mean.copy()
    published = agent.data.items.published
    times = 6 - 1 - np.arange(32)
    age = times[:, None] - published[observation["recent_slates"]]
    fresh = 0.5 ** (age / env.config.freshness_half_life)
    expected = agent.parameters[0]["fresh_choice"] * fresh * (observation["recent_slates"] >= 0)
    added = agent._added(AddedBlocks(env.config, agent.data).of_recent(observation, 32))
    np.testing.assert_allclose(added[..., 0], expected, rtol=1e-5)
    assert (added[..., 1] == 0.0).all()
    agent.parameters["fresh_choice"] = 0.0
    agent.forget()
    other = agent.follow(observation).posterior.mean
    assert np.abs(mean - other).max() > 0.01


def test_where_items_do_not_age_there_is_no_such_parameter(fitted):
    assert "fresh_choice" not in fitted.response.raw
    assert fitted.parameters[0]["fresh_choice"] == 0.0


def test_logs_teach_that_only_answers_to_open_questions_satisfy(new_vec):
    env = new_vec(4, observation="dict", num_users=400, resolution=0.3, query_rate=0.9)
    agent = Joint(0, sweeps=1)
    agent.fit(env, 0)
    assert agent.parameters["question_satisfaction"][0] > 0.3
    observation = env.reset(seed=0)[0]
    block = AddedBlocks(env.config, agent.data).of_candidates(observation)[..., 0]
    told = agent.appraise_offered(observation).log_odds
    agent.forget()
    agent.parameters["question_satisfaction"] = 0.0
    without = agent.appraise_offered(observation).log_odds
    assert np.corrcoef((told - without).ravel(), block.ravel())[0, 1] > 0.9
