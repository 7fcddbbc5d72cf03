"""Items that age: when they are published, whom that concerns, and that all sides agree on it."""

from __future__ import annotations

import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env

from agents.dataset import logged_choices
from agents.features import FeatureExtractor
from agents.rankers.bandits import LinUcb
from agents.rankers.baselines import Content, DriftAware
from agents.rankers.oracles import Lookahead, worth
from experiments.studies.ablation import variants_of
from llmrec_env.config import ConfigError, EnvConfig
from llmrec_env.interface.candidates import candidate_freshness
from llmrec_env.simulation.freshness import ALWAYS, publication_steps
from llmrec_env.simulation.records import compiled_view
from llmrec_env.simulation.user_record import USER
from llmrec_env.world import load_world

NEWS = {"new_items": 0.4, "freshness_half_life": 4.0}


@pytest.fixture(scope="module")
def news(tiny):
    return load_world(EnvConfig(**tiny, **NEWS))


def odds_of(simulator, i):
    """Odds of choosing each candidate of session i at rank 1."""
    world, c = simulator.world, simulator.buffers.ids.shape[1]
    odds, satisfaction, value = np.empty((3, c))
    worth(
        compiled_view(simulator.users, USER)[i],
        world.params[0],
        world.interests.vectors,
        world.items.vectors,
        world.traits,
        Lookahead(),
        np.empty(8, np.float32),
        simulator.buffers.ids,
        i,
        odds,
        satisfaction,
        value,
    )
    return odds


# --- publication


def test_items_are_published_at_a_steady_rate(tiny):
    config = EnvConfig(**tiny, new_items=0.5)
    steps = publication_steps(config, 600)
    counts = [np.sum(steps == step) for step in range(-20, 30)]
    assert set(counts) == {6}  # half of 600 in 50 steps
    assert steps.max() == 29 and (steps < -20).sum() == 300
    earlier = np.bincount(-20 - 1 - steps[steps < -20])
    assert set(earlier) == {6}  # and before at the same rate
    other = publication_steps(EnvConfig(**tiny, new_items=0.5, world_seed=1), 600)
    assert (other != steps).any() and sorted(other) == sorted(steps)


@pytest.mark.parametrize("changes", [{}, {"new_items": 0.5, "off": ["freshness"]}])
def test_by_default_and_switched_off_no_item_ages(tiny, new_vec, changes):
    config = EnvConfig(**tiny, **changes)
    assert not config.ages() and set(publication_steps(config, 600)) == {ALWAYS}
    env, plain = new_vec(3, observation="dict", **changes), new_vec(3, observation="dict")
    assert "candidate_freshness" not in env.observation_space.spaces
    seen, expected = env.reset(seed=1)[0], plain.reset(seed=1)[0]
    for _ in range(10):
        for name, block in expected.items():
            np.testing.assert_array_equal(seen[name], block)
        actions = np.tile(np.arange(5), (3, 1))
        seen, expected = env.step(actions)[0], plain.step(actions)[0]


def test_what_is_not_published_is_neither_logged_nor_offered(news, new_simulator, draw_actions):
    published = news.items.published
    steps = np.arange(-20, 0)[None, :, None]
    assert (published[news.logs.slates] <= steps).all()
    assert (published[news.logs.slates] > -20).any()
    np.testing.assert_array_equal(published, news.traits["published"])
    for mode in ({}, {"recall": "two-stage"}, {"candidates": 0}):
        simulator = new_simulator(8, observation="dict", **NEWS, **mode)
        for step in range(12):
            ids = simulator.buffers.ids
            assert (published[ids[ids >= 0]] <= step).all()
            simulator.step(draw_actions(simulator, np.random.default_rng(step)))
            assert (published[simulator.responses["slate"]] <= step).all()


def test_candidates_are_offered_from_the_step_on_in_which_they_are_published(new_simulator):
    simulator = new_simulator(200, observation="dict", off=["churn"], **NEWS)
    published, newest = simulator.world.items.published, set()
    for step in range(8):
        ages = step - published[simulator.buffers.ids]
        newest |= set(ages.ravel().tolist()) & {0}
        simulator.step(np.tile(np.arange(5), (200, 1)))
    assert newest == {0}


# --- the user


def test_fresh_items_are_chosen_more_as_the_formula_says(new_simulator):
    flat = {"choice_relevance": 0.0, "choice_quality": 0.0, "lure": 0.0, "satiation_choice": 0.0}
    flat |= {"choice_null": 2.0, "position_bias": 0.0, "off": ["churn"]}
    simulator = new_simulator(3_000, **NEWS, **flat, freshness_choice=2.0)
    items, expected, chosen = simulator.world.items, [], []
    for step in range(10):
        simulator.step(np.tile(np.arange(5), (3_000, 1)))
        response = simulator.responses
        age = step - items.published[response["slate"]]
        odds = np.exp(2.0 * 0.5 ** (age / 4.0) - 2.0)
        expected.append(odds / (1.0 + odds.sum(axis=1, keepdims=True)))
        chosen.append(response["slate"] == response["item"][:, None])
    expected, chosen = np.concatenate(expected).ravel(), np.concatenate(chosen).ravel()
    high = expected > np.quantile(expected, 0.9)
    assert expected[high].mean() > 1.5 * expected[~high].mean()
    for some in (high, ~high):
        deviation = np.sqrt(expected[some].mean() / some.sum())
        assert chosen[some].mean() == pytest.approx(expected[some].mean(), abs=4 * deviation)


@pytest.mark.parametrize("response", ["logit", "cascade"])
def test_freshness_alone_changes_nothing_but_the_choice(new_simulator, response):
    """What is consumed by both users satisfies both or neither, and interests them alike."""
    still = {"response": response, "off": ["drift", "satiation", "goodwill", "churn"]}
    one = new_simulator(400, **NEWS, **still, freshness_choice=0.0)
    other = new_simulator(400, **NEWS, **still, freshness_choice=3.0)
    same_logs = (one.world.logs.slates == other.world.logs.slates).mean()
    assert same_logs == 1.0  # the logging policy shows both the same
    np.testing.assert_array_equal(one.world.items.published, other.world.items.published)
    for simulator in (one, other):
        simulator.step(np.tile(np.arange(5), (400, 1)))
    both = (one.responses["feedback"] >= 0) & (other.responses["feedback"] >= 0)
    both &= one.responses["slate"] == other.responses["slate"]
    assert both.sum() > 20
    np.testing.assert_array_equal(
        one.responses["feedback"][both], other.responses["feedback"][both]
    )
    assert (other.responses["item"] >= 0).mean() > (one.responses["item"] >= 0).mean()
    np.testing.assert_array_equal(one.interests(), other.interests())


def test_the_value_of_items_to_oracles_is_that_of_the_user(new_simulator):
    """Odds of `worth` are those by which users choose, whatever the step."""
    simulator = new_simulator(4, observation="dict", **NEWS, freshness_choice=2.0)
    plain = new_simulator(4, observation="dict", **NEWS, freshness_choice=0.0)
    plain.users[:], plain.buffers.ids[:] = simulator.users, simulator.buffers.ids
    published = simulator.world.items.published[simulator.buffers.ids]
    for i in range(4):
        fresh, stale = odds_of(simulator, i), odds_of(plain, i)
        expected = np.exp(2.0 * 0.5 ** (-published[i] / 4.0))
        np.testing.assert_allclose(fresh / stale, expected, rtol=1e-5)


# --- what is public


@pytest.mark.parametrize("observing", ["vector", "dict"])
@pytest.mark.parametrize("candidates", [0, 20])
def test_gymnasium_checks_pass(new_env, observing, candidates):
    env = new_env(observation=observing, candidates=candidates, **NEWS)
    check_env(env.unwrapped, skip_render_check=True)


def test_observations_say_how_fresh_candidates_are(new_vec):
    env, flat = new_vec(4, observation="dict", **NEWS), new_vec(4, **NEWS)
    published = env.public_data().items.published
    seen, numbers = env.reset(seed=3)[0], flat.reset(seed=3)[0]
    for step in range(8):
        age = step - published[seen["candidates"]]
        assert (age >= 0).all()
        np.testing.assert_allclose(seen["candidate_freshness"], 0.5 ** (age / 4), atol=1e-6)
        np.testing.assert_array_equal(numbers[:, -20:], seen["candidate_freshness"])
        actions = np.tile(np.arange(5), (4, 1))
        seen, numbers = env.step(actions)[0], flat.step(actions)[0]
    assert flat.single_observation_space.contains(numbers[0])


def test_batches_threads_and_single_sessions_agree(new_vec, new_env, assert_same):
    settings = {"observation": "dict", **NEWS}
    one, three = new_vec(5, **settings), new_vec(5, threads=3, **settings)
    alone = new_env(**settings).unwrapped
    seen, again, single = one.reset(seed=0)[0], three.reset(seed=0)[0], alone.reset(seed=2)[0]
    for _ in range(12):
        assert_same(seen, again)
        np.testing.assert_array_equal(seen["candidate_freshness"][2], single["candidate_freshness"])
        np.testing.assert_array_equal(seen["candidates"][2], single["candidates"])
        actions = np.tile(np.arange(5), (5, 1))
        seen, again = one.step(actions)[0], three.step(actions)[0]
        single = alone.step(actions[0])[0]


def test_a_candidate_that_is_not_there_is_not_fresh(news):
    ids, steps = np.array([[3, -1, 7]], np.int32), np.array([-20])
    fresh = candidate_freshness(news.items, ids, steps, 4.0)
    assert fresh[0, 1] == 0.0 and 0.0 < fresh[0, 0] <= 1.0


# --- agents


@pytest.mark.parametrize("kind", [Content, DriftAware])
def test_rankers_of_texts_may_weigh_freshness(new_vec, kind):
    env = new_vec(6, observation="dict", **NEWS)
    observation = env.reset(seed=0)[0]
    plain, fresh = kind(freshness=0.0), kind(freshness=0.3)
    for agent in (plain, fresh):
        agent.fit(env, 0)
    added = fresh.scores(observation) - plain.scores(observation)
    np.testing.assert_allclose(added, 0.3 * observation["candidate_freshness"], atol=1e-6)
    del observation["candidate_freshness"]
    np.testing.assert_array_equal(fresh.scores(observation), plain.scores(observation))


def test_features_and_bandits_have_a_column_of_it(new_vec):
    env = new_vec(6, observation="dict", **NEWS)
    extractor = FeatureExtractor()
    extractor.fit(env.public_data(), env.config)
    observation = env.reset(seed=0)[0]
    table = extractor.encode(observation)[:, extractor.slices["candidates"]]
    table = table.reshape(6, 20, extractor.num_features)
    column = extractor.columns.index("freshness")
    np.testing.assert_array_equal(table[:, :, column], observation["candidate_freshness"])
    bandit = LinUcb()
    bandit.fit(env, 60)
    assert bandit.learnt.precision.shape == (1, 10, 10) and bandit.learnt.precision[0, 9, 9] > 10.0


def test_logged_steps_are_observed_with_the_freshness_of_their_time(tiny, news):
    config = EnvConfig(**tiny, **NEWS)

    def encode(observation):
        return observation["candidate_freshness"]

    rng = np.random.default_rng(0)
    features, _ = logged_choices(news.public(), config, encode, rng, every=True)
    assert features.shape[1] == 20 and 0.9 < features.max() <= 1.0


# --- experiments, and what is refused


def test_the_ablation_switches_it_off_where_the_task_has_it():
    parts = {"mechanisms": ("queries", "freshness")}
    labels = [x.label for x in variants_of("llmrec/Drift-v1", (), {"new_items": 0.5}, parts)]
    assert labels == ["whole", "queries off", "freshness off"]
    labels = [x.label for x in variants_of("llmrec/Drift-v1", (), {}, parts)]
    assert labels == ["whole", "queries off"]


@pytest.mark.parametrize(
    "changes", [{"num_items": 250}, {"num_items": 30, "slate_size": 20, "dim": 16}]
)
def test_too_few_items_to_begin_with_are_refused(tiny, changes):
    with pytest.raises(ConfigError, match=r"new_items=0\.9 leaves"):
        load_world(EnvConfig(**(tiny | {"new_items": 0.9} | changes)))


def test_a_share_out_of_range_is_refused(tiny):
    with pytest.raises(
        ConfigError, match=r"new_items=0\.95 is out of range; allowed: 0\.0 to 0\.9"
    ):
        EnvConfig(**tiny, new_items=0.95)
