"""Training segments of SB3 algorithms: their state, and a watch over their numbers."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.running_mean_std import RunningMeanStd

STATISTICS = "normalisation"
"""Prefix of the names of saved running statistics."""
_REPLAYED = ("observations", "next_observations", "actions", "rewards", "dones", "timeouts")
_VARIABLES = ("log_ent_coef",)
_CLIP, _TINY = 10.0, 1e-8  # standard deviations, and a variance, as in VecNormalize
_REPORTED = 1_000  # environment steps between two reports


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
