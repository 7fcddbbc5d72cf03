"""BOUNDARY: familiarity of a user with the creators of items, as the public history tells it.

F(c) = 1 - exp(-sum of .97^a) over the items of creator c that satisfied, a the number of items
consumed since: the share of a creator in the long interest of an observation, bent to [0, 1).
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from llmrec_env.interface.history import (
    EMPTY,
    HISTORY,
    HISTORY_LENGTH,
    QUERY,
    SATISFIED,
    slot_feedback,
)
from llmrec_env.simulation.compilation import inlined, kernel
from llmrec_env.simulation.elementary import one_minus_exp32
from llmrec_env.simulation.records import compiled_view

_SLOW = np.float32(0.97)  # as the interest of an observation ages


def candidate_familiarity(
    histories: npt.NDArray[np.void], creator: npt.NDArray[np.int32], ids: npt.NDArray[np.int32]
) -> npt.NDArray[np.float32]:
    """Returns how familiar users are with the creators of candidates, in [0, 1), (n, c).

    Args:
        histories: public histories, (n,).
        creator: of the items, (items,).
        ids: of the candidates, (n, c), -1 for none: 0.
    """
    out = np.empty(ids.shape, np.float32)
    totals = np.empty(int(creator.max()) + 1, np.float32)
    write_familiarity(compiled_view(histories, HISTORY), creator, ids, totals, out)
    return out


@kernel
def write_familiarity(histories, creator, ids, totals, out):
    """Writes the familiarity with each candidate's creator, (n, c); `totals` is scratch."""
    for i in range(ids.shape[0]):
        add_up(histories[i], creator, totals)
        for c in range(ids.shape[1]):
            item = ids[i, c]
            out[i, c] = one_minus_exp32(totals[creator[item]]) if item >= 0 else np.float32(0.0)


@inlined
def add_up(history, creator, totals):
    """Writes the sum of .97^a of each creator over what satisfied, (creators,)."""
    weight = np.float32(1.0)
    totals[:] = 0.0
    for j in range(min(history.num_entries, HISTORY_LENGTH)):
        index = (history.num_entries - 1 - j) % HISTORY_LENGTH
        kind = history.feedback[index]
        if kind == SATISFIED:
            totals[creator[history.item[index]]] += weight
        if kind != QUERY:
            weight *= _SLOW


def recent_familiarity(
    observation: Any, creator: npt.NDArray[np.int32], count: int
) -> npt.NDArray[np.float32]:
    """Returns the familiarity with the creators of recent slates before each step, (n, s, K).

    Newest first, as `recent_slates`. What the history has forgotten since is missing in it.

    Args:
        observation: batch of n `dict` observations.
        creator: of the items, (items,).
        count: s, steps, the newest ones.
    """
    names = ("recent_slates", "recent_items", "recent_satisfied")
    slates, items, satisfied = (observation[name][:, :count] for name in names)
    if "recent_feedback" in observation:
        feedback = observation["recent_feedback"][:, :count]
    else:
        feedback = slot_feedback(slates, items, satisfied)
    out = np.empty(slates.shape, np.float32)
    totals = np.empty(int(creator.max()) + 1)
    history, kinds = observation["history"], observation["history_feedback"]
    _write_recent(history, kinds, slates, feedback, creator, totals, out)
    return out


@kernel
def _write_recent(history, kinds, slates, feedback, creator, totals, out):
    """Adds up as `add_up` does, then takes away step by step what came of it."""
    for i in range(slates.shape[0]):
        weight = 1.0
        totals[:] = 0.0
        for j in range(history.shape[1]):
            if kinds[i, j] == EMPTY:
                break
            if kinds[i, j] == SATISFIED:
                totals[creator[history[i, j]]] += weight
            if kinds[i, j] != QUERY:
                weight *= _SLOW
        for t in range(slates.shape[1]):
            for k in range(slates.shape[2] - 1, -1, -1):
                if slates[i, t, k] >= 0 and feedback[i, t, k] >= 0:
                    if feedback[i, t, k] == 1:
                        totals[creator[slates[i, t, k]]] -= 1.0
                    totals /= _SLOW
            for k in range(slates.shape[2]):
                item, total = slates[i, t, k], np.float32(0.0)
                if item >= 0:
                    total = np.float32(max(totals[creator[item]], 0.0))
                out[i, t, k] = one_minus_exp32(total)


def logged_familiarity(
    slates: npt.NDArray[np.int32],
    feedback: npt.NDArray[np.integer],
    creator: npt.NDArray[np.int32],
) -> npt.NDArray[np.float32]:
    """Returns the same of every slot that was logged, before its step, (U, W, K).

    Args:
        slates: of users of whom nothing is known before, oldest first, (U, W, K).
        feedback: of each slot, (U, W, K).
        creator: of the items, (items,).
    """
    out = np.empty(slates.shape, np.float32)
    totals = np.empty(int(creator.max()) + 1, np.float32)
    write_logged(slates, feedback, creator, totals, out)
    return out


@kernel
def write_logged(slates, feedback, creator, totals, out):
    """Writes the familiarity with each logged slot's creator; `totals` is scratch."""
    for i in range(slates.shape[0]):
        totals[:] = 0.0
        for t in range(slates.shape[1]):
            for k in range(slates.shape[2]):
                item = slates[i, t, k]
                out[i, t, k] = one_minus_exp32(totals[creator[item]]) if item >= 0 else 0.0
            for k in range(slates.shape[2]):
                if slates[i, t, k] >= 0 and feedback[i, t, k] >= 0:
                    totals *= _SLOW
                    if feedback[i, t, k] == 1:
                        totals[creator[slates[i, t, k]]] += np.float32(1.0)
