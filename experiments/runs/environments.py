"""The environments of a cell."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import gymnasium

import llmrec_env
from agents import Agent
from experiments.runs.spec import RunSpec
from llmrec_env.config import EnvConfig
from llmrec_env.envs.vector import RecVectorEnv

TRAIN_ENVS = 64


def environment(spec: RunSpec, agent: Agent, num_envs: int, split: str) -> RecVectorEnv:
    """Returns the batched environment of a cell in the modes that its agent wants."""
    own = {"action": agent.action, "observation": agent.observation, "split": split}
    kwargs = {**spec.env, "world_seed": spec.world, **own}
    reset = "same_step" if split == "train" else "next_step"
    made = gymnasium.make_vec(spec.task, num_envs=num_envs, autoreset_mode=reset, **kwargs)
    env = made.unwrapped
    assert isinstance(env, RecVectorEnv)  # the registered vector entry point
    return env


def task_config(task: str, env: Mapping[str, Any]) -> EnvConfig:
    """Returns the configuration of a task with overrides."""
    return EnvConfig.from_kwargs({**llmrec_env.TASKS[task], **env})
