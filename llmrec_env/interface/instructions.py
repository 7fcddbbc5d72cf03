"""BOUNDARY: instructions that users type when their patience runs low, as texts and as blocks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from llmrec_env.simulation.compilation import inlined

MORE, ENOUGH, CLICKBAIT = 0, 1, 2
"""Kinds: more on a phrase, enough of a phrase, less clickbait."""

WORDINGS = (
    ("more on {}", "show me more on {}", "I miss {}", "anything on {}?"),
    ("enough of {} for today", "no more {} for now", "I have had my fill of {}", "not {} again"),
    (
        "less clickbait",
        "fewer teasers, more depth",
        "no more clickbait",
        "less bait, please",
    ),
)
"""Of each kind, chosen by the user's own random numbers."""
NUM_WORDINGS = len(WORDINGS[0])

BLOCKS = ("instruction_more", "instruction_enough", "instruction_clickbait")
"""Names of the blocks that encode what was typed, in the order of the kinds."""
FADING = (0.97, 0.85, 0.95)
"""What is left of an instruction after a step, by kind: as of an interest, satiation, goodwill."""


@inlined
def push(response, instructions, i):
    """Writes the instruction of a step, or that there was none, before those of earlier steps."""
    rows = instructions.shape[1]
    for j in range(rows - 1, 0, -1):
        for column in range(3):
            instructions[i, j, column] = instructions[i, j - 1, column]
    newest = instructions[i, 0]
    newest[0], newest[1], newest[2] = response.instruction, response.about, response.wording


def instruction_text(instruction: Sequence[int], phrases: Sequence[str]) -> str:
    """Returns what a user typed.

    Args:
        instruction: kind, id of the phrase (-1: it is about none) and number of the wording.
        phrases: texts by id.
    """
    kind, phrase, wording = instruction
    return WORDINGS[kind][wording].format(phrases[phrase] if phrase >= 0 else "")


def instruction_blocks(
    instructions: npt.NDArray[np.int32], phrase_vectors: npt.NDArray[np.float32]
) -> dict[str, npt.NDArray[np.float32]]:
    """Returns BLOCKS: vectors of the phrases of MORE and of ENOUGH, (n, d), and a number, (n, 1).

    Each is the sum over the newest steps of the phrases' vectors, faded by FADING for each step
    since, at most of length 1; of CLICKBAIT, which has no phrase, the largest of the numbers.

    Args:
        instructions: kind, phrase and wording of the newest steps, newest first, (n, 32, 3); -1
            where nothing was typed.
        phrase_vectors: unit rows, (phrases, d).
    """
    kinds, phrases = instructions[..., 0], instructions[..., 1]
    age = np.arange(kinds.shape[1], dtype=np.float32)
    faded = [(kinds == kind) * np.float32(left) ** age for kind, left in enumerate(FADING)]
    blocks: dict[str, Any] = {}
    for kind in (MORE, ENOUGH):
        total = np.zeros((len(kinds), phrase_vectors.shape[1]), np.float32)
        for i, j in zip(*np.nonzero(faded[kind]), strict=True):
            total[i] += faded[kind][i, j] * phrase_vectors[phrases[i, j]]
        length = np.sqrt((total**2).sum(axis=1, keepdims=True))
        blocks[BLOCKS[kind]] = total / np.maximum(length, np.float32(1.0))
    blocks[BLOCKS[CLICKBAIT]] = faded[CLICKBAIT].max(axis=1, keepdims=True)
    return blocks
