"""Offline learners: a fixed policy logs, they never act, and cannot trust what was not logged."""

from __future__ import annotations

import gymnasium
import numpy as np
import pytest
from gymnasium import spaces

torch = pytest.importorskip("torch")
pytest.importorskip("stable_baselines3")

from stable_baselines3.common.vec_env import DummyVecEnv  # noqa: E402

from agents.rl.sb3.offline import CQL, TD3BC  # noqa: E402

STEPS = 1_500
LEARNER = {"buffer_size": STEPS, "learning_starts": 100, "batch_size": 64, "gradient_steps": 1}


class OneStep(gymnasium.Env):
    """Steps that stand alone: an action earns itself times what is observed, 1 or -1."""

    def __init__(self, actions: spaces.Space, earned=lambda sign, action: sign * action) -> None:
        self.observation_space = spaces.Box(-1.0, 1.0, (1,), np.float32)
        self.action_space = actions
        self.earned = earned

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.sign = float(self.np_random.choice([-1.0, 1.0]))
        return np.array([self.sign], np.float32), {}

    def step(self, action):
        reward = float(self.earned(self.sign, float(np.ravel(action)[0])))
        return np.array([self.sign], np.float32), reward, True, False, {}


def _continuous(**settings):
    env = DummyVecEnv([lambda: OneStep(spaces.Box(-1.0, 1.0, (1,), np.float32))])
    noise = {"action_noise": _noise()}
    return TD3BC("MlpPolicy", env, seed=0, learning_rate=3e-3, **LEARNER | noise | settings)


def _noise():
    from stable_baselines3.common.noise import NormalActionNoise

    return NormalActionNoise(np.zeros(1), np.full(1, 0.3))


def _acts(model) -> np.ndarray:
    return model.predict(np.array([[-1.0], [1.0]], np.float32), deterministic=True)[0].ravel()


def test_values_move_the_actor_and_imitation_alone_does_not():
    below, above = _acts(_continuous().learn(STEPS))
    assert below < -0.3 and above > 0.3  # what was logged is 0 in the mean
    assert np.abs(_acts(_continuous(alpha=0.0).learn(STEPS))).max() < 0.2


def test_the_learner_never_acts():
    model = _continuous(alpha=10.0).learn(STEPS)
    logged = model.replay_buffer.actions[:STEPS].ravel()
    again = _continuous(alpha=0.0).learn(STEPS).replay_buffer.actions[:STEPS].ravel()
    np.testing.assert_array_equal(logged, again)
    assert abs(logged.mean()) < 0.03 and logged.std() == pytest.approx(0.3, rel=0.1)


def test_an_action_that_was_never_logged_is_worth_little():
    """Its value is a guess: without the penalty nothing holds it down."""

    def chosen(alpha):
        env = DummyVecEnv([lambda: OneStep(spaces.Discrete(3), lambda *_: -1.0)])
        eps = {"exploration_initial_eps": 1.0, "exploration_final_eps": 1.0}
        model = CQL("MlpPolicy", env, seed=0, alpha=alpha, **LEARNER | eps)
        model.env.action_space.sample = model.action_space.sample = lambda: 1
        model.learn(STEPS)
        assert set(model.replay_buffer.actions[:STEPS].ravel()) == {1}
        return model.predict(np.zeros((1, 1), np.float32), deterministic=True)[0][0]

    assert chosen(1.0) == 1
    assert chosen(0.0) != 1  # every logged action was paid -1, the others are thought to be 0


def test_random_recipes_are_drawn_alike():
    env = DummyVecEnv([lambda: OneStep(spaces.Discrete(4))])
    eps = {"exploration_initial_eps": 1.0, "exploration_final_eps": 1.0}
    model = CQL("MlpPolicy", env, seed=0, **LEARNER | eps).learn(STEPS)
    counts = np.bincount(model.replay_buffer.actions[:STEPS].ravel(), minlength=4)
    assert (np.abs(counts - STEPS / 4) < 5 * np.sqrt(STEPS / 4)).all()


@pytest.mark.parametrize("kind", [TD3BC, CQL])
def test_a_weight_below_zero_is_refused(kind):
    with pytest.raises(ValueError, match="alpha is -1"):
        kind("MlpPolicy", None, alpha=-1.0, _init_setup_model=False)


def test_a_logging_policy_without_noise_is_refused():
    with pytest.raises(ValueError, match="action_noise"):
        _continuous(action_noise=None).learn(200)
