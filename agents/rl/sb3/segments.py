"""Training segments of SB3 algorithms: their state, arguments, and a watch over their numbers."""

from __future__ import annotations

import copy
import inspect
import json
import math
from collections.abc import Callable, Mapping
from importlib import import_module
from types import SimpleNamespace
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.noise import NormalActionNoise
from stable_baselines3.common.running_mean_std import RunningMeanStd

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
STATISTICS = "normalisation"
"""Prefix of the names of saved running statistics."""
_REPLAYED = ("observations", "next_observations", "actions", "rewards", "dones", "timeouts")
_VARIABLES = ("log_ent_coef",)
_CLIP, _TINY = 10.0, 1e-8  # standard deviations, and a variance, as in VecNormalize
_REPORTED = 1_000  # environment steps between two reports


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

    On a belief it begins with what is set by hand: its mean action is 0 everywhere.
    """
    if settings.get("belief") is not None:
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


def model_state(model: Any) -> dict[str, Any]:
    """Returns copies of all that a model carries into its next segment: tensors, plain data."""
    buffer = getattr(model, "replay_buffer", None)
    variables = {name: getattr(model, name, None) for name in _VARIABLES}
    return {
        "parameters": copy.deepcopy(model.get_parameters()),
        "variables": {
            name: value.detach().clone() for name, value in variables.items() if value is not None
        },
        "updates": int(model._n_updates),
        "replay": {} if buffer is None else _replay(buffer),
    }


def restore_model(model: Any, state: Mapping[str, Any]) -> None:
    """Gives a model what `model_state` returned of another."""
    # An optimiser would go on in the tensors that it is given.
    model.set_parameters(copy.deepcopy(state["parameters"]), device="cpu")
    for name, value in state["variables"].items():
        getattr(model, name).data.copy_(value)
    model._n_updates = state["updates"]
    if state["replay"]:
        _refill(model.replay_buffer, state["replay"])


def _replay(buffer: Any) -> dict[str, Any]:
    rows = buffer.buffer_size if buffer.full else buffer.pos
    arrays = {name: torch.tensor(getattr(buffer, name)[:rows]) for name in _REPLAYED}
    return {"position": int(buffer.pos), "full": bool(buffer.full), "arrays": arrays}


def _refill(buffer: Any, replay: Mapping[str, Any]) -> None:
    buffer.pos, buffer.full = replay["position"], replay["full"]
    for name, values in replay["arrays"].items():
        getattr(buffer, name)[: len(values)] = values.numpy()
    # The next segment begins new sessions: returns over several steps must end here.
    buffer.timeouts[buffer.pos - 1] = 1.0 - buffer.dones[buffer.pos - 1] * (
        1.0 - buffer.timeouts[buffer.pos - 1]
    )


def reward_statistics() -> dict[str, RunningMeanStd]:
    """Returns the running statistics of an agent that has had no reward."""
    return {"rewards": RunningMeanStd(shape=())}


def statistics_state(statistics: Mapping[str, RunningMeanStd]) -> dict[str, Any]:
    """Returns mean, variance and count of each running statistic, as tensors."""
    return {
        name: {
            part: torch.tensor(np.asarray(getattr(running, part), np.float64))
            for part in ("mean", "var", "count")
        }
        for name, running in statistics.items()
    }


def restore_statistics(
    statistics: Mapping[str, RunningMeanStd], state: Mapping[str, Mapping[str, Any]]
) -> None:
    """Gives running statistics what `statistics_state` returned of others."""
    for name, parts in state.items():
        for part, value in parts.items():
            array = value.numpy().copy()
            setattr(statistics[name], part, array if array.ndim else array[()])


def normalised(
    features: npt.NDArray[np.float32], statistics: Mapping[str, RunningMeanStd]
) -> npt.NDArray[np.float32]:
    """Returns features, (n, length), as VecNormalize shows them, if observations are normalised."""
    if "observations" not in statistics:
        return features
    running = statistics["observations"]
    scaled = (features - running.mean) / np.sqrt(running.var + _TINY)
    return np.clip(scaled, -_CLIP, _CLIP).astype(np.float32)


def joined_weights(
    model: Any, statistics: Mapping[str, RunningMeanStd]
) -> dict[str, npt.NDArray[Any]]:
    """Returns the weights of a policy with running statistics beside them, as arrays by name."""
    tensors = model.policy.state_dict()
    for kind, parts in statistics_state(statistics).items():
        tensors |= {f"{STATISTICS}.{kind}.{part}": value for part, value in parts.items()}
    return {name: tensor.numpy() for name, tensor in tensors.items()}


def split_weights(
    weights: Mapping[str, npt.NDArray[Any]],
) -> tuple[dict[str, torch.Tensor], dict[str, RunningMeanStd]]:
    """Returns the weights and the running statistics that `joined_weights` put together."""
    policy: dict[str, torch.Tensor] = {}
    parts: dict[str, dict[str, torch.Tensor]] = {}
    for name, values in weights.items():
        if name.startswith(f"{STATISTICS}."):
            _, kind, part = name.split(".")
            parts.setdefault(kind, {})[part] = torch.tensor(values)
        else:
            policy[name] = torch.tensor(values)
    statistics = {
        kind: RunningMeanStd(shape=tuple(own["mean"].shape)) for kind, own in parts.items()
    }
    restore_statistics(statistics, parts)
    return policy, statistics


def not_finite(model: Any) -> str:
    """Returns the name of what is NaN or infinite in a model and its last losses, or nothing."""
    for name, value in model.logger.name_to_value.items():
        if name.startswith("train/") and not math.isfinite(value):
            return name.removeprefix("train/").replace("_", " ")
    parameters = list(model.policy.parameters())
    if not torch.nn.utils.get_total_norm(parameters, math.inf).isfinite():
        return "a weight"
    return ""


class Watch(BaseCallback):
    """Reports environment steps, and stops where rewards, losses or weights are not finite."""

    def __init__(self, on_steps: Callable[[int], None] | None) -> None:
        """Takes what is called with the environment steps done."""
        super().__init__()
        self._on_steps = on_steps
        self._reported = 0

    def _on_rollout_start(self) -> None:
        self.check()

    def _on_step(self) -> bool:
        if not np.isfinite(self.locals["rewards"]).all():
            raise FloatingPointError("a reward")
        return True

    def _on_rollout_end(self) -> None:
        if self._on_steps and self.num_timesteps - self._reported >= _REPORTED:
            self._reported = self.num_timesteps
            self._on_steps(self.num_timesteps)

    def check(self) -> None:
        """Raises FloatingPointError that names what is NaN or infinite."""
        cause = not_finite(self.model)
        if cause:
            raise FloatingPointError(cause)
