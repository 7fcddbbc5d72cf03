"""BOUNDARY: `action="text"`, an answer such as "3, 17, 5", and what replaces an unreadable one.

The grammar: `answer = number {"," number}`, with blanks or line breaks around numbers and commas;
`number` is 1 to 9 digits 0-9. A slate of k items is k different numbers of candidates, counted from
1. Everything else is unreadable, and shows the slate of a named policy.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from gymnasium import spaces

from llmrec_env.simulation import noise
from llmrec_env.simulation.compilation import kernel

PROBLEMS = (
    "",
    "too long",
    "not numbers",
    "unknown number",
    "repeated number",
    "too few numbers",
    "too many numbers",
)
"""Why an answer could not be read, by code; code 0: it was."""

LONGEST_ANSWER = 1_000
"""Characters of the longest answer that is read at all."""

_TOO_LONG, _NOT_NUMBERS, _UNKNOWN, _REPEATED, _TOO_FEW, _TOO_MANY = range(1, len(PROBLEMS))
_BLANK = r"[ \t\r\n]*"
_ANSWER = re.compile(rf"{_BLANK}[0-9]{{1,9}}(?:{_BLANK},{_BLANK}[0-9]{{1,9}})*{_BLANK}")


def answer_space(slate_size: int, size: int) -> spaces.Text:
    """Returns the space of answers that are lists of numbers; others are read as unreadable."""
    longest = slate_size * (len(str(size)) + 2)
    return spaces.Text(longest, min_length=0, charset="0123456789, ")


def read_answer(answer: str, slate_size: int, size: int) -> tuple[list[int], int]:
    """Returns the indices of the candidates that an answer names, and a code of PROBLEMS.

    Args:
        answer: any text.
        slate_size: k, how many it must name.
        size: how many candidates there are.
    """
    if len(answer) > LONGEST_ANSWER:
        return [], _TOO_LONG
    if not _ANSWER.fullmatch(answer):
        return [], _NOT_NUMBERS
    indices = [int(number) - 1 for number in answer.split(",")]
    if not all(0 <= index < size for index in indices):
        return [], _UNKNOWN
    if len(set(indices)) < len(indices):
        return [], _REPEATED
    if len(indices) != slate_size:
        return [], _TOO_FEW if len(indices) < slate_size else _TOO_MANY
    return indices, 0


def read_answers(answers: Any, n: int, slate_size: int, size: int) -> npt.NDArray[np.int64]:
    """Returns the picks of n answers, (n, k); minus the code of its problem where one has none.

    Raises:
        TypeError: no strings.
        ValueError: not n of them.
    """
    if isinstance(answers, str) or not isinstance(answers, Sequence | np.ndarray):
        kind = type(answers).__name__
        raise TypeError(f"action is {kind}; action='text' needs one string for each of {n}.")
    if len(answers) != n:
        raise ValueError(f"action holds {len(answers)} answers; action='text' needs {n}.")
    picks = np.zeros((n, slate_size), np.int64)
    for i, answer in enumerate(answers):
        if not isinstance(answer, str):
            kind = type(answer).__name__
            raise TypeError(f"action holds {kind}; action='text' needs a string such as '3, 17'.")
        indices, problem = read_answer(answer, slate_size, size)
        picks[i] = -problem if problem else indices
    return picks


def settle(
    picks: npt.NDArray[np.int64],
    policy: str,
    ids: npt.NDArray[np.int32],
    users: npt.NDArray[np.void],
    popularity: npt.NDArray[np.float32],
) -> npt.NDArray[np.int64]:
    """Writes a policy's slates where answers were unreadable, and returns their codes, (n,).

    Args:
        picks: what `read_answers` returned, (n, k).
        policy: a name of FALLBACKS.
        ids: candidates, (n, c), -1 where one is missing; (n, 0): the whole catalogue.
        users: of the sessions, whose `noise_key` and `step` a random slate is drawn with, (n,).
        popularity: of every item.
    """
    problems = np.maximum(-picks[:, 0], 0)
    if ids.shape[1]:
        missing = np.take_along_axis(ids, np.maximum(picks, 0), 1) < 0
        problems[(problems == 0) & missing.any(axis=1)] = _UNKNOWN
    for i in np.flatnonzero(problems):
        offered = ids[i] if ids.shape[1] else np.arange(len(popularity), dtype=np.int32)
        best_first = FALLBACKS[policy](offered, users[i], popularity)
        picks[i] = best_first[offered[best_first] >= 0][: picks.shape[1]]
    return problems


Ranking = npt.NDArray[np.integer]
Policy = Callable[[npt.NDArray[np.int32], np.void, npt.NDArray[np.float32]], Ranking]


def _random(ids: npt.NDArray[np.int32], user: np.void, popularity: Any) -> Ranking:
    bits = np.empty(len(ids), np.uint64)
    hash_items(ids, user["noise_key"], user["step"], bits)
    return np.argsort(bits, kind="stable")


def _popular(ids: npt.NDArray[np.int32], user: Any, popularity: npt.NDArray[np.float32]) -> Ranking:
    return np.lexsort((ids, -popularity[ids]))


def _first(ids: npt.NDArray[np.int32], user: Any, popularity: Any) -> Ranking:
    return np.arange(len(ids))


FALLBACKS: dict[str, Policy] = {"random": _random, "popular": _popular, "first": _first}
"""Best candidates first, as indices: a random order of items, by popularity, as they are listed."""


@kernel
def hash_items(ids, session_key, step, bits):
    """Writes 64 random bits for each item, the same wherever it stands."""
    key = noise.step_key(noise.step_key(session_key, step), noise.EXPLORE)
    for c in range(ids.shape[0]):
        bits[c] = noise.hashed(key, ids[c])
