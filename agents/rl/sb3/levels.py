"""Actions on a belief: a policy says how far to look, or where else, and a slate follows.

env = make_sb3_env("llmrec/Drift-v1", action="slate", observation="dict")
model = PPO("MlpPolicy", on_belief(env, "runs/slateq"))

The belief appraises its candidates, and
a slate maximises Σ_k P(choose k) · value of k, where the value is the expected reward plus

- what is worth something beyond the step, by the `levels` that the policy sets; or
- the same by hand-set levels, of an interest that the policy moves: `query`; or
- what a `slateq` learnt of the future, and a `residual` of its values: what it is worth that the
  belief is unsure of a candidate, that a choice would tell much, and what levels move.

At action 0 everything is hand-set, or the slateq's own slates: that is where a policy begins, and
what it has to improve on.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from gymnasium import spaces

from agents.rankers.ranker import Floats, score
from agents.rl.belief_models import BeliefModel, Source, open_model
from agents.rl.beliefs import Appraisal, Belief, SlateqBelief
from agents.rl.sb3.belief_wrapper import BeliefWrapper
from agents.rl.sb3.wrappers import PolicyInput
from agents.slates import SLATES
from llmrec_env.config import EnvConfig, unknown
from llmrec_env.envs.vector import RecVectorEnv
from llmrec_env.interface.actions import query_dim
from llmrec_env.interface.observation import SESSION_NUMBERS
from llmrec_env.sb3 import Sb3VecEnv

Bools = npt.NDArray[np.bool_]

LEVELS = {
    "substance": (0.16, 0.3),
    "pleasure": (0.18, 0.3),
    "satiation": (0.07, 0.1),
    "diversity": (0.10, 0.1),
}
"""What is worth something beyond the step, in reward: the hand-set level, and how far an action of
1 moves it. Goodwill lasts (substance), patience lasts (pleasure), what is had often tires
(satiation, a cost), and so does what is alike on a slate (diversity, a cost)."""
RESIDUALS = {
    "interest_deviation": 0.5,
    "taste_deviation": 0.6,
    "information": 0.6,
    "satisfaction": 0.3,
    "satiation": 0.15,
    "substance": 0.3,
}
"""How much a candidate that has 1 more of it is worth beside its value, in reward, by an action of
1; at action 0 nothing. See `Outlook` and `Appraisal`."""
ACTIONS = ("levels", "query", "residual")
BLOCKS = ("session", "belief", "interest")
"""Parts of what a policy sees; a blind twin sees none of them."""
_REACH = 0.5  # relevance that a full action along an item's vector adds to it
_TOLD = ("recent", "skipped", "query")  # directions of public history beside the belief's
_CLIP = 10.0


def belief_input(
    model: BeliefModel, env: RecVectorEnv, action: str, ablated: Sequence[str]
) -> PolicyInput:
    """Returns what is seen of a belief, and slates of what is done with it."""
    interface = BeliefInterface(model.belief.fresh(), env.config, action, ablated)
    return PolicyInput(
        interface.space,
        interface.encode,
        lambda wrapped: BeliefWrapper(Sb3VecEnv(wrapped), interface.fresh()),
        interface.actions,
        interface.slates,
    )


class BeliefInterface:
    """What a policy sees of a belief, and what its actions become."""

    def __init__(
        self, belief: Belief, config: EnvConfig, action: str = "levels", ablated: Sequence[str] = ()
    ) -> None:
        """Takes the belief, the environment's configuration, and one of ACTIONS.

        Args:
            belief: follows the sessions.
            config: of an environment of slates with `dict` observations.
            action: what is moved: the levels, the interest, or the values of a slateq.
            ablated: blocks that are shown as 0; all BLOCKS: a blind twin.

        Raises:
            ValueError: there is no such action or block, the environment has other modes, or the
                belief cannot do it.
        """
        if action == "residual" and not isinstance(belief, SlateqBelief):
            raise ValueError(
                "action='residual' moves the values of a slateq; write belief=FOLDER of one, or "
                "action='levels', which moves those of a joint too."
            )
        if action not in ACTIONS:
            raise ValueError(unknown("action on a belief", action, list(ACTIONS)))
        for block in ablated:
            if block not in BLOCKS:
                raise ValueError(unknown("observation block", block, list(BLOCKS)))
        if (config.action, config.observation) != ("slate", "dict"):
            raise ValueError(
                f"the environment has action={config.action!r}, observation="
                f"{config.observation!r}; a belief needs action='slate', observation='dict'."
            )
        self.belief, self.config, self.action = belief, config, action
        self.ablated = tuple(ablated)
        self._dim = query_dim(config)
        sizes = {"levels": len(LEVELS), "query": self._dim, "residual": len(RESIDUALS)}
        size = sizes[action]
        self.actions = spaces.Box(-1.0, 1.0, (size,), np.float32)
        length = len(SESSION_NUMBERS) + 2 * len(Appraisal._fields) + belief.num_certainties
        length += (1 + len(_TOLD)) * self._dim * (action == "query")
        self.space = spaces.Box(-_CLIP, _CLIP, (length,), np.float32)
        self._middle, self._half = np.array([*LEVELS.values()]).T
        self._examined = np.arange(1, config.slate_size + 1) ** -belief.position

    def fresh(self) -> BeliefInterface:
        """Returns the same for other sessions."""
        return BeliefInterface(self.belief.fresh(), self.config, self.action, self.ablated)

    def encode(self, observation: Any, starts: Bools) -> Floats:
        """Follows the sessions, and returns what the policy sees of them, (n, length).

        Args:
            observation: of n sessions.
            starts: whether each is the first of its session, (n,).
        """
        self.belief.observe(observation, starts)
        self._seen, self._candidates = self.belief.appraise(), observation["candidates"]
        told = summary(self._seen, self.belief.certainty())
        blocks = {"session": observation["session"], "belief": told}
        if self.action == "query":
            blocks["interest"] = self._directions(observation)
        shown = [x * (name not in self.ablated) for name, x in blocks.items()]
        return np.clip(np.hstack(shown), -_CLIP, _CLIP).astype(np.float32)

    def _directions(self, observation: Any) -> npt.NDArray[np.floating]:
        """Where the interest is believed to lie, and what public history tells of it."""
        interest = self.belief.interest()
        unit = interest / (np.linalg.norm(interest, axis=1, keepdims=True) + 1e-9)
        told = [observation[name][:, : self._dim] for name in _TOLD]
        return np.hstack([unit[:, : self._dim], *told])

    def slates(self, actions: npt.NDArray[Any]) -> npt.NDArray[np.int64]:
        """Returns the slates that actions, (n, a), stand for in what was encoded last, (n, k).

        Raises:
            ValueError: actions of another shape, or outside the box.
        """
        actions = self._checked(actions)
        if self.action == "residual":
            return self._moved(actions)
        seen, levels = self._seen, np.tile(self._middle, (len(actions), 1))
        if self.action == "levels":
            levels = np.maximum(levels + self._half * actions, 0.0)
        elif actions.any():
            residual = _REACH * actions.astype(np.float32)
            hints = score(residual, self._candidates, self.belief.vectors).astype(np.float64)
            seen = self.belief.appraise(hints)
        substance, pleasure, satiation, diversity = levels.T[:, :, None]
        value = seen.reward + substance * seen.substance - satiation * seen.satiation
        value += pleasure * (seen.satisfaction - 0.5)
        make, vectors = SLATES["greedy"], self.belief.vectors
        return make(seen.odds, value, self._examined, self._candidates, vectors, diversity[:, 0])

    def _moved(self, actions: npt.NDArray[np.float64]) -> npt.NDArray[np.int64]:
        """The slates of a slateq whose values are moved."""
        belief = self.belief
        assert isinstance(belief, SlateqBelief)  # checked at the start
        known = self._seen._asdict() | belief.outlook()._asdict()
        columns = np.stack([reach * known[name] for name, reach in RESIDUALS.items()])
        return belief.slates(np.einsum("rnc,nr->nc", columns, actions))

    def _checked(self, actions: npt.ArrayLike) -> npt.NDArray[np.float64]:
        array, shape = np.asarray(actions, np.float64), (len(self._candidates), *self.actions.shape)
        if array.shape != shape:
            raise ValueError(
                f"action has shape {array.shape}; {self.action!r} of {shape[0]} sessions needs "
                f"{shape}."
            )
        if not (np.abs(array) <= 1.0 + 1e-6).all():
            names = {"levels": ", ".join(LEVELS), "residual": ", ".join(RESIDUALS)}
            named = names.get(self.action, "a residual of the interest")
            raise ValueError(
                f"{self.action} ({named}) need finite values in [-1, 1]; the largest absolute "
                f"value is {np.abs(array).max()}. Clip the action, or squash it with tanh."
            )
        return array


def summary(seen: Appraisal, certainty: Floats) -> npt.NDArray[np.floating]:
    """Returns what candidates are like, those of higher odds counting more, the best, certainty."""
    odds = seen.odds
    columns = np.stack([0.2 * np.log(odds + 1e-6), *seen[1:]])  # (5, n, c)
    means = (columns * odds).sum(axis=2) / (odds.sum(axis=1) + 1e-9)
    largest = np.where(odds > 0, columns, -1.0).max(axis=2)
    return np.hstack([means.T, largest.T, certainty])


def on_belief(
    venv: Sb3VecEnv,
    source: Source,
    action: str = "levels",
    ablated: Sequence[str] = (),
    seed: int = 0,
) -> BeliefWrapper:
    """Returns an SB3 environment that shows what is believed, and takes actions on it.

    Args:
        venv: of slates with `dict` observations.
        source: of the belief: a folder of a saved slateq or joint, or `joint`.
        action: what a policy moves, of ACTIONS.
        ablated: of BLOCKS, those that are shown as 0.
        seed: of a joint that is fitted to the logs.

    Raises:
        WorldError: the belief was trained in another world.
        ValueError: there is none, it was made for other items, or the environment has other modes.
    """
    belief = open_model(source, venv.env, seed, {}).belief
    return BeliefWrapper(venv, BeliefInterface(belief, venv.env.config, action, ablated))
