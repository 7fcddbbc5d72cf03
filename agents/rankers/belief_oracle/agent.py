"""Agent that knows the simulation, and of its users what their public history tells."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from agents.rankers.belief_oracle.belief import Belief
from agents.rankers.belief_oracle.knowledge import draw_pool, knowledge_of
from agents.rankers.oracles import Lookahead, warn_of_response
from agents.saving import write_agent
from llmrec_env.envs.vector import RecVectorEnv
from llmrec_env.interface.observation import SESSION_NUMBERS
from llmrec_env.simulation import noise

_LIMITS = {"particles": (1, 10_000), "moves": (0, 10_000)}
_LONGEST = 2_000  # steps of a session: trajectories are kept whole
_PROGRESS = SESSION_NUMBERS.index("progress")


class BeliefOracle:
    """Maximises the mean value of a slate over a belief about who the user is.

    Of the environment it is attached to it reads what is fixed about the world; of users, the
    observations.
    """

    name = "belief-oracle"
    observation = "dict"
    action = "slate"

    def __init__(
        self, seed: int = 0, particles: int = 40, moves: int = 10, **lookahead: float
    ) -> None:
        """Takes the size of the belief, and what consumption is worth beyond the step.

        Args:
            seed: of what it draws.
            particles: hypotheses about each user.
            moves: tried with each of them at each step.
            **lookahead: fields of Lookahead.

        Raises:
            ValueError: a size out of range.
        """
        for name, value in (("particles", particles), ("moves", moves)):
            low, high = _LIMITS[name]
            whole = isinstance(value, int) and not isinstance(value, bool)
            if not whole or not low <= value <= high:
                raise ValueError(
                    f"{name} of the belief oracle is {value!r}; give a whole number from {low} to "
                    f"{high:,}."
                )
        self.seed, self.particles, self.moves = seed, particles, moves
        self.lookahead = Lookahead(**lookahead)
        self._beliefs: dict[int, Belief] = {}
        self._users: dict[int, int] = {}

    def fit(self, env: RecVectorEnv, num_steps: int) -> None:
        """Learns nothing: it knows the simulation."""

    def attach(self, env: RecVectorEnv) -> None:
        """Receives the environment of whose world it knows everything but the users.

        Raises:
            ValueError: sessions are too long to keep whole trajectories of them.
        """
        config, world = env.config, env.simulator.world
        warn_of_response(config)
        if config.horizon > _LONGEST:
            raise ValueError(
                f"horizon={config.horizon:,}: the belief oracle keeps whole trajectories, of "
                f"{_LONGEST:,} steps at most; give the environment a shorter horizon."
            )
        self._config, self._known = config, knowledge_of(world, config.slate_size)
        self._pool = draw_pool(config, world, self.seed)
        self._beliefs, self._users = {}, {}

    def act(self, observation: Any, episode_starts: npt.NDArray[np.bool_]) -> npt.NDArray[np.int64]:
        """Returns candidate indices, (n, k)."""
        k = self._config.slate_size
        slates = np.empty((len(episode_starts), k), np.int64)
        for i in range(len(episode_starts)):
            user, begins = int(observation["user_id"][i]), bool(episode_starts[i])
            begins |= observation["session"][i, _PROGRESS] == 0.0
            if begins or self._users.get(i) != user:
                self._begin(i, user)
                logged = int((observation["recent_slates"][i, :, 0] >= 0).sum())
                self._beliefs[i].begin_session(logged)
                newest = range(logged - 1, -1, -1)
            else:
                newest = range(1)
            for j in newest:
                self._beliefs[i].follow(*_step_of(observation, i, j))
            slates[i] = self._beliefs[i].slate(observation["candidates"][i], self.lookahead, k)
        return slates

    def _begin(self, i: int, user: int) -> None:
        key = int(noise.step_key(np.uint64(self.seed), user))
        self._users[i] = user
        self._beliefs[i] = Belief(
            self._config, self._known, self._pool, self.particles, self.moves, key
        )

    def belief(self, observation: Any) -> npt.NDArray[np.float32]:
        """Returns the mean interest vector that it holds of each session, (n, d)."""
        return np.stack([self._beliefs[i].interest() for i in range(len(observation["user_id"]))])

    def save(self, path: Path) -> None:
        """Writes its settings and the lookahead."""
        settings = {"seed": self.seed, "particles": self.particles, "moves": self.moves}
        write_agent(path, self.name, settings, {"lookahead": np.array(self.lookahead)})

    def load(self, weights: Mapping[str, npt.NDArray[Any]], env: RecVectorEnv) -> None:
        """Takes the lookahead; `attach` gives it a world to know."""
        self.lookahead = Lookahead(*weights["lookahead"].tolist())


def _step_of(observation: Any, i: int, j: int) -> tuple[Any, Any, int]:
    """Returns slate, feedback and query of the j-th newest step of session i."""
    slate = np.ascontiguousarray(observation["recent_slates"][i, j])
    if "recent_feedback" in observation:
        feedback = np.ascontiguousarray(observation["recent_feedback"][i, j])
    else:
        consumed = slate == observation["recent_items"][i, j]
        satisfied = observation["recent_satisfied"][i, j]
        feedback = np.where(consumed, satisfied, -1).astype(np.int32)
    return slate, feedback, int(observation["recent_queries"][i, j])
