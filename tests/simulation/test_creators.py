"""Creators: whose items they are, how attachments move, whom they concern, and who reads them."""

from __future__ import annotations

import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env

from agents.dataset import logged_choices
from agents.features import FeatureExtractor
from agents.joint.past import added_blocks
from agents.joint.recommender import Joint
from agents.rankers.bandits import LinUcb
from agents.rankers.baselines import Content, DriftAware
from agents.rankers.belief_oracle.agent import BeliefOracle
from agents.rankers.ease_text import EaseText
from experiments.studies.ablation import variants_of
from llmrec_env.config import ConfigError, EnvConfig
from llmrec_env.content.catalog import Catalog
from llmrec_env.interface.familiarity import candidate_familiarity
from llmrec_env.simulation.compilation import kernel
from llmrec_env.simulation.creators import NOBODY, creators_of
from llmrec_env.simulation.user_record import attachment_vector
from llmrec_env.world import load_world

FANS = {"creator_growth": 0.4, "creator_half_life": 10.0}
FIRST = np.arange(5)


@pytest.fixture(scope="module")
def fans(tiny):
    return load_world(EnvConfig(**tiny, **FANS))


# --- who made what


def test_posts_are_those_of_the_creator_whom_their_titles_name():
    posts = Catalog.load("social", 800)
    named = [title.split(":")[0].split(" ")[0] for title in posts.titles]
    assert posts.creators is not None and len(set(posts.creators.tolist())) == 100
    for creator in range(100):
        assert len({named[i] for i in np.flatnonzero(posts.creators == creator)}) == 1
    np.testing.assert_array_equal(creators_of(EnvConfig(**FANS), posts), posts.creators)


def test_elsewhere_the_items_of_a_topic_are_dealt_to_four_creators(fans, tiny):
    creator, topics = fans.items.creator, fans.catalog.topics
    for topic in np.unique(topics):
        assert len(np.unique(creator[topics == topic])) <= 4
    np.testing.assert_array_equal(creator // 4, topics)
    other = load_world(EnvConfig(**tiny, **FANS, world_seed=1))
    assert (other.items.creator != creator).any()


@pytest.mark.parametrize("changes", [{}, FANS | {"off": ["creators"]}])
def test_by_default_and_switched_off_nobody_minds(tiny, new_vec, changes):
    config = EnvConfig(**tiny, **changes)
    assert not config.attaches() and (load_world(config).items.creator == NOBODY).all()
    env, plain = new_vec(3, observation="dict", **changes), new_vec(3, observation="dict")
    assert "candidate_familiarity" not in env.observation_space.spaces
    assert "attachment" not in (env.simulator.users.dtype.names or ())
    seen, expected = env.reset(seed=1)[0], plain.reset(seed=1)[0]
    for _ in range(10):
        for name, block in expected.items():
            np.testing.assert_array_equal(seen[name], block)
        seen = env.step(np.tile(FIRST, (3, 1)))[0]
        expected = plain.step(np.tile(FIRST, (3, 1)))[0]


# --- the user


def test_attachments_fade_and_grow_to_the_creators_of_what_satisfied_alone(new_simulator):
    simulator = new_simulator(400, **FANS)
    creator, kept = simulator.world.items.creator, 0.5**0.1
    for _ in range(5):
        expected = kept * simulator.users["attachment"]
        simulator.step(np.tile(FIRST, (400, 1)))
        liked = np.flatnonzero(simulator.responses["satisfied"] == 1)
        whose = creator[simulator.responses["item"][liked]]
        expected[liked, whose] += 0.4 * (1.0 - expected[liked, whose])
        np.testing.assert_allclose(simulator.users["attachment"], expected, atol=1e-6)
        assert len(liked) > 10
    assert 0.0 <= simulator.users["attachment"].min()
    assert simulator.users["attachment"].max() <= 1.0


@pytest.mark.parametrize("response", ["logit", "cascade"])
def test_attachment_raises_choice_and_satisfaction_of_that_creator_alone(new_simulator, response):
    shares = []
    for attached in (0.0, 1.0):
        settings = FANS | {"response": response, "off": ["churn", "goodwill"]}
        simulator = new_simulator(3_000, **settings, position_bias=0.0)
        creator = simulator.world.items.creator
        whose = creator[simulator.buffers.ids[:, 0]]
        simulator.users["attachment"] = 0.0
        simulator.users["attachment"][np.arange(3_000), whose] = attached
        simulator.step(np.tile(FIRST, (3_000, 1)))
        feedback, slate = simulator.responses["feedback"], simulator.responses["slate"]
        own = creator[slate] == whose[:, None]
        consumed = feedback >= 0
        shares.append(
            [
                consumed[own].mean(),
                (feedback[own & consumed] == 1).mean(),
                (feedback[~own & consumed] == 1).mean(),
            ]
        )
    (before, satisfied, others), (after, delighted, same) = shares
    assert after > 1.5 * before and delighted > satisfied + 0.1
    assert same == pytest.approx(others, abs=0.05)


def test_logits_are_those_of_the_formula(new_simulator):
    flat = {"choice_relevance": 0.0, "choice_quality": 0.0, "lure": 0.0, "satiation_choice": 0.0}
    flat |= {"choice_null": 2.0, "position_bias": 0.0, "off": ["churn"]}
    simulator = new_simulator(3_000, **FANS, **flat, creator_choice=3.0)
    creator, expected, chosen = simulator.world.items.creator, [], []
    rows = np.arange(3_000)[:, None]
    for _ in range(6):
        attachments = simulator.users["attachment"].copy()
        simulator.step(np.tile(FIRST, (3_000, 1)))
        slate = simulator.responses["slate"]
        odds = np.exp(3.0 * attachments[rows, creator[slate]] - 2.0)
        expected.append(odds / (1.0 + odds.sum(axis=1, keepdims=True)))
        chosen.append(slate == simulator.responses["item"][:, None])
    expected, chosen = np.concatenate(expected).ravel(), np.concatenate(chosen).ravel()
    high = expected > np.quantile(expected, 0.98)
    assert expected[high].mean() > 1.5 * expected[~high].mean()
    for some in (high, ~high):
        deviation = np.sqrt(expected[some].mean() / some.sum())
        assert chosen[some].mean() == pytest.approx(expected[some].mean(), abs=4 * deviation)


# --- what is public


@pytest.mark.parametrize("observing", ["vector", "dict"])
@pytest.mark.parametrize("candidates", [0, 20])
def test_gymnasium_checks_pass(new_env, observing, candidates):
    env = new_env(observation=observing, candidates=candidates, new_items=0.3, **FANS)
    check_env(env.unwrapped, skip_render_check=True)


def test_familiarity_is_what_the_history_says_of_the_candidates_creators(new_vec):
    env, flat = new_vec(4, observation="dict", **FANS), new_vec(4, **FANS)
    creator = env.public_data().items.creator
    seen, numbers = env.reset(seed=3)[0], flat.reset(seed=3)[0]
    for _ in range(12):
        for i in range(4):
            total, weight = np.zeros(creator.max() + 1), 1.0
            kinds = seen["history_feedback"][i]
            for item, kind in zip(seen["history"][i], kinds, strict=True):
                total[creator[item]] += weight * (kind == 1)
                weight *= 0.97 if kind in (0, 1) else 1.0
            expected = 1.0 - np.exp(-total[creator[seen["candidates"][i]]])
            np.testing.assert_allclose(seen["candidate_familiarity"][i], expected, atol=1e-5)
        np.testing.assert_array_equal(numbers[:, -20:], seen["candidate_familiarity"])
        actions = np.tile(FIRST, (4, 1))
        seen, numbers = env.step(actions)[0], flat.step(actions)[0]
    assert seen["candidate_familiarity"].max() > 0.0
    assert flat.single_observation_space.contains(numbers[0])


def test_batches_and_single_sessions_agree(new_vec, new_env):
    settings = {"observation": "dict", **FANS}
    one, alone = new_vec(5, **settings), new_env(**settings).unwrapped
    seen, single = one.reset(seed=0)[0], alone.reset(seed=2)[0]
    for _ in range(12):
        for name in ("candidates", "candidate_familiarity"):
            np.testing.assert_array_equal(seen[name][2], single[name])
        seen, single = one.step(np.tile(FIRST, (5, 1)))[0], alone.step(FIRST)[0]


def test_logs_tell_the_familiarity_that_histories_do(fans, tiny):
    config, data = EnvConfig(**tiny, **FANS), fans.public()
    _, logged, _ = added_blocks(data, config)
    assert (logged[:, 0] == 0.0).all() and 0.3 < logged.max() < 1.0
    ids = np.tile(np.arange(20, dtype=np.int32), (len(data.users), 1))
    after = candidate_familiarity(fans.histories[data.users], data.items.creator, ids)
    extended = data.logs._replace(
        **{
            name: np.concatenate([column, column[:, -1:]], axis=1)
            for name, column in data.logs._asdict().items()
        }
    )
    extended.slates[:, -1] = ids[:, :5]
    _, again, _ = added_blocks(type("Data", (), {"logs": extended, "items": data.items}), config)
    np.testing.assert_allclose(again[:, -1], after[:, :5], atol=1e-6)


# --- agents


@pytest.mark.parametrize("kind", [Content, DriftAware, EaseText])
def test_rankers_of_texts_may_weigh_familiarity(new_vec, kind):
    env = new_vec(6, observation="dict", **FANS)
    observation = env.reset(seed=0)[0]
    plain, loyal = kind(familiarity=0.0), kind(familiarity=0.3)
    for agent in (plain, loyal):
        agent.fit(env, 0)
    added = loyal.scores(observation) - plain.scores(observation)
    np.testing.assert_allclose(added, 0.3 * observation["candidate_familiarity"], atol=1e-6)


def test_features_bandits_and_logged_steps_have_a_column_of_it(new_vec, fans, tiny):
    env = new_vec(6, observation="dict", **FANS)
    extractor = FeatureExtractor()
    extractor.fit(env.public_data(), env.config)
    observation = env.reset(seed=0)[0]
    table = extractor.encode(observation)[:, extractor.slices["candidates"]]
    table = table.reshape(6, 20, extractor.num_features)
    column = extractor.columns.index("familiarity")
    np.testing.assert_array_equal(table[:, :, column], observation["candidate_familiarity"])
    bandit = LinUcb()
    bandit.fit(env, 60)
    assert bandit.learnt.precision.shape == (1, 10, 10)

    def encode(observation):
        return observation["candidate_familiarity"]

    rng = np.random.default_rng(0)
    logged, _ = logged_choices(fans.public(), EnvConfig(**tiny, **FANS), encode, rng, every=True)
    assert logged.shape[1] == 20 and 0.3 < logged.max() < 1.0


def test_joint_learns_that_familiar_creators_are_chosen_more(new_vec):
    strong = FANS | {"creator_growth": 0.8, "creator_half_life": 30.0, "creator_choice": 6.0}
    env = new_vec(8, observation="dict", **strong, num_users=1_000, warmup_slates=40)
    agent = Joint(0)
    agent.fit(env, 0)
    q, observation = agent.parameters[0], env.reset(seed=0)[0]
    assert q["familiar_choice"] > 0.5
    seen = agent._appraised(observation)
    familiar = q["familiar_choice"], q["familiar_satisfaction"]
    for name in ("familiar_choice", "familiar_satisfaction"):
        agent.parameters[name] = 0.0
    blind = agent._appraised(observation)
    ratio = seen.odds / blind.odds
    assert (ratio >= 1.0 - 1e-9).all() and ratio.max() > 1.2
    odds = np.log(ratio) / familiar[0] * familiar[1]
    np.testing.assert_allclose(seen.log_odds - blind.log_odds, odds, atol=1e-6)


@kernel
def _attachments(users, dim, count):
    users[0].dim = dim
    return attachment_vector(users[0], count).copy()


def test_the_belief_oracle_follows_attachments(new_vec):
    env = new_vec(3, observation="dict", off=["churn"], **FANS)
    agent = BeliefOracle(particles=2, moves=0)
    agent.attach(env)
    observation, _ = env.reset(seed=1)
    starts = np.ones(3, np.bool_)
    for _ in range(6):
        actions = agent.act(observation, starts)
        for i in range(3):
            real = env.simulator.users["attachment"][i]
            assert real.max() > 0.0
            for users in (agent._beliefs[i].users[:1], agent._beliefs[i].past.public):
                np.testing.assert_array_equal(_attachments(users, 32, len(real)), real)
        observation, starts = env.step(actions)[0], np.zeros(3, np.bool_)


# --- experiments, and what is refused


def test_the_ablation_switches_it_off_where_the_task_has_it():
    parts = {"mechanisms": ("queries", "creators")}
    labels = [x.label for x in variants_of("llmrec/Drift-v1", (), FANS, parts)]
    assert labels == ["whole", "queries off", "creators off"]
    labels = [x.label for x in variants_of("llmrec/Drift-v1", (), {}, parts)]
    assert labels == ["whole", "queries off"]


def test_growth_out_of_range_is_refused(tiny):
    with pytest.raises(
        ConfigError, match=r"creator_growth=1\.5 is out of range; allowed: 0\.0 to 1"
    ):
        EnvConfig(**tiny, creator_growth=1.5)
