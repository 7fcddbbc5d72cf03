"""Joint features: a joint recommender whose belief a pointer policy sees, saved with it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy.typing as npt

from agents.joint.recommender import Joint
from llmrec_env.envs.vector import RecVectorEnv

PREFIX = "joint."


def joint_recommender(
    env: RecVectorEnv, seed: int, weights: Mapping[str, npt.NDArray[Any]] | None = None
) -> Joint:
    """Returns the joint recommender: with saved weights, or else learnt from the logs by `seed`."""
    joint = Joint(seed)
    saved = {name.removeprefix(PREFIX): x for name, x in (weights or {}).items() if is_joint(name)}
    if saved:
        joint.load(saved, env)
    else:
        joint.fit(env, 0)
    return joint


def joint_weights(joint: Joint | None) -> dict[str, npt.NDArray[Any]]:
    """Returns the recommender's weights under names of their own."""
    if joint is None:
        return {}
    weights = {name: tensor.numpy() for name, tensor in joint.model.state_dict().items()}
    weights["calibration"] = joint.calibration
    return {f"{PREFIX}{name}": value for name, value in weights.items()}


def is_joint(name: str) -> bool:
    """Returns whether a saved array is the recommender's."""
    return name.startswith(PREFIX)
