"""Native Gymnasium vector environment of n sessions, advanced together."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import gymnasium
import numpy as np
import numpy.typing as npt
from gymnasium.utils import seeding
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space

from llmrec_env.config import ConfigError, EnvConfig, unknown
from llmrec_env.envs.description import describe
from llmrec_env.envs.rendering import SessionRecorder, as_image, as_text
from llmrec_env.envs.single import RecEnv, checked_options, checked_render_mode, checked_user
from llmrec_env.envs.spaces import Observation, infos_of, observation_of, observation_space
from llmrec_env.simulation.simulator import Simulator
from llmrec_env.world import PublicData

_MODES = {mode.name.lower(): mode for mode in AutoresetMode}
_ALL = slice(None)

Step = tuple[
    Observation,
    npt.NDArray[np.float64],
    npt.NDArray[np.bool_],
    npt.NDArray[np.bool_],
    dict[str, Any],
]


class RecVectorEnv(VectorEnv[Any, Any, Any]):
    """n sessions of `RecEnv`, bit for bit those of n single environments seeded seed, seed + 1, ...

    See `RecEnv` for the task. Sub-environment i has a generator of its own.
    """

    def __init__(
        self,
        num_envs: int = 1,
        render_mode: str | None = None,
        autoreset_mode: AutoresetMode | str = AutoresetMode.NEXT_STEP,
        max_episode_steps: int | None = None,
        threads: int = 1,
        **kwargs: Any,
    ) -> None:
        """Builds the sessions over one shared world.

        Args:
            num_envs: n, sessions.
            render_mode: None, `ansi` or `rgb_array`: of every session.
            autoreset_mode: `next_step`, `same_step` or `disabled`.
            max_episode_steps: truncates sessions earlier than `horizon`.
            threads: that share a step of thousands of sessions; the bits are the same.
            **kwargs: fields of EnvConfig.

        Raises:
            ConfigError: an argument is unknown or out of range.
        """
        if isinstance(num_envs, bool) or not isinstance(num_envs, int) or num_envs < 1:
            raise ConfigError(f"num_envs={num_envs!r} is not a positive integer.")
        if max_episode_steps is not None and max_episode_steps < 1:
            raise ConfigError(f"max_episode_steps={max_episode_steps!r} is not a positive integer.")
        _check_threads(threads, num_envs)
        self.num_envs, self.render_mode = num_envs, checked_render_mode(render_mode)
        self.autoreset_mode = _autoreset(autoreset_mode)
        self.metadata = RecEnv.metadata | {"autoreset_mode": self.autoreset_mode}
        self.config = EnvConfig.from_kwargs(kwargs)
        self.simulator = Simulator(self.config, num_envs, threads)
        self.single_action_space = self.simulator.mode.space
        self.action_space = batch_space(self.single_action_space, num_envs)
        self.single_observation_space = observation_space(self.simulator)
        self.observation_space = batch_space(self.single_observation_space, num_envs)
        self._limit = max_episode_steps
        self._generators: list[np.random.Generator | None] = [None] * num_envs
        self._seeds: list[int | None] = [None] * num_envs
        self._running = np.zeros(num_envs, np.bool_)
        self._begun = np.zeros(num_envs, np.bool_)
        rendered = range(num_envs) if render_mode else ()
        self._recorders = [SessionRecorder(self.simulator, i) for i in rendered]

    @property
    def np_random_seed(self) -> tuple[int | None, ...]:  # type: ignore[override]
        """The seed of every session's generator."""
        return tuple(self._seeds)

    @property
    def np_random(self) -> tuple[np.random.Generator, ...]:  # type: ignore[override]
        """The generator of every session."""
        return tuple(self._generator(i) for i in range(self.num_envs))

    def public_data(self) -> PublicData:
        """Returns what an agent may learn from beside its observations: texts and training logs."""
        return self.simulator.world.public()

    def reset(
        self,
        *,
        seed: int | Sequence[int | None] | None = None,
        options: dict[str, Any] | None = None,
    ) -> tuple[Observation, dict[str, Any]]:
        """Begins sessions: all of them, or those of `options["reset_mask"]`.

        Args:
            seed: session i is seeded seed + i, or seed[i] of a sequence.
            options: `reset_mask` (n,) bool says which sessions begin; `user_id` (n,) or one id
                chooses their users; None among them: drawn.

        Raises:
            TypeError: options that are no dict, or a mask that is not a bool array.
            ValueError: an unknown option, a mask or seed of the wrong length, an empty mask, or a
                user who does not exist.
        """
        options = checked_options(options, ("reset_mask", "user_id"))
        sessions = np.flatnonzero(self._mask(options.get("reset_mask")))
        chosen = self._chosen_users(options.get("user_id"))
        self._seed(seed, sessions)
        self._start(sessions, chosen)
        self.simulator.show(sessions)
        self._restart_recorders(sessions)
        return observation_of(self.simulator, _ALL), infos_of(self.simulator, sessions)

    def step(self, actions: Any) -> Step:
        """Advances every session and returns (observations, rewards, terminated, truncated, infos).

        Raises:
            RuntimeError: before `reset`, or with `disabled` autoreset on ended sessions.
            TypeError: actions of the wrong dtype.
            ValueError: actions of the wrong shape, or outside the space.
        """
        ended = np.flatnonzero(~self._running)
        if len(ended) and (self.autoreset_mode != AutoresetMode.NEXT_STEP or not self._begun.all()):
            raise RuntimeError(
                f"step() was called while {len(ended)} of {self.num_envs} sessions do not run; "
                "call reset(), or reset(options={'reset_mask': mask})."
            )
        if len(ended):
            self.simulator.mode.decide(actions, self.num_envs)  # refuse before anything changes
            self._start(ended)
        rewards = self.simulator.step(actions, ended).astype(np.float64)
        terminated, truncated = self._ends()
        self._running = ~(terminated | truncated)
        for recorder in self._recorders:
            if recorder.session in ended:
                recorder.restart()
            else:
                recorder.record(float(rewards[recorder.session]))
        if self.autoreset_mode == AutoresetMode.SAME_STEP and not self._running.all():
            observations, infos = self._reset_ended()
        else:
            observations = observation_of(self.simulator, _ALL)
            infos = infos_of(self.simulator, _ALL)
        return observations, rewards, terminated, truncated, infos

    def describe(self) -> tuple[str, ...]:
        """Returns the user of every session in plain sentences; see `RecEnv.describe`.

        Raises:
            RuntimeError: before every session was reset.
        """
        if not self._begun.all():
            raise RuntimeError("describe() was called before reset(); call reset() first.")
        users, told = self.simulator.users, self.simulator.buffers.instructions
        world = self.simulator.world
        return tuple(describe(world, *each) for each in zip(users, told, strict=True))

    def render(self) -> tuple[str, ...] | tuple[npt.NDArray[np.uint8], ...] | None:  # type: ignore[override]
        """Returns every session so far: texts (`ansi`), or pictures (`rgb_array`, (h, w, 3))."""
        if self.render_mode is None:
            gymnasium.logger.warn("render() needs gymnasium.make_vec(id, render_mode='ansi').")
            return None
        if self.render_mode == "ansi":
            return tuple(as_text(recorder) for recorder in self._recorders)
        return tuple(as_image(recorder) for recorder in self._recorders)

    def close_extras(self, **kwargs: Any) -> None:
        """Ends the threads."""
        if hasattr(self, "simulator"):  # Gymnasium 1.2 also closes what could not be made
            self.simulator.close()

    def _restart_recorders(self, sessions: npt.NDArray[np.intp]) -> None:
        if self._recorders:
            for i in sessions:
                self._recorders[i].restart()

    def _ends(self) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.bool_]]:
        responses = self.simulator.responses
        terminated, truncated = responses["terminated"] == 1, responses["truncated"] == 1
        if self._limit is not None:
            truncated |= self.simulator.histories["step"] >= self._limit
        return terminated, truncated

    def _reset_ended(self) -> tuple[Observation, dict[str, Any]]:
        """Begins new sessions for those that ended, whose last observations go into the infos."""
        sessions = np.flatnonzero(~self._running)
        final_obs = np.full(self.num_envs, None, dtype=object)
        for i in sessions:
            final_obs[i] = observation_of(self.simulator, int(i))
        final_info = infos_of(self.simulator, sessions)
        self._start(sessions)
        self.simulator.show(sessions)
        self._restart_recorders(sessions)
        infos = infos_of(self.simulator, _ALL)
        infos["final_obs"], infos["final_info"] = final_obs, final_info
        infos["_final_obs"] = np.zeros(self.num_envs, np.bool_)
        infos["_final_obs"][sessions] = True
        infos["_final_info"] = infos["_final_obs"].copy()
        return observation_of(self.simulator, _ALL), infos

    def _start(
        self, sessions: npt.NDArray[np.intp], chosen: list[int | None] | None = None
    ) -> None:
        draws = [self.simulator.draw_session(self._generator(int(i))) for i in sessions]
        users = np.array([user for user, _ in draws], np.int64)
        if chosen is not None:
            for index, i in enumerate(sessions):
                user = chosen[i]
                users[index] = users[index] if user is None else user
        noise_keys = np.array([key for _, key in draws], np.uint64)
        self.simulator.start(sessions, users, noise_keys)
        self._running[sessions] = self._begun[sessions] = True

    def _chosen_users(self, user_id: Any) -> list[int | None] | None:
        if user_id is None:
            return None
        ids = np.asarray(user_id)
        if ids.ndim == 0:
            ids = np.full(self.num_envs, ids)
        if ids.shape != (self.num_envs,):
            raise ValueError(
                f"options['user_id'] has shape {ids.shape}; allowed: one id, or ({self.num_envs},)."
            )
        count = self.config.num_users
        return [None if user is None else checked_user(user, count) for user in ids]

    def _generator(self, i: int) -> np.random.Generator:
        generator = self._generators[i]
        if generator is None:
            generator, self._seeds[i] = seeding.np_random()
            self._generators[i] = generator
        return generator

    def _seed(
        self, seed: int | Sequence[int | None] | None, sessions: npt.NDArray[np.intp]
    ) -> None:
        if seed is None:
            return
        if isinstance(seed, int | np.integer):
            seeds: Sequence[int | None] = [int(seed) + i for i in range(self.num_envs)]
        else:
            seeds = list(seed)
        if len(seeds) != self.num_envs:
            raise ValueError(f"seed has {len(seeds)} entries; give one int, or {self.num_envs}.")
        for i in sessions:
            if seeds[i] is not None:
                self._generators[i], self._seeds[i] = seeding.np_random(seeds[i])

    def _mask(self, mask: Any) -> npt.NDArray[np.bool_]:
        if mask is None:
            return np.ones(self.num_envs, np.bool_)
        if not isinstance(mask, np.ndarray) or mask.dtype != np.bool_:
            kind = mask.dtype if isinstance(mask, np.ndarray) else type(mask).__name__
            raise TypeError(f"options['reset_mask'] is {kind}; give a numpy array of bool.")
        if mask.shape != (self.num_envs,) or not mask.any():
            raise ValueError(
                f"options['reset_mask'] has shape {mask.shape} and {mask.sum()} true values; "
                f"give shape ({self.num_envs},) with at least one."
            )
        return mask


def _autoreset(mode: AutoresetMode | str) -> AutoresetMode:
    if isinstance(mode, AutoresetMode):
        return mode
    try:
        return _MODES.get(str(mode)) or AutoresetMode(mode)
    except ValueError:
        raise ConfigError(unknown("autoreset_mode:", mode, list(_MODES))) from None


def _check_threads(threads: Any, num_envs: int) -> None:
    if isinstance(threads, bool) or not isinstance(threads, int) or not 1 <= threads <= num_envs:
        raise ConfigError(
            f"threads={threads!r} is not an integer from 1 to num_envs={num_envs}; use no more "
            "than the machine has cores, and 1 for fewer than a thousand sessions."
        )
