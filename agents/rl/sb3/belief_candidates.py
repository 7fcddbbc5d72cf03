"""Candidates as a belief appraises them, for a pointer policy that begins with its agent's slates.

env = make_sb3_env("llmrec/Drift-v1", action="slate", observation="dict")
wrapped = candidates_on_belief(env, "runs/slateq")
model = PPO(PointerPolicy, wrapped, policy_kwargs=wrapped.interface.policy_kwargs())

The first column is what a place on the slate is worth to the agent whose belief it is: a policy
whose other weights are 0 shows that agent's slates, to the item. The others say what a candidate
would gain if what it is like were worth something: what is learnt is a residual of its value.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from gymnasium import spaces

from agents.features import described
from agents.rankers.ranker import Floats
from agents.rl.belief_models import BeliefModel, Source, open_model
from agents.rl.beliefs import Appraisal, Outlook, SlateqBelief
from agents.rl.sb3.belief_wrapper import BeliefWrapper
from agents.rl.sb3.levels import summary
from agents.rl.sb3.wrappers import PolicyInput
from llmrec_env.config import EnvConfig, unknown
from llmrec_env.envs.vector import RecVectorEnv
from llmrec_env.interface.actions import CONTENT_PLAN
from llmrec_env.interface.candidates import FEATURES, blocks_added
from llmrec_env.interface.observation import SESSION_NUMBERS
from llmrec_env.sb3 import Sb3VecEnv

Bools = npt.NDArray[np.bool_]
BLOCKS = ("session", "belief", "outlook", "candidate_features")
"""Parts of what a policy sees: two about the user, two about candidates. Without the first two its
weights are the same in every state; without `outlook` it sees public features alone."""
_GAIN = 20.0  # by which gains in reward are multiplied; the best are some hundredths
_LEAST = -10.0  # gain of what is not offered
_SCALE = 10.0  # by which these are multiplied: draws from the softmax keep 97 % of the gain
_EMBEDDING = 2  # numbers that a user is reduced to: rewards are too noisy for more weights
_COLUMNS = (
    "gain",
    "share",
    "interest_deviation",
    "taste_deviation",
    "information",
    "likeness",
    "satisfaction",
    "satiation",
    "substance",
)


class BeliefCandidates:
    """What a pointer policy sees of a belief; its actions are slates."""

    def __init__(
        self, belief: SlateqBelief, config: EnvConfig, ablated: Sequence[str] = ()
    ) -> None:
        """Takes the belief, the environment's configuration, and blocks that are shown as 0.

        Raises:
            ValueError: there is no such block, or the whole catalogue is offered.
        """
        for block in ablated:
            if block not in BLOCKS:
                raise ValueError(unknown("observation block", block, list(BLOCKS)))
        if config.candidates == 0:
            raise ValueError("candidates=0 offers the whole catalogue; set candidates=100.")
        self.belief, self.config, self.ablated = belief, config, tuple(ablated)
        added = (name.removeprefix("candidate_") for name in blocks_added(config))
        self.columns = (*_COLUMNS, *FEATURES, *added)
        self.actions = spaces.MultiDiscrete([config.candidates] * config.slate_size)
        user = len(SESSION_NUMBERS) + 2 * len(Appraisal._fields) + belief.num_certainties + 1
        length = user + config.candidates * len(self.columns)
        self.space = spaces.Box(-np.inf, np.inf, (length,), np.float32)

    def fresh(self) -> BeliefCandidates:
        """Returns the same for other sessions."""
        return BeliefCandidates(self.belief.fresh(), self.config, self.ablated)

    def policy_kwargs(self) -> dict[str, Any]:
        """Returns what `PointerPolicy` must know of the columns, as plain data.

        Without `outlook` it starts from a content ranking.
        """
        weights: dict[str, float] = {"gain": 1.0}
        if "outlook" in self.ablated:
            weights = dict(zip(FEATURES, CONTENT_PLAN.tolist(), strict=False))
        start = [weights.get(name, 0.0) for name in self.columns]
        return {
            "candidates": self.config.candidates,
            "features": len(self.columns),
            "start": start,
            "scale": _SCALE,
            "embedding": _EMBEDDING,
            "hidden": 1,
        }

    def encode(self, observation: Any, starts: Bools) -> Floats:
        """Follows the sessions, and returns what the policy sees of them, (n, length).

        Args:
            observation: of n sessions.
            starts: whether each is the first of its session, (n,).
        """
        self.belief.observe(observation, starts)
        seen, outlook, n = self.belief.appraise(), self.belief.outlook(), len(starts)
        best = outlook.gains.gain.max(axis=1, keepdims=True)
        public = _GAIN * described(observation)
        if "outlook" not in self.ablated:
            public = np.dstack([outlook.gains.of(x) for x in np.moveaxis(public, -1, 0)])
        blocks = {
            "session": observation["session"],
            "belief": np.hstack([summary(seen, self.belief.certainty()), _GAIN * best]),
            "outlook": _table(seen, outlook),
            "candidate_features": public,
        }
        shown = {name: x * (name not in self.ablated) for name, x in blocks.items()}
        table = np.dstack([shown["outlook"], shown["candidate_features"]]).reshape(n, -1)
        return np.hstack([shown["session"], shown["belief"], table]).astype(np.float32)

    def slates(self, actions: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """Returns the slates that actions stand for: themselves."""
        return actions


def pointer_input(model: BeliefModel, env: RecVectorEnv, ablated: Sequence[str]) -> PolicyInput:
    """Returns candidates as a belief appraises them, for a pointer policy.

    Raises:
        ValueError: see `BeliefCandidates`, or the belief is no slateq's.
    """
    interface = BeliefCandidates(slateq_belief(model).fresh(), env.config, ablated)
    return PolicyInput(
        interface.space,
        interface.encode,
        lambda wrapped: BeliefWrapper(Sb3VecEnv(wrapped), interface.fresh()),
        policy_kwargs=interface.policy_kwargs(),
    )


def candidates_on_belief(
    venv: Sb3VecEnv, source: Source, ablated: Sequence[str] = ()
) -> BeliefWrapper:
    """Returns an SB3 environment that shows candidates as a slateq appraises them.

    Args:
        venv: of slates with `dict` observations.
        source: of the belief: a folder of a saved slateq.
        ablated: of BLOCKS, those that are shown as 0.

    Raises:
        WorldError: the belief was trained in another world.
        ValueError: there is none, it is no slateq's, or it was made for other items.
    """
    belief = slateq_belief(open_model(source, venv.env, 0, {}))
    return BeliefWrapper(venv, BeliefCandidates(belief, venv.env.config, ablated))


def slateq_belief(model: BeliefModel) -> SlateqBelief:
    """Returns the belief of a model if it says what its agent would show.

    Raises:
        ValueError: it does not.
    """
    if not isinstance(model.belief, SlateqBelief):
        raise ValueError(
            f"belief is a {model.record['agent']}'s, which does not say how unsure it is of a "
            "candidate; a pointer acts on that of a slateq: belief=runs/slateq."
        )
    return model.belief


def _table(seen: Appraisal, outlook: Outlook) -> npt.NDArray[np.float64]:
    """What candidates gain, and what they would gain if each column were worth 1, (n, c, ...)."""
    gains, *unsure = outlook
    ones = np.ones_like(gains.gain)
    worth = [ones, *unsure, seen.satisfaction, seen.satiation, seen.substance]
    return _GAIN * np.dstack([np.maximum(gains.gain, _LEAST), *(gains.of(x) for x in worth)])
