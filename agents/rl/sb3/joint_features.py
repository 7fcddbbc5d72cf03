"""On top of what was learnt from logs: a teacher to imitate, and what `joint` believes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy.typing as npt

from agents.registry import make_agent
from llmrec_env.envs.vector import RecVectorEnv

if TYPE_CHECKING:
    from agents.features import FeatureExtractor
    from agents.joint.recommender import Joint

_LESSONS = 40_000
PREFIX = "joint."


def imitate(
    model: Any, name: str, env: RecVectorEnv, features: FeatureExtractor, steps: int, seed: int
) -> int:
    """Fits a new policy to the slates of an agent that learnt from logs; returns the user-steps.

    They are of the agent's budget: half of `steps`, 40,000 at most.

    Args:
        model: an SB3 algorithm with a pointer policy.
        name: of AGENTS.
        env: of training users.
        sight: what the policy sees.
        steps: user-steps of the segment.
        seed: of teacher and lessons.
    """
    from agents.rl.sb3.cloning import clone

    teacher = make_agent(name, env.config, seed)
    teacher.fit(env, 0)
    lessons = max(min(_LESSONS, steps // 2) // env.num_envs, 1) * env.num_envs
    clone(model, teacher, env, features, steps=lessons, seed=seed)
    return lessons


def believer(env: RecVectorEnv, seed: int, weights: Mapping[str, Any] | None = None) -> Joint:
    """Returns the joint recommender: as saved, or else learnt from the logs by `seed`."""
    from agents.joint.recommender import Joint

    joint = Joint(seed)
    own = {k.removeprefix(PREFIX): v for k, v in (weights or {}).items() if k.startswith(PREFIX)}
    if own:
        joint.load(own, env)
    else:
        joint.fit(env, 0)
    return joint


def weights_of(joint: Joint | None) -> dict[str, npt.NDArray[Any]]:
    """Returns the recommender's weights under names of their own."""
    if joint is None:
        return {}
    state = {name: tensor.numpy() for name, tensor in joint.model.state_dict().items()}
    return {f"{PREFIX}{k}": v for k, v in {**state, "calibration": joint.calibration}.items()}
