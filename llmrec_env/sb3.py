"""Stable-Baselines3 VecEnv over `RecVectorEnv`. Needs the extra `agents`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import gymnasium
import numpy as np
import numpy.typing as npt
from gymnasium.vector import AutoresetMode

try:
    from stable_baselines3.common.vec_env.base_vec_env import VecEnv
except ImportError as error:
    raise ImportError(
        "llmrec_env.sb3 needs Stable-Baselines3; pip install 'llmrec-env[agents]'."
    ) from error

from llmrec_env.envs.single import checked_options
from llmrec_env.envs.vector import RecVectorEnv
from llmrec_env.simulation.simulator import TRANSITION_FIELDS, USER_FIELDS

_FIELDS = TRANSITION_FIELDS + USER_FIELDS


class Sb3VecEnv(VecEnv):
    """A batch of sessions as SB3 wants them: same-step resets, float32 rewards, a list of infos.

    An info holds what `RecEnv` tells, and SB3's `TimeLimit.truncated` and `terminal_observation`.
    """

    def __init__(self, env: RecVectorEnv) -> None:
        """Wraps an environment with same-step resets.

        Raises:
            ValueError: the environment resets in another way.
        """
        if env.autoreset_mode != AutoresetMode.SAME_STEP:
            raise ValueError(
                f"autoreset_mode={env.autoreset_mode} does not suit SB3; build the environment "
                "with autoreset_mode='same_step', or use make_sb3_env."
            )
        self.env = env
        self._actions: npt.NDArray[Any] | None = None
        super().__init__(env.num_envs, env.single_observation_space, env.single_action_space)

    def seed(self, seed: int | None = None) -> Sequence[int | None]:
        """Stores the seeds for the next reset and returns them."""
        if seed is None:
            seed = int(np.random.default_rng().integers(0, 2**31 - 1 - self.num_envs))
        self._seeds = [seed + i for i in range(self.num_envs)]
        return self._seeds

    def reset(self) -> Any:
        """Begins all sessions and returns their observations."""
        seeds = None if all(seed is None for seed in self._seeds) else list(self._seeds)
        observations, infos = self.env.reset(seed=seeds, options=self._user_options())
        self.reset_infos = _rows(infos)
        self._reset_seeds()
        self._reset_options()
        return observations

    def _user_options(self) -> dict[str, Any] | None:
        if not any(self._options):
            return None
        named = [checked_options(options, ("user_id",)) for options in self._options]
        return {"user_id": [options.get("user_id") for options in named]}

    def step_async(self, actions: npt.NDArray[Any]) -> None:
        """Stores the actions for step_wait."""
        self._actions = actions

    def step_wait(self) -> tuple[Any, npt.NDArray[np.float32], npt.NDArray[np.bool_], list[dict]]:
        """Advances every session and returns (observations, rewards, dones, infos)."""
        assert self._actions is not None  # SB3 calls step_async first
        observations, rewards, terminated, truncated, infos = self.env.step(self._actions)
        dones = terminated | truncated
        rows = _rows(infos)
        if dones.any():
            ended = np.flatnonzero(dones)
            for i, final_row in zip(ended, _rows(infos["final_info"], ended), strict=True):
                self.reset_infos[i], rows[i] = rows[i], final_row
                rows[i]["terminal_observation"] = infos["final_obs"][i]
        for row, is_cut in zip(rows, (truncated & ~terminated).tolist(), strict=True):
            row["TimeLimit.truncated"] = is_cut
        return observations, rewards.astype(np.float32), dones, rows

    def close(self) -> None:
        """Closes the environment."""
        self.env.close()

    def get_attr(self, attr_name: str, indices: Any = None) -> list[Any]:
        """Returns the environment's attribute once for each index.

        Raises:
            AttributeError: the environment has no such attribute.
        """
        value = getattr(self.env, attr_name)
        return [value for _ in self._get_indices(indices)]

    def set_attr(self, attr_name: str, value: Any, indices: Any = None) -> None:
        """Sets the attribute of the whole batch; its sessions have none of their own."""
        setattr(self.env, attr_name, value)

    def env_method(
        self, method_name: str, *method_args: Any, indices: Any = None, **method_kwargs: Any
    ) -> list[Any]:
        """Calls a method of the batch once and returns its result for each index."""
        result = getattr(self.env, method_name)(*method_args, **method_kwargs)
        return [result for _ in self._get_indices(indices)]

    def env_is_wrapped(self, wrapper_class: type, indices: Any = None) -> list[bool]:
        """Says that no session is wrapped: a batch has no wrappers."""
        return [False for _ in self._get_indices(indices)]

    def get_images(self) -> Sequence[npt.NDArray[np.uint8] | None]:
        """Returns the picture of every session; None with another render mode than `rgb_array`."""
        if self.env.render_mode != "rgb_array":
            return [None for _ in range(self.num_envs)]
        return list(self.env.render())  # type: ignore[arg-type]


def _rows(infos: dict[str, Any], sessions: Any = slice(None)) -> list[dict[str, Any]]:
    """The infos of sessions as one dict a session, of plain numbers and the slate, (k,)."""
    columns = [infos[name][sessions].tolist() for name in _FIELDS]
    rows = [dict(zip(_FIELDS, values, strict=True)) for values in zip(*columns, strict=True)]
    for row, slate in zip(rows, infos["slate"][sessions], strict=True):
        row["slate"] = slate
    return rows


def make_sb3_env(
    task: str, num_envs: int = 64, seed: int | None = None, **kwargs: Any
) -> Sb3VecEnv:
    """Returns a task as an SB3 VecEnv.

    Args:
        task: a registered id, such as `llmrec/Drift-v1`.
        num_envs: sessions advanced together.
        seed: of the sessions; None draws one.
        **kwargs: fields of EnvConfig.
    """
    env = gymnasium.make_vec(task, num_envs=num_envs, autoreset_mode="same_step", **kwargs)
    vec_env = Sb3VecEnv(env.unwrapped)  # type: ignore[arg-type]
    if seed is not None:
        vec_env.seed(seed)
    return vec_env
