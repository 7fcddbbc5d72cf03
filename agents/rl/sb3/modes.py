"""Modes of SB3 agents: in which they can act, and what can be hidden from them."""

from __future__ import annotations

from typing import Any

from agents.features import CANDIDATE_BLOCKS, NEIGHBOURS, USER_BLOCKS
from agents.instructions import INSTRUCTIONS
from agents.rl.belief_models import check_source
from agents.rl.sb3 import belief_candidates, levels
from agents.rl.sb3_specs import ALGORITHMS, Algorithm
from llmrec_env.interface.observation import VECTOR_BLOCKS

BLOCKS = (*VECTOR_BLOCKS, "session", "candidates", INSTRUCTIONS)
"""Parts of a `vector` observation, in order."""
POINTER_SETTINGS = ("expert", "joint_features")  # not arguments of an SB3 algorithm


def checked_action(name: str, algorithm: Algorithm, action: str | None, belief: Any) -> str:
    """Returns the mode in which an agent acts; the first that it can, if none is asked for.

    Raises:
        ValueError: its algorithm cannot act in it, it needs a belief, or there is no such belief.
    """
    able = ("slate",) if algorithm.policy == "pointer" else levels.ACTIONS
    possible = [mode for mode in algorithm.actions if belief is None or mode in able]
    if not possible:
        numeric = [x for x, other in ALGORITHMS.items() if "levels" in other.actions]
        raise ValueError(
            f"{name} ({algorithm.class_name}) cannot act on belief={belief!r}, which takes numbers "
            f"in [-1, 1]; {', '.join(numeric)} can."
        )
    if action is None:
        action = "levels" if belief is not None and "levels" in possible else possible[0]
    if action not in possible:
        on = "" if belief is None else f" on belief={belief!r}"
        raise ValueError(
            f"{name} ({algorithm.class_name}) cannot act in action={action!r}{on}; it can in "
            f"{', '.join(possible)}."
        )
    if belief is not None:
        check_source(belief)
    elif action in ("levels", "residual"):
        raise ValueError(
            f"action={action!r} acts on what a trained agent believes, and belief is not given; "
            "write the folder of a saved slateq or joint, belief=runs/slateq, or belief=joint."
        )
    return action


def blocks_of(pointer: bool, believes: bool) -> tuple[str, ...]:
    """Returns what can be hidden of the observations of a policy."""
    if believes:
        return belief_candidates.BLOCKS if pointer else levels.BLOCKS
    return (*USER_BLOCKS, *CANDIDATE_BLOCKS, NEIGHBOURS, INSTRUCTIONS) if pointer else BLOCKS
