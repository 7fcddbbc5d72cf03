"""Behaviour cloning: a policy learns to show what an expert shows, before it learns online.

vec_env = FeatureWrapper(vec_env, extractor)
model = PPO(PointerPolicy, vec_env, policy_kwargs=extractor.policy_kwargs())
clone(model, expert, env, extractor, steps=40_000)
model.learn(500_000)
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from gymnasium.vector import AutoresetMode
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.on_policy_algorithm import OnPolicyAlgorithm
from stable_baselines3.common.policies import ActorCriticPolicy, BasePolicy
from stable_baselines3.common.vec_env import VecNormalize

from agents.base import Agent
from agents.features import FeatureExtractor
from agents.rankers.ranker import Floats
from agents.registry import make_agent
from agents.rl.sb3.pointer import PointerPolicy
from llmrec_env.envs.vector import RecVectorEnv

Tensor = torch.Tensor
_MAX_DEMONSTRATED = 40_000  # environment steps


class Demonstrations(NamedTuple):
    """What an expert did in m steps of training users, and what came of it."""

    features: Floats  # (m, length)
    actions: npt.NDArray[np.int64]  # (m, K), or (m,) for slates of one
    returns: npt.NDArray[np.float32]  # (m,), discounted, NaN where the session went on
    session: npt.NDArray[np.int64]  # (m,), index in the batch


class TrainConfig(NamedTuple):
    """How a policy is fitted: arguments of `clone`."""

    epochs: int
    batch_size: int
    learning_rate: float
    value: float
    entropy: float
    seed: int


class Progress(NamedTuple):
    """How well the expert was learnt, on a tenth of the sessions, held out."""

    before: float
    """Mean log-likelihood of the expert's slates before."""
    after: float
    """And after."""
    explained: float
    """Share of the variance of returns that the value explains."""


def clone(
    model: BaseAlgorithm | BasePolicy,
    expert: Agent,
    env: RecVectorEnv,
    extractor: FeatureExtractor,
    steps: int = 40_000,
    epochs: int = 4,
    batch_size: int = 1024,
    learning_rate: float = 3e-3,
    value: float = 0.5,
    entropy: float = 0.5,
    gamma: float | None = None,
    seed: int = 0,
) -> Progress:
    """Fits the policy to the slates of an expert by maximum likelihood, and its value to returns.

    The optimiser is one of its own; that of the policy stays as it was. If the model normalises
    rewards (VecNormalize), the statistics take the expert's rewards, and returns are on its scale.

    Args:
        model: an SB3 algorithm with an actor and a value, or its policy.
        expert: a fitted agent that acts by slates or items, such as `drift-aware` or `joint`.
        env: plays training users with `dict` observations and resets in the step; it is reset.
        extractor: what the policy sees.
        steps: environment steps that the expert plays.
        epochs: times that each step is learnt from.
        batch_size: steps.
        learning_rate: of the first batch; falls to 0.
        value: weight of the squared error of the value; 0 leaves the value alone.
        entropy: weight of the entropy of the policy, which must not become so sure of its expert
            that it explores nothing when it learns online.
        gamma: discount of returns; None: the model's, or 0.99 for a policy.
        seed: of the sessions and of the order of learning.

    Returns:
        How well the expert was learnt.

    Raises:
        ValueError: the expert, the environment and the policy do not act or see alike.
    """
    policy: Any = model.policy if isinstance(model, BaseAlgorithm) else model
    normaliser = None
    if isinstance(model, OnPolicyAlgorithm):
        normaliser, gamma = model.get_vec_normalize_env(), model.gamma if gamma is None else gamma
    _check(policy, expert, env)
    gamma = 0.99 if gamma is None else gamma
    demonstrations = collect_demonstrations(expert, env, extractor, steps, gamma, seed, normaliser)
    config = TrainConfig(epochs, batch_size, learning_rate, value, entropy, seed)
    return _fit(policy, demonstrations, config)


def imitate(
    model: BaseAlgorithm,
    expert: str,
    env: RecVectorEnv,
    extractor: FeatureExtractor,
    num_steps: int,
    seed: int,
) -> int:
    """Fits a new policy to the slates of an agent that learnt from logs.

    Args:
        model: an SB3 algorithm with a pointer policy.
        expert: a name of AGENTS.
        env: of training users.
        extractor: of what the policy sees.
        num_steps: of the segment; at most half of them, and 40,000, are the expert's.
        seed: of the expert and of its episodes.

    Returns:
        The environment steps of its episodes, which count as the learner's.
    """
    agent = make_agent(expert, env.config, seed)
    agent.fit(env, 0)
    steps = max(min(_MAX_DEMONSTRATED, num_steps // 2) // env.num_envs, 1) * env.num_envs
    clone(model, agent, env, extractor, steps=steps, seed=seed)
    return steps


def collect_demonstrations(
    expert: Agent,
    env: RecVectorEnv,
    extractor: FeatureExtractor,
    steps: int,
    gamma: float,
    seed: int = 0,
    normaliser: VecNormalize | None = None,
) -> Demonstrations:
    """Returns what the expert does in `steps` environment steps, rounded up to whole steps of all.

    Args:
        expert: a fitted agent.
        env: resets in the step.
        extractor: what is kept of the observations.
        steps: environment steps.
        gamma: discount of returns.
        seed: of the sessions.
        normaliser: of rewards, whose statistics take these; returns are on their scale.
    """
    observation, _ = env.reset(seed=seed)
    starts = np.ones(env.num_envs, np.bool_)
    features, actions, rewards, ends = [], [], [], []
    for _ in range(-(-steps // env.num_envs)):
        features.append(extractor.encode(observation))
        actions.append(np.asarray(expert.act(observation, starts), np.int64))
        observation, reward, terminated, truncated, _ = env.step(actions[-1])
        starts = terminated | truncated
        rewards.append(reward)
        ends.append(starts)
    scale = _reward_scale(normaliser, np.stack(rewards), np.stack(ends))
    returns = discounted_returns(np.stack(rewards) * scale, np.stack(ends), gamma)
    return Demonstrations(
        np.concatenate(features),
        np.concatenate(actions),
        returns.astype(np.float32).ravel(),
        np.tile(np.arange(env.num_envs), len(ends)),
    )


def discounted_returns(
    rewards: npt.NDArray[np.float64], ends: npt.NDArray[np.bool_], gamma: float
) -> npt.NDArray[np.float64]:
    """Returns the discounted rewards to the end of each session, (t, n), NaN if it is not there.

    Args:
        rewards: (t, n).
        ends: whether a session ended with this step, (t, n).
        gamma: discount.
    """
    returns = np.empty_like(rewards)
    after = np.full(rewards.shape[1], np.nan)
    for t in range(len(rewards) - 1, -1, -1):
        after = rewards[t] + gamma * np.where(ends[t], 0.0, after)
        returns[t] = after
    return returns


def _reward_scale(
    normaliser: VecNormalize | None,
    rewards: npt.NDArray[np.float64],
    ends: npt.NDArray[np.bool_],
) -> float:
    """Shows rewards to the statistics, step by step as VecNormalize does; returns their scale."""
    if normaliser is None or not normaliser.norm_reward:
        return 1.0
    running = np.zeros(rewards.shape[1])
    for reward, end in zip(rewards, ends, strict=True):
        running = running * normaliser.gamma + reward
        normaliser.ret_rms.update(running)
        running[end] = 0.0
    return float(1.0 / np.sqrt(normaliser.ret_rms.var + normaliser.epsilon))


def _fit(policy: Any, demonstrations: Demonstrations, config: TrainConfig) -> Progress:
    features, actions, returns, session = map(torch.from_numpy, demonstrations)
    tenth = session % 10 == 0
    training, held_out = torch.nonzero(~tenth)[:, 0], torch.nonzero(tenth)[:, 0]
    before, _ = _evaluate(policy, features[held_out], actions[held_out], returns[held_out])
    optimiser = torch.optim.Adam(policy.parameters(), lr=config.learning_rate)
    batches = config.epochs * -(-len(training) // config.batch_size)
    schedule = torch.optim.lr_scheduler.LinearLR(optimiser, 1.0, 0.01, batches)
    order = torch.Generator().manual_seed(config.seed)
    policy.set_training_mode(True)
    for _ in range(config.epochs):
        shuffled = training[torch.randperm(len(training), generator=order)]
        for rows in shuffled.split(config.batch_size):
            loss = _loss(policy, features[rows], actions[rows], returns[rows], config)
            optimiser.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(policy.parameters(), 1.0)
            optimiser.step()
            schedule.step()
    policy.set_training_mode(False)
    if isinstance(policy, PointerPolicy):
        policy.forget()
    after, explained = _evaluate(policy, features[held_out], actions[held_out], returns[held_out])
    return Progress(before, after, explained)


def _loss(
    policy: Any, features: Tensor, actions: Tensor, returns: Tensor, config: TrainConfig
) -> Tensor:
    values, likelihood, entropies = policy.evaluate_actions(features, actions)
    loss = -likelihood.mean() - config.entropy * entropies.mean()
    finished = returns.isfinite()
    if config.value and finished.any():
        error = (values.flatten() - returns)[finished]
        loss = loss + config.value * error.square().mean()
    return loss


@torch.no_grad()
def _evaluate(
    policy: Any, features: Tensor, actions: Tensor, returns: Tensor
) -> tuple[float, float]:
    """Mean log-likelihood of the expert's slates, and the share of returns that is explained."""
    values, likelihood, _ = policy.evaluate_actions(features, actions)
    finished = returns.isfinite()
    error = (returns - values.flatten())[finished]
    explained = (
        1.0 - float(error.var() / returns[finished].var()) if finished.sum() > 1 else float("nan")
    )
    return float(likelihood.mean()), explained


def _check(policy: Any, expert: Agent, env: RecVectorEnv) -> None:
    if expert.action not in ("slate", "item"):
        raise ValueError(
            f"the expert {expert.name!r} acts by {expert.action!r}, which says how to rank, not "
            "what to show; what can be cloned: agents that act by 'slate' or 'item', such as "
            "drift-aware or joint."
        )
    if env.config.action != expert.action or env.config.observation != expert.observation:
        raise ValueError(
            f"the environment has action={env.config.action!r}, observation="
            f"{env.config.observation!r}; the expert {expert.name!r} needs "
            f"action={expert.action!r}, observation={expert.observation!r}."
        )
    if env.autoreset_mode != AutoresetMode.SAME_STEP:
        raise ValueError(
            f"autoreset_mode={env.autoreset_mode}: steps that only reset teach nothing; "
            "build the environment with autoreset_mode='same_step'."
        )
    if env.num_envs < 2:
        raise ValueError("num_envs=1 leaves no session to hold out; allowed: 2 or more, say 64.")
    if not isinstance(policy, ActorCriticPolicy):
        raise ValueError(
            f"{type(policy).__name__} has no likelihood of slates to maximise; what can be cloned "
            "to: actor-critic policies, such as PointerPolicy with PPO or A2C."
        )
    if policy.action_space != env.single_action_space:
        raise ValueError(
            f"the policy acts in {policy.action_space}, the expert in {env.single_action_space}; "
            "a policy of action='weights' cannot learn from slates: they say what was shown, "
            "not by which weights. Clone to a policy of action='slate', such as PointerPolicy."
        )
