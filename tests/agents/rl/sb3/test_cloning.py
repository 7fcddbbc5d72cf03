"""Behaviour cloning: what a policy takes from an expert, and what cannot be taught."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from stable_baselines3 import DQN, PPO
from stable_baselines3.common.vec_env import VecNormalize

from agents import make_agent
from agents.features import FeatureExtractor
from agents.rl.sb3.cloning import clone, collect_demonstrations, discounted_returns
from agents.rl.sb3.pointer import PointerPolicy
from agents.rl.sb3.wrappers import FeatureWrapper
from llmrec_env.sb3 import Sb3VecEnv, make_sb3_env

N = 8
MODES = {"observation": "dict", "autoreset_mode": "same_step"}


@pytest.fixture(scope="module")
def env(new_vec):
    return new_vec(N, **MODES)


@pytest.fixture(scope="module")
def expert(env):
    agent = make_agent("drift-aware", env.config)
    agent.fit(env, 0)
    return agent


@pytest.fixture(scope="module")
def extractor(env):
    made = FeatureExtractor()
    made.fit(env.public_data(), env.config)
    return made


@pytest.fixture
def new_model(new_vec, extractor):
    """Makes untrained models that start without a ranking."""

    def make(normalise=False, seed=1):
        vec_env = FeatureWrapper(Sb3VecEnv(new_vec(N, **MODES)), extractor)
        if normalise:
            vec_env = VecNormalize(vec_env, norm_obs=False, gamma=0.9)
        kwargs = {**extractor.policy_kwargs(), "start": None}
        settings = {"n_steps": 16, "batch_size": 64, "gamma": 0.9, "seed": seed}
        return PPO(PointerPolicy, vec_env, policy_kwargs=kwargs, **settings)

    return make


def _weights(model):
    return torch.cat([parameter.detach().flatten() for parameter in model.policy.parameters()])


def test_it_shows_what_its_expert_shows(new_model, expert, env, extractor):
    model = new_model()
    progress = clone(model, expert, env, extractor, steps=4096, batch_size=256, seed=3)
    assert (
        progress.before < -14 < progress.before + 3 < progress.after
    )  # log(20·19·18·17·16) = 14.4
    assert progress.explained > 0.05
    observation, _ = env.reset(seed=77)
    taught = expert.act(observation, np.ones(N, bool))
    shown, _ = model.predict(extractor.encode(observation), deterministic=True)
    common = np.mean([len(set(a) & set(b)) for a, b in zip(taught, shown, strict=True)])
    assert common > 3.5  # of 5; 1.25 by chance


def test_a_seed_decides_what_is_learnt(new_model, expert, env, extractor):
    weights = []
    for seed in (1, 1, 2):
        model = new_model()
        clone(model, expert, env, extractor, steps=128, epochs=1, seed=seed)
        weights.append(_weights(model))
    assert torch.equal(weights[0], weights[1]) and not torch.equal(weights[0], weights[2])


def test_the_value_is_left_alone_if_it_has_no_weight(new_model, expert, env, extractor):
    model = new_model()
    before = model.policy.value_net[2].weight.clone()
    clone(model.policy, expert, env, extractor, steps=128, value=0.0)
    assert torch.equal(before, model.policy.value_net[2].weight)
    clone(model.policy, expert, env, extractor, steps=2048)
    assert not torch.equal(before, model.policy.value_net[2].weight)


def test_entropy_keeps_it_from_being_sure_of_its_expert(new_model, expert, env, extractor):
    entropies = []
    for entropy in (0.0, 5.0):
        model = new_model()
        clone(model, expert, env, extractor, steps=512, batch_size=64, entropy=entropy)
        encoded = torch.from_numpy(extractor.encode(env.reset(seed=9)[0]))
        entropies.append(model.policy.get_distribution(encoded).entropy().mean().item())
    assert entropies[0] < entropies[1] - 0.3


def test_it_goes_on_learning_online(new_model, expert, env, extractor):
    model = new_model(normalise=True)
    clone(model, expert, env, extractor, steps=128)
    before = _weights(model)
    model.learn(128)
    assert not torch.equal(before, _weights(model)) and _weights(model).isfinite().all()


def test_returns_are_discounted_to_the_end_of_a_session():
    rewards = np.array([[1.0, 0], [2, 1], [4, 0], [8, 2]])
    ends = np.array([[0, 0], [0, 0], [1, 0], [0, 1]], bool)
    expected = [[3, 0.75], [4, 1.5], [4, 1], [np.nan, 2]]
    np.testing.assert_allclose(discounted_returns(rewards, ends, 0.5), expected)


def test_demonstrations_are_steps_of_the_expert(expert, env, extractor):
    demonstrations = collect_demonstrations(expert, env, extractor, 3 * N - 1, gamma=0.9, seed=5)
    assert all(len(column) == 3 * N for column in demonstrations)
    observation, _ = env.reset(seed=5)
    np.testing.assert_array_equal(demonstrations.features[:N], extractor.encode(observation))
    slates = expert.act(observation, np.ones(N, bool))
    np.testing.assert_array_equal(demonstrations.actions[:N], slates)
    np.testing.assert_array_equal(demonstrations.session[-N:], np.arange(N))
    assert np.isnan(demonstrations.returns).all()  # no session has ended yet


def test_statistics_of_rewards_take_those_of_the_expert(new_model, expert, env, extractor):
    model = new_model(normalise=True)
    rewards = model.get_vec_normalize_env()
    before = rewards.ret_rms.count
    scaled = collect_demonstrations(expert, env, extractor, 60 * N, 0.9, seed=5, normaliser=rewards)
    assert rewards.ret_rms.count == pytest.approx(before + 60 * N)
    plain = collect_demonstrations(expert, env, extractor, 60 * N, 0.9, seed=5)
    scale = 1 / np.sqrt(rewards.ret_rms.var + rewards.epsilon)
    assert np.isfinite(plain.returns).any() and abs(scale - 1) > 0.1
    np.testing.assert_allclose(scaled.returns, scale * plain.returns, rtol=1e-4)


def test_what_cannot_be_cloned_is_refused(new_model, expert, env, extractor, new_vec, tiny):
    model = new_model()
    with pytest.raises(ValueError, match=r"acts by 'weights'.*drift-aware or joint"):
        clone(model, make_agent("ppo", env.config), env, extractor)
    with pytest.raises(ValueError, match="needs action='slate', observation='dict'"):
        clone(model, expert, new_vec(2, autoreset_mode="same_step"), extractor)
    with pytest.raises(ValueError, match="build the environment with autoreset_mode='same_step'"):
        clone(model, expert, new_vec(2, observation="dict"), extractor)
    with pytest.raises(ValueError, match="num_envs=1 leaves no session"):
        clone(model, expert, new_vec(1, **MODES), extractor)
    weights = PPO("MlpPolicy", make_sb3_env("llmrec/Drift-v1", 2, action="weights", **tiny))
    with pytest.raises(ValueError, match="policy of action='weights' cannot learn from slates"):
        clone(weights, expert, env, extractor)
    deep_q = DQN("MlpPolicy", make_sb3_env("llmrec/Item-v1", 2, **tiny), buffer_size=10)
    with pytest.raises(ValueError, match="DQNPolicy has no likelihood of slates"):
        clone(deep_q, expert, env, extractor)
