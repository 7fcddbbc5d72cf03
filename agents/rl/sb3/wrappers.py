"""What the policy of an SB3 agent sees of an observation, and which of its actions are possible."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from gymnasium import spaces
from stable_baselines3.common.vec_env import VecEnv, VecEnvWrapper

from agents.features import DEFAULT_BLOCKS, JOINT_BLOCKS, FeatureExtractor, Seen
from agents.rankers.ranker import Floats
from llmrec_env.config import EnvConfig
from llmrec_env.envs.vector import RecVectorEnv
from llmrec_env.interface.candidates import FEATURES
from llmrec_env.interface.observation import SESSION_NUMBERS, VECTOR_BLOCKS
from llmrec_env.sb3 import Sb3VecEnv

if TYPE_CHECKING:
    from agents.joint.recommender import Joint

Bools = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class View:
    """What a policy sees of the observations of an environment."""

    space: spaces.Box
    """Of what is seen of one session."""
    see: Callable[[Any], Floats]
    """Returns what is seen of a batch of observations, (n, length)."""
    wrap: Callable[[RecVectorEnv], VecEnv] = Sb3VecEnv
    """Returns the environment for SB3, with what is seen as its observations."""
    masks: Callable[[Any], Bools] | None = None
    """Returns which actions are possible; None: all are."""
    policy_kwargs: dict[str, Any] = field(default_factory=dict)
    """What the policy must know of what it sees."""
    features: FeatureExtractor | None = None
    """Where it sees more than the environment's own observation."""


def vector_view(env: RecVectorEnv, without: Sequence[str]) -> View:
    """Returns the view of `vector` observations, with zeros for the blocks `without`."""
    space = env.single_observation_space
    assert isinstance(space, spaces.Box)  # a vector
    if not without:
        return View(space, lambda observation: observation)
    visible = visible_numbers(env.config, without)
    return View(
        space,
        lambda observation: observation * visible,
        lambda played: Hiding(Sb3VecEnv(played), visible),
    )


def offered_view(env: RecVectorEnv, without: Sequence[str]) -> View:
    """Returns the view of `dict` observations for masked picks of candidates."""
    offered = Offered(env.config, without)
    return View(
        _box(offered.length),
        offered.see,
        lambda played: Offering(played, offered),
        offered.masks,
    )


def pointer_view(env: RecVectorEnv, without: Sequence[str], joint: Joint | None = None) -> View:
    """Returns the view of `dict` observations that a pointer policy needs, with joint's belief."""
    blocks = DEFAULT_BLOCKS if joint is None else JOINT_BLOCKS
    features = FeatureExtractor([name for name in blocks if name not in without])
    features.fit(env.public_data(), env.config, joint)
    return View(
        _box(features.length),
        features.see,
        lambda played: Seen(Sb3VecEnv(played), features),
        policy_kwargs=features.policy_kwargs(),
        features=features,
    )


def _box(length: int) -> spaces.Box:
    return spaces.Box(-np.inf, np.inf, (length,), np.float32)


def visible_numbers(config: EnvConfig, without: Sequence[str]) -> Floats:
    """Returns 1 for each number of a `vector` observation that may be seen, 0 for others."""
    length = min(config.observation_dim, config.dim)
    appended = config.candidates * len(FEATURES) if config.action in ("slate", "item") else 0
    lengths = dict.fromkeys(VECTOR_BLOCKS, length)
    lengths |= {"session": len(SESSION_NUMBERS), "candidates": appended}
    seen = np.array([block not in without for block in lengths], np.float32)
    return np.repeat(seen, list(lengths.values()))


class Hiding(VecEnvWrapper):
    """An SB3 environment with `vector` observations that shows 0 where `visible` is 0."""

    venv: Any  # its observations are arrays

    def __init__(self, venv: VecEnv, visible: Floats) -> None:
        """Takes the environment, and 1 for each number that may be seen, (length,)."""
        super().__init__(venv)
        self._visible = visible

    def reset(self) -> Any:
        """Begins all sessions and returns what is seen of them, (n, length)."""
        return self.venv.reset() * self._visible

    def step_wait(self) -> Any:
        """Advances every session and returns (seen, rewards, dones, infos)."""
        observations, rewards, dones, infos = self.venv.step_wait()
        for info in infos:
            if "terminal_observation" in info:
                info["terminal_observation"] = info["terminal_observation"] * self._visible
        return observations * self._visible, rewards, dones, infos


class Offered:
    """Shows `dict` observations as `vector` ones, and says which candidates are offered.

    A `vector` observation lacks the ids: it does not say what of a whole catalogue can be shown.
    """

    def __init__(self, config: EnvConfig, without: Sequence[str]) -> None:
        """Takes the environment's configuration, and the blocks that are not to be seen."""
        self._visible = visible_numbers(config, without)
        self._leading = min(config.observation_dim, config.dim)
        self._slots = config.slate_size
        self.length = len(self._visible)

    def see(self, observation: Any) -> Floats:
        """Returns the blocks of a `vector` observation, (n, length)."""
        n = len(observation["session"])
        blocks = [observation[name][:, : self._leading] for name in VECTOR_BLOCKS]
        blocks.append(observation["session"])
        if "candidate_features" in observation:
            blocks.append(observation["candidate_features"].reshape(n, -1))
        return np.concatenate(blocks, axis=1) * self._visible

    def masks(self, observation: Any) -> Bools:
        """Returns which candidates each slot may show, (n, K * C): those that are offered."""
        return np.tile(observation["candidates"] >= 0, (1, self._slots))


class Offering(Sb3VecEnv):
    """A batch of sessions as `Offered` sees them; answers `action_masks` of sb3-contrib."""

    def __init__(self, env: RecVectorEnv, offered: Offered) -> None:
        """Takes an environment with `dict` observations, and what reads them."""
        super().__init__(env)
        self.observation_space = _box(offered.length)
        self._offered = offered
        self._masks: Bools = np.ones((env.num_envs, 1), np.bool_)

    def reset(self) -> Floats:
        """Begins all sessions and returns what is seen of them, (n, length)."""
        return self._keep(super().reset())

    def step_wait(self) -> tuple[Floats, npt.NDArray[np.float32], Bools, list[dict]]:
        """Advances every session and returns (seen, rewards, dones, infos)."""
        observations, rewards, dones, infos = super().step_wait()
        for info in infos:
            if "terminal_observation" in info:
                last = {name: block[None] for name, block in info["terminal_observation"].items()}
                info["terminal_observation"] = self._offered.see(last)[0]
        return self._keep(observations), rewards, dones, infos

    def _keep(self, observations: Any) -> Floats:
        self._masks = self._offered.masks(observations)
        return self._offered.see(observations)

    def has_attr(self, attr_name: str) -> bool:
        """Says whether there is such an attribute; the masks are one."""
        return attr_name == "action_masks" or super().has_attr(attr_name)

    def env_method(
        self, method_name: str, *method_args: Any, indices: Any = None, **method_kwargs: Any
    ) -> list[Any]:
        """Calls a method of the batch; `action_masks` has one row for each session."""
        if method_name == "action_masks":
            return [self._masks[i] for i in self._get_indices(indices)]
        return super().env_method(method_name, *method_args, indices=indices, **method_kwargs)
