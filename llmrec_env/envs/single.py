"""Gymnasium environment of one session: a batch of one."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, ClassVar

import gymnasium
import numpy as np
import numpy.typing as npt
from gymnasium.envs.registration import EnvSpec

from llmrec_env.config import ConfigError, EnvConfig, unknown
from llmrec_env.envs.description import describe
from llmrec_env.envs.rendering import SessionRecorder, as_image, as_text
from llmrec_env.envs.spaces import Observation, info_of, observation_of, observation_space
from llmrec_env.simulation.simulator import Simulator
from llmrec_env.world import PublicData

_ONLY = np.zeros(1, np.intp)


class RecEnv(gymnasium.Env[Observation, Any]):
    """A recommender meets users whose interests are texts, and drift.

    ## Description
    A user holds a handful of interests, each a phrase with a weight. At every step the agent shows
    a slate of items; the user consumes one of them or none (with `response="cascade"` any number
    in the order shown), is satisfied by each or not, and changes:
    interests wander, die and are born, grow with what satisfies and with what is merely shown;
    what was just consumed tires; items without substance are clicked more and regretted later.
    All texts are encoded by a language model, once.

    ## Action space
    `action="slate"` (default): `MultiDiscrete([C] * K)`, slot k picks a candidate, a candidate
    picked twice becomes the next best free one. `"item"`: `Discrete(C)`, with K = 1.
    `"weights"`: `Box(-1, 1, (8,))`, offsets to the weights of a ranking over candidate features;
    zero is a content ranker. `"query"`: `Box(-1, 1, (q,))`, a step away from the observed interest,
    of which the nearest candidates are shown. `"recipe"`: `Discrete(32)`, a named slate recipe.
    `"text"`: `Text`, numbers of candidates such as "3, 17, 5, 1, 9"; what cannot be read shows what
    `text_fallback` names, and `info["parse_error"]` is 1.
    The C candidates are drawn uniformly at every step, the same for every agent on a seed.

    ## Observation space
    `observation="vector"` (default): a float32 `Box`: the leading `observation_dim` components of
    six unit vectors (interest, recent interest, satiation estimate, skipped slates, last query,
    last item), ten session numbers, and with actions that pick candidates their features,
    (C, 8) flattened; where items age, C numbers more say how fresh each is, where users mind
    creators, C more how familiar they are with who made it, and where users type instructions, two
    such vectors and a number encode them. `"dict"`: the same blocks by name with vectors of full
    length, and `user_id`, `candidates`, `candidate_features`, `candidate_freshness` where items
    age, `candidate_familiarity` where users mind creators, `history`, `history_feedback`, and of
    each of the last 32 steps, newest first, `recent_slates`, `recent_items`, `recent_satisfied`,
    `recent_queries` (-1: none); where users type instructions also `recent_instructions`, and
    `instruction_more`, `instruction_enough` and `instruction_clickbait`, which encode them. With
    `response="cascade"` items and satisfied are those of the last consumption of a step, and
    `recent_feedback` (32, K) tells of every slot. `"text"`: a prompt of at most `text_budget`
    characters that tells the same steps and the candidates by their titles; `info` counts what the
    budget cut. Nothing hidden is in any.

    ## Rewards
    R = z f(v, y): satisfaction z in {0, 1} times the relevance of the consumed item y to the user's
    current interests and taste v; summed if there are several. f = 1 is the best the texts have for
    the strongest interest.

    ## Starting state
    A user of the `split` after W logged slates; `options={"user_id": ...}` chooses the user.

    ## Episode end
    Terminated: the user's patience is used up. Truncated: after `horizon` steps, of which
    `spec.max_episode_steps` tells wrappers such as `TimeAwareObservation`.

    ## Arguments
    Every field of `EnvConfig`, by name: `gymnasium.make("llmrec/Drift-v1", horizon=50)`. The ids
    are settings of it: `llmrec_env.TASKS`.

    ## Version history
    * v1: taste is part of relevance, which the reward pays for, and half of it is shared within
      facets; 10,000 users; the bundled catalogue comes encoded.
    * v0: initial version.
    """

    metadata: ClassVar[dict[str, Any]] = {  # type: ignore[override]
        "render_modes": ["ansi", "rgb_array"],
        "render_fps": 4,
    }

    def __init__(self, render_mode: str | None = None, **kwargs: Any) -> None:
        """Builds the environment; the world behind it is shared by all environments of the process.

        Raises:
            ConfigError: a field or the render mode is unknown, or a field is out of range.
        """
        self.render_mode = checked_render_mode(render_mode)
        self.config = EnvConfig.from_kwargs(kwargs)
        self.simulator = Simulator(self.config, 1)
        self.action_space = self.simulator.mode.space
        self.observation_space = observation_space(self.simulator)
        self._recorder = SessionRecorder(self.simulator) if render_mode else None
        self._running = self._begun = False
        self._spec: EnvSpec | None = None

    @property
    def spec(self) -> EnvSpec | None:  # type: ignore[override]
        """How `gymnasium.make` made the environment, with `horizon` as its `max_episode_steps`.

        Wrappers and clients read the limit there. In the registration it would hold for every
        `horizon`, and cut the longer ones.
        """
        return self._spec

    @spec.setter
    def spec(self, spec: EnvSpec | None) -> None:  # type: ignore[override]
        limit = self.config.horizon
        self._spec = spec and dataclasses.replace(spec, max_episode_steps=limit)

    def public_data(self) -> PublicData:
        """Returns what an agent may learn from beside its observations: texts and training logs."""
        return self.simulator.world.public()

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Observation, dict[str, Any]]:
        """Begins a session.

        Args:
            seed: starts the generator that draws users and noise keys.
            options: `{"user_id": id}` chooses the user.

        Raises:
            TypeError: options that are no dict.
            ValueError: an unknown option, or a user who does not exist.
        """
        chosen = checked_options(options, ("user_id",)).get("user_id")
        if chosen is not None:
            chosen = checked_user(chosen, self.config.num_users)
        super().reset(seed=seed)
        user_id, noise_key = self.simulator.draw_session(self.np_random)
        user_id = user_id if chosen is None else chosen
        self.simulator.start(_ONLY, np.array([user_id]), np.array([noise_key], np.uint64))
        self.simulator.show(_ONLY)
        self._running = self._begun = True
        if self._recorder:
            self._recorder.restart()
        return observation_of(self.simulator, 0), info_of(self.simulator, 0)

    def step(self, action: Any) -> tuple[Observation, float, bool, bool, dict[str, Any]]:
        """Shows a slate and returns (observation, reward, terminated, truncated, info).

        Raises:
            RuntimeError: before `reset`, or after the session has ended.
            TypeError: an action of the wrong dtype.
            ValueError: an action of the wrong shape, or outside the space.
        """
        if not self._running:
            raise RuntimeError("step() was called without a running session; call reset() first.")
        batch = [action] if self.config.action == "text" else np.asarray(action)[None]
        reward = float(self.simulator.step(batch)[0])
        terminated, truncated = map(bool, self.simulator.ends.item(0))
        self._running = not (terminated or truncated)
        if self._recorder:
            self._recorder.record(reward)
        observation = observation_of(self.simulator, 0)
        return observation, reward, terminated, truncated, info_of(self.simulator, 0)

    def describe(self) -> str:
        """Returns the session's user in plain sentences: hidden truth, before or after drift.

        `info_texts=True` puts the same into every `info` as `description`, and the events of the
        step as `events`, a line each.

        Raises:
            RuntimeError: before the first `reset`.
        """
        if not self._begun:
            raise RuntimeError("describe() was called before reset(); call reset() first.")
        told = self.simulator.buffers.instructions[0]
        return describe(self.simulator.world, self.simulator.users[0], told)

    def render(self) -> str | npt.NDArray[np.uint8] | None:  # type: ignore[override]
        """Returns the session so far as text (`ansi`) or as a picture (`rgb_array`, (h, w, 3))."""
        if self._recorder is None:
            gymnasium.logger.warn("render() needs gymnasium.make(id, render_mode='ansi').")
            return None
        if self.render_mode == "ansi":
            return as_text(self._recorder)
        return as_image(self._recorder)


def checked_render_mode(mode: str | None) -> str | None:
    """Returns the render mode.

    Raises:
        ConfigError: neither None nor one of those declared.
    """
    modes = RecEnv.metadata["render_modes"]
    if mode is not None and mode not in modes:
        allowed = ", ".join(map(repr, modes))
        raise ConfigError(f"render_mode={mode!r} is not supported; allowed: None, {allowed}.")
    return mode


def checked_options(options: Mapping[str, Any] | None, allowed: tuple[str, ...]) -> dict[str, Any]:
    """Returns the options of a reset as a dict.

    Raises:
        TypeError: the options are no mapping.
        ValueError: an option is none of those allowed.
    """
    if options is not None and not isinstance(options, Mapping):
        raise TypeError(f"options={options!r} is not a dict; write options={{'user_id': 3}}.")
    for name in options or {}:
        if name not in allowed:
            raise ValueError(unknown("option of reset():", name, list(allowed)))
    return dict(options or {})


def checked_user(user_id: Any, num_users: int) -> int:
    """Returns a user id as int.

    Raises:
        ValueError: it is not an id of this world.
    """
    if isinstance(user_id, bool) or not isinstance(user_id, int | np.integer):
        raise ValueError(f"options['user_id']={user_id!r} is not an integer.")
    if not 0 <= user_id < num_users:
        raise ValueError(
            f"options['user_id']={user_id} does not exist; allowed: 0 to {num_users - 1}."
        )
    return int(user_id)
