"""Feature extractor: blocks, what they hold, and what they may be computed from."""

from __future__ import annotations

import numpy as np
import pytest

from agents.features import (
    CANDIDATE_BLOCKS,
    DEFAULT_BLOCKS,
    HIDDEN_BLOCKS,
    JOINT_BLOCKS,
    USER_BLOCKS,
    FeatureExtractor,
)
from agents.joint.recommender import Joint
from agents.rankers.ranker import standardise
from agents.rl.sb3.wrappers import FeatureWrapper
from agents.user_statistics import count_outcomes, count_topics, last_satisfied, nearest, topics_of
from llmrec_env.interface.candidates import FRESHNESS
from llmrec_env.interface.history import QUERY, SATISFIED, UNSATISFIED
from llmrec_env.interface.observation import VECTOR_BLOCKS
from llmrec_env.sb3 import Sb3VecEnv

N = 4


@pytest.fixture(scope="module")
def env(new_vec):
    return new_vec(N, observation="dict", autoreset_mode="same_step")


@pytest.fixture(scope="module")
def joint(env):
    agent = Joint(sweeps=1)
    agent.fit(env, 0)
    return agent


@pytest.fixture(scope="module")
def observation(env):
    """What is observed after some steps."""
    observation, _ = env.reset(seed=1)
    rng = np.random.default_rng(0)
    for _ in range(6):
        actions = np.stack([rng.permutation(20)[:5] for _ in range(N)])
        observation = env.step(actions)[0]
    return observation


@pytest.fixture
def new_extractor(env, joint):
    def make(blocks=DEFAULT_BLOCKS):
        extractor = FeatureExtractor(blocks)
        extractor.fit(env.public_data(), env.config, joint)
        return extractor

    return make


def test_blocks_lie_side_by_side_the_candidates_last(new_extractor, observation):
    extractor = new_extractor((*USER_BLOCKS, *CANDIDATE_BLOCKS))
    assert list(extractor.slices) == [*USER_BLOCKS, "candidates"]
    ends = [0]
    for part in extractor.slices.values():
        assert part.start == ends[-1] < part.stop
        ends.append(part.stop)
    assert ends[-2:] == [extractor.user, extractor.length]
    assert (
        extractor.length - extractor.user
        == extractor.candidates * extractor.num_features
        == 20 * 11
    )
    encoded = extractor.encode(observation)
    assert encoded.shape == (N, extractor.length) and encoded.dtype == np.float32
    assert np.isfinite(encoded).all()


def test_each_block_alone_is_what_it_is_among_all(new_extractor, observation):
    whole = new_extractor((*USER_BLOCKS, *CANDIDATE_BLOCKS))
    encoded = whole.encode(observation)
    for block in (*VECTOR_BLOCKS, "session", "satisfied_items", "outcomes", "topic_counts"):
        alone = new_extractor((block, "candidate_features"))
        assert list(alone.slices) == [block, "candidates"]
        part = alone.encode(observation)[:, alone.slices[block]]
        np.testing.assert_array_equal(part, encoded[:, whole.slices[block]])
        assert np.abs(part).max() > 0, block


def test_vectors_are_the_leading_components(new_extractor, observation):
    extractor = new_extractor()
    encoded = extractor.encode(observation)
    for block in VECTOR_BLOCKS:
        np.testing.assert_array_equal(
            encoded[:, extractor.slices[block]], observation[block][:, :32]
        )


def test_candidates_are_described_column_by_column(new_extractor, observation, joint):
    extractor = new_extractor(JOINT_BLOCKS)
    about = extractor.encode(observation)[:, extractor.user :].reshape(
        N, 20, extractor.num_features
    )
    np.testing.assert_array_equal(about[:, :, :8], observation["candidate_features"])
    columns = dict(zip(extractor.columns, np.moveaxis(about, 2, 0), strict=True))
    np.testing.assert_allclose(
        columns["joint_score"], standardise(joint.scores(observation)), atol=1e-6
    )
    np.testing.assert_allclose(
        columns["joint_probability"], joint.probability(observation), atol=1e-5
    )


def test_pooled_is_the_mean_and_the_largest_of_each_column(new_extractor, observation):
    extractor = new_extractor()
    encoded = extractor.encode(observation)
    about = encoded[:, extractor.user :].reshape(N, 20, 8)
    expected = np.concatenate([about.mean(1), about.max(1)], 1)
    np.testing.assert_allclose(encoded[:, extractor.slices["pooled"]], expected, atol=1e-6)


def test_the_belief_of_the_joint_recommender_is_shown(new_extractor, observation, joint):
    extractor = new_extractor(JOINT_BLOCKS)
    shown = extractor.encode(observation)[:, extractor.slices["joint"]]
    np.testing.assert_array_equal(shown, joint.belief(observation)[:, :32])


def test_what_is_seen_of_a_session_does_not_depend_on_the_others(new_extractor, observation):
    extractor = new_extractor(tuple(block for block in (*USER_BLOCKS, *CANDIDATE_BLOCKS)))
    batch = extractor.encode(observation)
    for i in range(N):
        one = {name: values[i : i + 1] for name, values in observation.items()}
        np.testing.assert_allclose(extractor.encode(one)[0], batch[i], atol=1e-5)


def test_the_last_items_that_satisfied_come_newest_first():
    history = np.array([[7, 3, 5, 2, 9, 8, 6, -1], [-1] * 8], np.int32)
    kinds = [QUERY, SATISFIED, UNSATISFIED, *[SATISFIED] * 4, -1]
    feedback = np.array([kinds, [-1] * 8], np.int32)
    np.testing.assert_array_equal(
        last_satisfied(history, feedback), [[3, 2, 9, 8], [-1, -1, -1, -1]]
    )


def test_zeros_stand_for_items_that_never_were(new_extractor, observation):
    extractor = new_extractor(("satisfied_items", "candidate_features"))
    unknown = {**observation, "history_feedback": np.full((N, 128), -1, np.int32)}
    assert not extractor.encode(unknown)[:, extractor.slices["satisfied_items"]].any()


def test_outcomes_are_decayed_shares_of_the_last_steps():
    slates = np.array([[[0, 1], [2, 3], [4, 5], [-1, -1]]], np.int32)
    items, satisfied = np.array([[1, -1, 4, -1]], np.int32), np.array([[1, -1, 0, -1]], np.int32)
    substance = np.array([0, 0.5, 0, 0, -1, 0], np.float32)
    out = np.full((1, 8), 9, np.float32)
    count_outcomes(slates, items, satisfied, substance, np.array([0.5, 1], np.float32), out)
    fast, all_alike = 0.5 * np.array([1, 0.25, 0.5, 0.25]), np.array([1, 1, 1, -0.5]) / 4
    np.testing.assert_allclose(out[0], [*fast, *all_alike], atol=1e-6)


def test_topics_count_items_and_not_queries():
    topics = np.array([0, 3, 3], np.int32)
    history = np.array([[0, 1, 2, 1, 0, -1]], np.int32)
    feedback = np.array([[QUERY, SATISFIED, UNSATISFIED, SATISFIED, SATISFIED, -1]], np.int32)
    out = np.full((1, 4), 9, np.float32)
    count_topics(history, feedback, topics, out)
    np.testing.assert_allclose(np.expm1(out * np.log(129))[0], [1, 0, 0, 3], atol=1e-4)


def test_topics_are_the_clusters_of_the_items_every_time():
    rng = np.random.default_rng(1)
    centres = np.eye(16, 20)[rng.permutation(16)]
    kind = np.repeat(np.arange(16), 10)
    vectors = (centres[kind] + 0.05 * rng.normal(size=(160, 20))).astype(np.float32)
    topics = topics_of(vectors)
    assert all(len(set(topics[kind == k])) == 1 for k in range(16)) and len(set(topics)) == 16
    np.testing.assert_array_equal(topics, topics_of(vectors))


def test_nearest_is_the_largest_cosine(world):
    vectors = world.items.vectors
    ids = np.array([[3, 9, -1, -1], [-1] * 4, [5, 6, 7, 8]], np.int32)
    candidates = np.arange(9, dtype=np.int32).reshape(3, 3)
    nearness = nearest(vectors, ids, candidates)
    np.testing.assert_allclose(
        nearness[0], (vectors[candidates[0]] @ vectors[[3, 9]].T).max(1), atol=1e-5
    )
    assert not nearness[1].any()
    np.testing.assert_allclose(
        nearness[2], (vectors[candidates[2]] @ vectors[[5, 6, 7, 8]].T).max(1), atol=1e-5
    )


def test_last_observations_of_sessions_are_shown_alike(new_vec, new_extractor, assert_same):
    extractor = new_extractor()
    modes = {"observation": "dict", "autoreset_mode": "same_step", "horizon": 3}
    plain, encoded = (Sb3VecEnv(new_vec(N, **modes)) for _ in range(2))
    wrapped = FeatureWrapper(encoded, extractor)
    for vec_env in (plain, wrapped):
        vec_env.seed(4)
    assert wrapped.observation_space.shape == (extractor.length,)
    np.testing.assert_array_equal(wrapped.reset(), extractor.encode(plain.reset()))
    actions, ended = np.tile(np.arange(5), (N, 1)), 0
    for _ in range(7):
        observations, rewards, dones, infos = plain.step(actions)
        shown, *same, shown_infos = wrapped.step(actions)
        assert_same(same, [rewards, dones])
        np.testing.assert_array_equal(shown, extractor.encode(observations))
        for info, shown_info in zip(infos, shown_infos, strict=True):
            assert info.keys() == shown_info.keys()
            if "terminal_observation" in info:
                last = info["terminal_observation"]
                one = {name: np.asarray(values)[None] for name, values in last.items()}
                np.testing.assert_array_equal(
                    shown_info["terminal_observation"], extractor.encode(one)[0]
                )
                ended += 1
    assert ended == 2 * N


def test_the_start_ranks_like_something_sensible(new_extractor):
    assert dict(zip(new_extractor().columns, new_extractor().start(), strict=True))["recent"] == 1.0
    weights = dict(zip(JOINT_BLOCKS, [0] * len(JOINT_BLOCKS), strict=True))
    extractor = new_extractor(tuple(weights))
    assert [name for name, x in zip(extractor.columns, extractor.start(), strict=True) if x] == [
        "joint_score"
    ]


def test_the_start_counts_freshness_as_rankers_do(new_vec):
    env = new_vec(2, observation="dict", new_items=0.5)
    extractor = FeatureExtractor(DEFAULT_BLOCKS)
    extractor.fit(env.public_data(), env.config, None)
    start = dict(zip(extractor.columns, extractor.start(), strict=True))
    assert start["freshness"] == np.float32(FRESHNESS) and "familiarity" not in start


def test_what_cannot_be_seen_is_refused(env, new_vec):
    with pytest.raises(ValueError, match=r"block 'satiaton'. Did you mean 'satiation'"):
        FeatureExtractor(["satiaton"])
    with pytest.raises(ValueError, match="add one of candidate_features"):
        FeatureExtractor(["interest"])
    data = env.public_data()
    with pytest.raises(ValueError, match=r"joint_score.*give fit\(\.\.\., joint="):
        FeatureExtractor(JOINT_BLOCKS).fit(data, env.config)
    with pytest.raises(ValueError, match="candidates=0 offers the whole catalogue"):
        FeatureExtractor().fit(data, new_vec(1, observation="dict", candidates=0).config)
    with pytest.raises(ValueError, match="observation='vector' lacks the ids"):
        FeatureExtractor().fit(data, new_vec(1).config)


def test_hidden_truth_is_shown_only_where_observations_tell_it(env, new_vec):
    with pytest.raises(ValueError, match="privileged_observation=True"):
        FeatureExtractor(HIDDEN_BLOCKS).fit(env.public_data(), env.config)
    told = new_vec(N, observation="dict", privileged_observation=True)
    extractor = FeatureExtractor(HIDDEN_BLOCKS)
    extractor.fit(told.public_data(), told.config)
    observation, _ = told.reset(seed=1)
    encoded, users = extractor.encode(observation), told.simulator.users
    state = encoded[:, extractor.slices["true_state"]]
    np.testing.assert_array_equal(state[:, :32], observation["true_interest"][:, :32])
    np.testing.assert_array_equal(state[:, -5:-1], users["taste"])
    np.testing.assert_array_equal(state[:, -1], users["goodwill"])
    np.testing.assert_array_equal(encoded[:, extractor.user :], observation["true_relevance"])
    assert extractor.start().tolist() == [1.0]
