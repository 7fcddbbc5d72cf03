"""Construction of SB3 models: classes, keyword arguments from plain settings, and back."""

from __future__ import annotations

import inspect
import json
from collections.abc import Mapping
from importlib import import_module
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from stable_baselines3.common.logger import Logger
from stable_baselines3.common.noise import NormalActionNoise

from llmrec_env.config import unknown

OWN = ("normalise_observations", "exploration_steps", "action_noise")
"""Settings that are ours: SB3 has no such argument, or takes an object."""
_FIXED = {
    "policy",
    "env",
    "seed",
    "device",
    "verbose",
    "tensorboard_log",
    "_init_setup_model",
    "exploration_fraction",
    "replay_buffer_class",
    "optimize_memory_usage",
}
"""Arguments that the agent gives itself, or that segments would make wrong."""


def algorithm_class(module: str, name: str) -> Any:
    """Returns the class of an algorithm.

    Raises:
        ImportError: its package is not installed.
    """
    try:
        return getattr(import_module(module), name)
    except ImportError as error:
        raise ImportError(
            f"{name} is part of {module.replace('_', '-')}, which is not installed; "
            "pip install 'llmrec-env[agents]'."
        ) from error


def acting_alone(kind: Any, policy: Any, space: Any, actions: Any, **keywords: Any) -> Any:
    """Returns a new model that has no environment: it can act, but not learn.

    Args:
        kind: class of the algorithm.
        policy: name or class of the policy.
        space: of the policy's input.
        actions: space of one action.
        **keywords: keyword arguments of the algorithm.
    """
    model = kind(policy, None, _init_setup_model=False, **keywords)
    model.observation_space, model.action_space, model.n_envs = space, actions, 1
    model.env = SimpleNamespace(action_space=actions)  # SAC asks it for the space
    model._setup_model()
    model.env = None
    return model


def arguments(algorithm: Any, settings: Mapping[str, Any], num_actions: int) -> dict[str, Any]:
    """Returns the keyword arguments of an algorithm that plain settings stand for.

    Args:
        algorithm: its class.
        settings: plain data; the names of modules of `torch.nn` stand for them.
        num_actions: length of an action, for the noise that is added to it.

    Raises:
        ValueError: the algorithm does not take a setting.
    """
    known = parameters_of(algorithm)
    own = {"exploration_steps"} if "exploration_fraction" in known else set()
    allowed = (known - _FIXED) | own | {"normalise_observations"}
    for name in settings:
        if name not in allowed:
            raise ValueError(unknown(f"setting of {algorithm.__name__}", name, list(allowed)))
    keywords = {name: value for name, value in settings.items() if name not in OWN}
    policy = dict(keywords.pop("policy_kwargs", {}))
    if isinstance(policy.get("activation_fn"), str):
        policy["activation_fn"] = getattr(torch.nn, policy["activation_fn"])
    if settings.get("action_noise"):
        spread = np.full(num_actions, settings["action_noise"])
        keywords["action_noise"] = NormalActionNoise(np.zeros(num_actions), spread)
    return keywords | {"policy_kwargs": policy}


def parameters_of(algorithm: Any) -> set[str]:
    """Returns the names of its arguments, with those that it hands on to its base."""
    known: set[str] = set()
    for kind in inspect.getmro(algorithm):
        parameters = inspect.signature(kind.__init__).parameters.values()
        known |= {x.name for x in parameters if x.kind not in (x.VAR_POSITIONAL, x.VAR_KEYWORD)}
        if all(x.kind != x.VAR_KEYWORD for x in parameters):
            break
    return known - {"self"}


def plain_policy_kwargs(policy_kwargs: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the settings of a policy as plain data, from which `arguments` makes them again.

    Raises:
        ValueError: one cannot be written as plain data.
    """
    plain = {name: value for name, value in policy_kwargs.items() if name != "use_sde"}
    if isinstance(plain.get("activation_fn"), type):
        plain["activation_fn"] = plain["activation_fn"].__name__
    for name, value in plain.items():
        try:
            json.dumps(value)
        except TypeError as error:
            raise ValueError(
                f"policy_kwargs[{name!r}] is {type(value).__name__}, which cannot be saved; "
                "allowed: numbers, strings, lists, dictionaries, and an activation_fn of torch.nn."
            ) from error
    return plain


def prepare(model: Any, settings: Mapping[str, Any]) -> None:
    """Makes a new model fit for segments: exploration by total steps, half as large a replay.

    On a belief numbers begin with what is set by hand: the mean action is 0 everywhere.
    """
    if model.tensorboard_log is None:  # SB3 would make a folder for logs that nobody writes
        model.set_logger(Logger(folder=None, output_formats=[]))
    if settings.get("belief") is not None and isinstance(model.action_space, spaces.Box):
        _act_by_zero(model.policy)
    if "exploration_steps" in settings:
        length = settings["exploration_steps"]
        first, last = model.exploration_initial_eps, model.exploration_final_eps
        model.exploration_schedule = lambda _: (
            last + (first - last) * max(1.0 - model.num_timesteps / max(length, 1), 0.0)
        )
    buffer = getattr(model, "replay_buffer", None)
    if buffer is not None:  # public observations lie in [-1, 1], hidden ones nearly
        buffer.observations = np.zeros(buffer.observations.shape, np.float16)
        buffer.next_observations = np.zeros(buffer.observations.shape, np.float16)


def _act_by_zero(policy: Any) -> None:
    head = policy.action_net if hasattr(policy, "action_net") else policy.actor.mu
    last = [layer for layer in head.modules() if isinstance(layer, torch.nn.Linear)][-1]
    torch.nn.init.zeros_(last.weight)
    torch.nn.init.zeros_(last.bias)
