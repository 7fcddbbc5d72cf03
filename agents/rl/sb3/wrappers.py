"""Policy inputs of SB3 agents: features, masks, and the wrappers that make them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
from gymnasium import spaces
from stable_baselines3.common.vec_env import VecEnv, VecEnvWrapper

from agents.features import (
    HIDDEN_BLOCKS,
    FeatureExtractor,
    JointRecommender,
    blocks_of,
)
from agents.instructions import INSTRUCTIONS
from agents.joint.recommender import Joint
from agents.rankers.ranker import Floats
from llmrec_env.config import EnvConfig
from llmrec_env.envs.privileged import flat_hidden, flat_length
from llmrec_env.envs.spaces import added_length, instruction_length, leading_numbers
from llmrec_env.envs.vector import RecVectorEnv
from llmrec_env.interface.candidates import FEATURES, blocks_added
from llmrec_env.interface.observation import SESSION_NUMBERS, VECTOR_BLOCKS
from llmrec_env.sb3 import Sb3VecEnv

Bools = npt.NDArray[np.bool_]
_JOINT = "joint."  # prefix of the names of saved weights
StepResult = tuple[Floats, npt.NDArray[np.float32], Bools, list[Any]]


@dataclass(frozen=True)
class PolicyInput:
    """How the observations of an environment become what a policy takes."""

    space: spaces.Box
    """Of the features of one session."""
    encode: Callable[[Any, Bools], Floats]
    """Returns the features of a batch of observations, (n, length); whether each begins its session
    is told too, (n,)."""
    wrap: Callable[[RecVectorEnv], VecEnv] = Sb3VecEnv
    """Returns the environment for SB3, with the features as its observations."""
    actions: spaces.Box | None = None
    """Of one action of the policy; None: the environment's."""
    decode: Callable[[npt.NDArray[Any]], npt.NDArray[Any]] | None = None
    """Returns the environment's actions for the policy's, in what was encoded last; None: they are
    the same."""
    masks: Callable[[Any], Bools] | None = None
    """Returns which actions are possible; None: all are."""
    policy_kwargs: dict[str, Any] = field(default_factory=dict)
    """What the policy must know of the features."""
    extractor: FeatureExtractor | None = None
    """Where they are more than the environment's own observation."""


def vector_input(env: RecVectorEnv, ablated: Sequence[str]) -> PolicyInput:
    """Returns `vector` observations, with zeros for the ablated blocks."""
    space = env.single_observation_space
    assert isinstance(space, spaces.Box)  # a vector
    if not ablated:
        return PolicyInput(space, lambda observation, _: observation)
    visible = visible_numbers(env.config, ablated)
    return PolicyInput(
        space,
        lambda observation, _: observation * visible,
        lambda wrapped: AblationWrapper(Sb3VecEnv(wrapped), visible),
    )


def masked_input(env: RecVectorEnv, ablated: Sequence[str]) -> PolicyInput:
    """Returns features and masks of `dict` observations, for masked picks of candidates."""
    encoder = CandidateEncoder(env.config, ablated)
    return PolicyInput(
        _box(encoder.length),
        lambda observation, _: encoder.encode(observation),
        lambda wrapped: MaskedSb3VecEnv(wrapped, encoder),
        masks=encoder.masks,
    )


def pointer_input(
    env: RecVectorEnv, ablated: Sequence[str], joint: JointRecommender | None = None
) -> PolicyInput:
    """Returns the features of a pointer policy, with the belief of a joint recommender if any."""
    blocks = blocks_of(env.public_data(), env.config, joint is not None)
    blocks += HIDDEN_BLOCKS * env.config.privileged_observation
    extractor = FeatureExtractor([name for name in blocks if name not in ablated])
    extractor.fit(env.public_data(), env.config, joint)
    return PolicyInput(
        _box(extractor.length),
        lambda observation, _: extractor.encode(observation),
        lambda wrapped: FeatureWrapper(Sb3VecEnv(wrapped), extractor),
        policy_kwargs=extractor.policy_kwargs(),
        extractor=extractor,
    )


def _box(length: int) -> spaces.Box:
    return spaces.Box(-np.inf, np.inf, (length,), np.float32)


def visible_numbers(config: EnvConfig, ablated: Sequence[str]) -> Floats:
    """Returns 0 for each number of a `vector` observation in an ablated block, 1 for others."""
    length = min(config.observation_dim, config.dim)
    appended = config.candidates * len(FEATURES) if config.action in ("slate", "item") else 0
    lengths = dict.fromkeys(VECTOR_BLOCKS, length)
    lengths |= {"session": len(SESSION_NUMBERS), "candidates": appended}
    lengths["added"] = added_length(config)
    lengths[INSTRUCTIONS] = instruction_length(config)
    lengths["hidden"] = flat_length(config)
    visible = np.array([block not in ablated for block in lengths], np.float32)
    return np.repeat(visible, list(lengths.values()))


def joint_recommender(
    env: RecVectorEnv, seed: int, weights: Mapping[str, npt.NDArray[Any]] | None = None
) -> Joint:
    """Returns the joint recommender: with saved weights, or else learnt from the logs by `seed`."""
    joint = Joint(seed)
    saved = {name.removeprefix(_JOINT): x for name, x in (weights or {}).items() if is_joint(name)}
    if saved:
        joint.load(saved, env)
    else:
        joint.fit(env, 0)
    return joint


def joint_weights(joint: Joint | None) -> dict[str, npt.NDArray[Any]]:
    """Returns the recommender's weights under names of their own."""
    if joint is None:
        return {}
    return {f"{_JOINT}{name}": value for name, value in joint.weights().items()}


def is_joint(name: str) -> bool:
    """Returns whether a saved array is the recommender's."""
    return name.startswith(_JOINT)


def encode_last(infos: list[Any], dones: Bools, encode: Callable[[Any], Floats]) -> None:
    """Replaces the last `dict` observations of the sessions that ended by their features."""
    ended = np.flatnonzero(dones)
    if len(ended):
        last = [infos[i]["terminal_observation"] for i in ended]
        batch = {name: np.stack([one[name] for one in last]) for name in last[0]}
        for i, features in zip(ended, encode(batch), strict=True):
            infos[i]["terminal_observation"] = features.copy()  # not a view of its neighbours


class FeatureWrapper(VecEnvWrapper):
    """An SB3 environment whose `dict` observations are replaced by their features."""

    venv: Any  # its observations are dicts

    def __init__(self, venv: VecEnv, extractor: FeatureExtractor) -> None:
        """Takes the environment and a fitted extractor."""
        super().__init__(venv, observation_space=_box(extractor.length))
        self.extractor = extractor

    def reset(self) -> Floats:
        """Begins all sessions and returns their features, (n, length)."""
        return self.extractor.encode(self.venv.reset())

    def step_wait(self) -> StepResult:
        """Advances every session and returns (features, rewards, dones, infos)."""
        observations, rewards, dones, infos = self.venv.step_wait()
        encode_last(infos, dones, self.extractor.encode)
        return self.extractor.encode(observations), rewards, dones, infos


class AblationWrapper(VecEnvWrapper):
    """An SB3 environment with `vector` observations that shows 0 where `visible` is 0."""

    venv: Any  # its observations are arrays

    def __init__(self, venv: VecEnv, visible: Floats) -> None:
        """Takes the environment, and 1 for each number that may be seen, (length,)."""
        super().__init__(venv)
        self._visible = visible

    def reset(self) -> Floats:
        """Begins all sessions and returns what is visible of them, (n, length)."""
        return self.venv.reset() * self._visible

    def step_wait(self) -> StepResult:
        """Advances every session and returns (observations, rewards, dones, infos)."""
        observations, rewards, dones, infos = self.venv.step_wait()
        for info in infos:
            if "terminal_observation" in info:
                info["terminal_observation"] = info["terminal_observation"] * self._visible
        return observations * self._visible, rewards, dones, infos


class CandidateEncoder:
    """Encodes `dict` observations as `vector` ones, and says which candidates are offered.

    A `vector` observation lacks the ids: it does not say what of a whole catalogue can be shown.
    """

    def __init__(self, config: EnvConfig, ablated: Sequence[str]) -> None:
        """Takes the environment's configuration, and the blocks that are shown as 0."""
        self._visible = visible_numbers(config, ablated)
        self._leading = min(config.observation_dim, config.dim)
        self._slots, self._config = config.slate_size, config
        self.length = len(self._visible)

    def encode(self, observation: Any) -> Floats:
        """Returns the blocks of a `vector` observation, (n, length)."""
        n = len(observation["session"])
        blocks = [observation[name][:, : self._leading] for name in VECTOR_BLOCKS]
        blocks.append(observation["session"])
        if "candidate_features" in observation:
            blocks.append(observation["candidate_features"].reshape(n, -1))
        if added_length(self._config):
            blocks += [observation[name] for name in blocks_added(self._config)]
        if self._config.instructs():
            blocks.append(leading_numbers(observation, self._config))
        if self._config.privileged_observation:
            blocks.append(flat_hidden(observation, self._config))
        return np.concatenate(blocks, axis=1) * self._visible

    def masks(self, observation: Any) -> Bools:
        """Returns which candidates each slot may show, (n, K * C): those that are offered."""
        return np.tile(observation["candidates"] >= 0, (1, self._slots))


class MaskedSb3VecEnv(Sb3VecEnv):
    """A batch of encoded sessions that answers `action_masks` of sb3-contrib."""

    def __init__(self, env: RecVectorEnv, encoder: CandidateEncoder) -> None:
        """Takes an environment with `dict` observations, and what encodes them."""
        super().__init__(env)
        self.observation_space = _box(encoder.length)
        self._encoder = encoder
        self._masks: Bools = np.ones((env.num_envs, 1), np.bool_)

    def reset(self) -> Floats:
        """Begins all sessions and returns their features, (n, length)."""
        return self._encoded(super().reset())

    def step_wait(self) -> StepResult:
        """Advances every session and returns (features, rewards, dones, infos)."""
        observations, rewards, dones, infos = super().step_wait()
        for info in infos:
            if "terminal_observation" in info:
                last = {name: block[None] for name, block in info["terminal_observation"].items()}
                info["terminal_observation"] = self._encoder.encode(last)[0]
        return self._encoded(observations), rewards, dones, infos

    def _encoded(self, observations: Any) -> Floats:
        self._masks = self._encoder.masks(observations)
        return self._encoder.encode(observations)

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
