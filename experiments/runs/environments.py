"""Environments of a run, built in the modes that its agent wants."""

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
    """Returns the batched environment of a run in the modes that its agent wants."""
    kwargs = spec.env | {
        "world_seed": spec.world,
        "action": agent.action,
        "observation": agent.observation,
        "split": split,
        "autoreset_mode": "same_step" if split == "train" else "next_step",
    }
    env = gymnasium.make_vec(spec.task, num_envs=num_envs, **kwargs).unwrapped
    assert isinstance(env, RecVectorEnv)  # the registered vector entry point
    return env


def task_config(task: str, env: Mapping[str, Any]) -> EnvConfig:
    """Returns the configuration of a task with overrides."""
    return EnvConfig.from_kwargs(llmrec_env.TASKS[task] | dict(env))
