"""BOUNDARY: familiarity of a user with the creators of items, as the public history tells it.

F(c) = 1 - exp(-sum of .97^a) over the items of creator c that satisfied, a the number of items
consumed since: the share of a creator in the long interest of an observation, bent to [0, 1).
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from llmrec_env.interface.history import (
    HISTORY,
    HISTORY_LENGTH,
    QUERY,
    SATISFIED,
)
from llmrec_env.simulation.compilation import kernel
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
        history, weight = histories[i], np.float32(1.0)
        totals[:] = 0.0
        for j in range(min(history.num_entries, HISTORY_LENGTH)):
            index = (history.num_entries - 1 - j) % HISTORY_LENGTH
            kind = history.feedback[index]
            if kind == SATISFIED:
                totals[creator[history.item[index]]] += weight
            if kind != QUERY:
                weight *= _SLOW
        for c in range(ids.shape[1]):
            item = ids[i, c]
            out[i, c] = one_minus_exp32(totals[creator[item]]) if item >= 0 else np.float32(0.0)


def logged_familiarity(logs: Any, creator: npt.NDArray[np.int32]) -> npt.NDArray[np.float32]:
    """Returns the same of every slot that was logged, before its step, (U, W, K)."""
    out = np.empty(logs.slates.shape, np.float32)
    totals = np.empty(int(creator.max()) + 1, np.float32)
    write_logged(logs.slates, logs.feedback, creator, totals, out)
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
