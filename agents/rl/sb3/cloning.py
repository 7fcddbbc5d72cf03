"""Behaviour cloning: a policy learns to show what a teacher shows, before it learns by acting.

model = PPO(PointerPolicy, Seen(vec_env, sight), policy_kwargs=sight.policy_kwargs())
clone(model, teacher, env, sight, steps=40_000)
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
from agents.rl.sb3.pointer import PointerPolicy
from llmrec_env.envs.vector import RecVectorEnv

Tensor = torch.Tensor


class Lessons(NamedTuple):
    """What a teacher did in m steps of training users, and what came of it."""

    seen: Floats  # (m, length)
    actions: npt.NDArray[np.int64]  # (m, K), or (m,) for slates of one
    returns: npt.NDArray[np.float32]  # (m,), discounted, NaN where the session went on
    session: npt.NDArray[np.int64]  # (m,), place in the batch


class Recipe(NamedTuple):
    """How a policy is fitted: arguments of `clone`."""

    epochs: int
    batch_size: int
    learning_rate: float
    value: float
    entropy: float
    seed: int


class Progress(NamedTuple):
    """How well the teacher was learnt, on a tenth of the sessions, held out."""

    before: float
    """Mean log-likelihood of the teacher's slates before."""
    after: float
    """And after."""
    explained: float
    """Share of the variance of returns that the value explains."""


def clone(
    model: BaseAlgorithm | BasePolicy,
    teacher: Agent,
    env: RecVectorEnv,
    features: FeatureExtractor,
    steps: int = 40_000,
    epochs: int = 4,
    batch_size: int = 1024,
    learning_rate: float = 3e-3,
    value: float = 0.5,
    entropy: float = 0.5,
    gamma: float | None = None,
    seed: int = 0,
) -> Progress:
    """Fits the policy to the slates of a teacher by maximum likelihood, and its value to returns.

    The optimiser is one of its own; that of the policy stays as it was. If the model normalises
    rewards (VecNormalize), the statistics take the teacher's rewards, and returns are on its scale.

    Args:
        model: an SB3 algorithm with an actor and a value, or its policy.
        teacher: a fitted agent that acts by slates or items, such as `drift-aware` or `joint`.
        env: plays training users with `dict` observations and resets in the step; it is reset.
        sight: what the policy sees.
        steps: user-steps that the teacher plays.
        epochs: times that each step is learnt from.
        batch_size: steps.
        learning_rate: of the first batch; falls to 0.
        value: weight of the squared error of the value; 0 leaves the value alone.
        entropy: weight of the entropy of the policy, which must not become so sure of its teacher
            that it explores nothing when it learns by acting.
        gamma: discount of returns; None: the model's, or 0.99 for a policy.
        seed: of the sessions and of the order of learning.

    Returns:
        How well the teacher was learnt.

    Raises:
        ValueError: the teacher, the environment and the policy do not act or see alike.
    """
    policy: Any = model.policy if isinstance(model, BaseAlgorithm) else model
    rewards = None
    if isinstance(model, OnPolicyAlgorithm):
        rewards, gamma = model.get_vec_normalize_env(), model.gamma if gamma is None else gamma
    _check(policy, teacher, env)
    lessons = play_lessons(
        teacher, env, features, steps, 0.99 if gamma is None else gamma, seed, rewards
    )
    recipe = Recipe(epochs, batch_size, learning_rate, value, entropy, seed)
    return _fit(policy, lessons, recipe)


def play_lessons(
    teacher: Agent,
    env: RecVectorEnv,
    features: FeatureExtractor,
    steps: int,
    gamma: float,
    seed: int = 0,
    rewards: VecNormalize | None = None,
) -> Lessons:
    """Returns what the teacher does in `steps` user-steps, rounded up to whole steps of all.

    Args:
        teacher: a fitted agent.
        env: resets in the step.
        sight: what is kept of the observations.
        steps: user-steps.
        gamma: discount of returns.
        seed: of the sessions.
        rewards: statistics of rewards, which take these; returns are on their scale.
    """
    observation, _ = env.reset(seed=seed)
    starts = np.ones(env.num_envs, np.bool_)
    seen, actions, gains, ends = [], [], [], []
    for _ in range(-(-steps // env.num_envs)):
        seen.append(features.see(observation))
        actions.append(np.asarray(teacher.act(observation, starts), np.int64))
        observation, reward, terminated, truncated, _ = env.step(actions[-1])
        starts = terminated | truncated
        gains.append(reward)
        ends.append(starts)
    gain, end = np.stack(gains), np.stack(ends)
    scale = _scale(rewards, gain, end)
    returns = returns_of(gain * scale, end, gamma).astype(np.float32)
    session = np.tile(np.arange(env.num_envs), len(end))
    return Lessons(np.concatenate(seen), np.concatenate(actions), returns.ravel(), session)


def returns_of(
    gains: npt.NDArray[np.float64], ends: npt.NDArray[np.bool_], gamma: float
) -> npt.NDArray[np.float64]:
    """Returns the discounted rewards to the end of each session, (t, n), NaN if it is not there.

    Args:
        gains: rewards, (t, n).
        ends: whether a session ended with this step, (t, n).
        gamma: discount.
    """
    returns = np.empty_like(gains)
    after = np.full(gains.shape[1], np.nan)
    for t in range(len(gains) - 1, -1, -1):
        after = gains[t] + gamma * np.where(ends[t], 0.0, after)
        returns[t] = after
    return returns


def _scale(
    rewards: VecNormalize | None,
    gains: npt.NDArray[np.float64],
    ends: npt.NDArray[np.bool_],
) -> float:
    """Shows rewards to the statistics, step by step as VecNormalize does; returns their scale."""
    if rewards is None or not rewards.norm_reward:
        return 1.0
    running = np.zeros(gains.shape[1])
    for gain, end in zip(gains, ends, strict=True):
        running = running * rewards.gamma + gain
        rewards.ret_rms.update(running)
        running[end] = 0.0
    return float(1.0 / np.sqrt(rewards.ret_rms.var + rewards.epsilon))


def _fit(policy: Any, lessons: Lessons, recipe: Recipe) -> Progress:
    seen, returns = torch.from_numpy(lessons.seen), torch.from_numpy(lessons.returns)
    actions = torch.from_numpy(lessons.actions)
    apart = torch.from_numpy(lessons.session) % 10 == 0
    learnt, held_out = torch.nonzero(~apart)[:, 0], torch.nonzero(apart)[:, 0]
    before, _ = _judge(policy, seen[held_out], actions[held_out], returns[held_out])
    optimiser = torch.optim.Adam(policy.parameters(), lr=recipe.learning_rate)
    batches = recipe.epochs * -(-len(learnt) // recipe.batch_size)
    fading = torch.optim.lr_scheduler.LinearLR(optimiser, 1.0, 0.01, batches)
    order = torch.Generator().manual_seed(recipe.seed)
    policy.set_training_mode(True)
    for _ in range(recipe.epochs):
        shuffled = learnt[torch.randperm(len(learnt), generator=order)]
        for rows in shuffled.split(recipe.batch_size):
            loss = _loss(policy, seen[rows], actions[rows], returns[rows], recipe)
            optimiser.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(policy.parameters(), 1.0)
            optimiser.step()
            fading.step()
    policy.set_training_mode(False)
    if isinstance(policy, PointerPolicy):
        policy.forget()
    after, explained = _judge(policy, seen[held_out], actions[held_out], returns[held_out])
    return Progress(before, after, explained)


def _loss(policy: Any, seen: Tensor, actions: Tensor, returns: Tensor, recipe: Recipe) -> Tensor:
    values, likelihood, entropies = policy.evaluate_actions(seen, actions)
    loss = -likelihood.mean() - recipe.entropy * entropies.mean()
    known = returns.isfinite()
    if recipe.value and known.any():
        error = (values.flatten() - returns)[known]
        loss = loss + recipe.value * error.square().mean()
    return loss


@torch.no_grad()
def _judge(policy: Any, seen: Tensor, actions: Tensor, returns: Tensor) -> tuple[float, float]:
    """Mean log-likelihood of the teacher's slates, and the share of returns that is explained."""
    values, likelihood, _ = policy.evaluate_actions(seen, actions)
    known = returns.isfinite()
    error = (returns - values.flatten())[known]
    explained = 1.0 - float(error.var() / returns[known].var()) if known.sum() > 1 else float("nan")
    return float(likelihood.mean()), explained


def _check(policy: Any, teacher: Agent, env: RecVectorEnv) -> None:
    if teacher.action not in ("slate", "item"):
        raise ValueError(
            f"the teacher {teacher.name!r} acts by {teacher.action!r}, which says how to rank, not "
            "what to show; what can be cloned: agents that act by 'slate' or 'item', such as "
            "drift-aware or joint."
        )
    if env.config.action != teacher.action or env.config.observation != teacher.observation:
        raise ValueError(
            f"the environment has action={env.config.action!r}, observation="
            f"{env.config.observation!r}; the teacher {teacher.name!r} needs "
            f"action={teacher.action!r}, observation={teacher.observation!r}."
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
            f"the policy acts in {policy.action_space}, the teacher in {env.single_action_space}; "
            "a policy of action='weights' cannot learn from slates: they say what was shown, "
            "not by which weights. Clone to a policy of action='slate', such as PointerPolicy."
        )
