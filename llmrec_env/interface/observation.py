"""BOUNDARY: observation of a public history, as vectors, numbers and recent events.

Nothing here can see a user's interests: what is observed is computed from the history alone.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from llmrec_env.interface.candidates import FEATURES, Items, describe
from llmrec_env.interface.history import (
    HISTORY,
    HISTORY_LENGTH,
    RECENT_STEPS,
    interest_of,
    newest_first,
    newest_steps,
    recent_of,
    satiation_of,
    skipped_of,
)
from llmrec_env.simulation.compilation import inlined, kernel
from llmrec_env.simulation.inner_products import inverse_norm
from llmrec_env.simulation.records import compiled_view

SESSION_NUMBERS = (
    "progress",
    "consumption_rate",
    "satisfaction_rate",
    "since_satisfied",
    "since_consumed",
    "last_rank",
    "last_satisfied",
    "last_consumed",
    "query_age",
    "slate_diversity",
)
"""Names of the `session` block, all in [0, 1]."""

VECTOR_BLOCKS = ("interest", "recent", "satiation", "skipped", "query", "last_item")
"""Names of the blocks that are vectors of the text space."""


@kernel
def session_numbers(history, horizon, out, i, start):
    """Writes the ten numbers of the `session` block into out[i, start:]; see SESSION_NUMBERS."""
    step = max(history.step, 1)
    out[i, start] = min(history.step / horizon, 1.0)
    out[i, start + 1] = min(history.consumed / step, 1.0)
    out[i, start + 2] = history.satisfied / max(history.consumed, 1)
    out[i, start + 3] = min((history.step - history.last_satisfied) / 20.0, 1.0)
    out[i, start + 4] = min((history.step - history.last_consumed) / 20.0, 1.0)
    out[i, start + 5] = 1.0 / (history.last_rank + 1.0) if history.last_rank >= 0 else 0.0
    out[i, start + 6] = 1.0 if 0 <= history.last_satisfied == history.step - 1 else 0.0
    out[i, start + 7] = 1.0 if 0 <= history.last_consumed == history.step - 1 else 0.0
    asked = history.last_query >= 0
    out[i, start + 8] = min((history.step - history.last_query) / 20.0, 1.0) if asked else 1.0
    out[i, start + 9] = min(max(history.diversity, np.float32(0.0)), np.float32(1.0))


@kernel
def write_vector(vector, length, out, i, start):
    """Writes the leading components of a vector, over its whole length, into out[i, start:]."""
    scale = inverse_norm(vector)
    for j in range(length):
        out[i, start + j] = scale * vector[j]


@kernel
def write_row(rows, row, length, out, i, start):
    """Writes the leading components of a unit row, or zeros where `row` is -1."""
    for j in range(length):
        out[i, start + j] = rows[row, j] if row >= 0 else np.float32(0.0)


@inlined
def observe(history, vectors, phrase_vectors, length, horizon, out, i):
    """Writes the six vector blocks, cut to `length`, and the session numbers into out[i]."""
    write_vector(interest_of(history), length, out, i, 0)
    write_vector(recent_of(history), length, out, i, length)
    write_vector(satiation_of(history), length, out, i, 2 * length)
    write_vector(skipped_of(history), length, out, i, 3 * length)
    write_row(phrase_vectors, history.query, length, out, i, 4 * length)
    write_row(vectors, history.last_item, length, out, i, 5 * length)
    session_numbers(history, horizon, out, i, 6 * length)
    return 6 * length + 10


def named_blocks(
    vector: npt.NDArray[np.float32],
    history: npt.NDArray[np.int32],
    feedback: npt.NDArray[np.int32],
    recent: npt.NDArray[np.int32],
    recent_feedback: npt.NDArray[np.int32] | None = None,
) -> dict[str, Any]:
    """Returns copies of the blocks of `dict` observations that only the history decides.

    Args:
        vector: what `observe` wrote, (..., 6 d + 10).
        history: what `newest_first` wrote, (..., 128).
        feedback: likewise, (..., 128).
        recent: what `newest_steps` wrote, (..., 32, K + 3).
        recent_feedback: likewise of each slot, (..., 32, K); None leaves out the block.
    """
    count = len(VECTOR_BLOCKS)
    dim = (vector.shape[-1] - len(SESSION_NUMBERS)) // count
    blocks: dict[str, Any] = {
        name: vector[..., index * dim : (index + 1) * dim].copy()
        for index, name in enumerate(VECTOR_BLOCKS)
    }
    blocks["session"] = vector[..., count * dim :].copy()
    blocks["history"], blocks["history_feedback"] = history.copy(), feedback.copy()
    blocks["recent_slates"] = recent[..., :-3].copy()
    blocks["recent_items"] = recent[..., -3].copy()
    blocks["recent_satisfied"] = recent[..., -2].copy()
    blocks["recent_queries"] = recent[..., -1].copy()
    if recent_feedback is not None:
        blocks["recent_feedback"] = recent_feedback.copy()
    return blocks


def observations_of(
    histories: npt.NDArray[np.void],
    items: Items,
    phrase_vectors: npt.NDArray[np.float32],
    horizon: int,
    candidates: npt.NDArray[np.int32] | None = None,
    response: str = "logit",
) -> dict[str, Any]:
    """Returns the `dict` observations of histories as they are now, without `user_id`.

    They are what an environment shows a session with that history.

    Args:
        histories: public histories, (n,).
        items: the catalogue's public items.
        phrase_vectors: unit rows of the interest phrases, (phrases, d).
        horizon: steps of a session, for the block `session`.
        candidates: item ids, (n, c); None leaves out `candidates` and `candidate_features`.
        response: of the users; `cascade` adds `recent_feedback`.
    """
    n, dim = len(histories), items.vectors.shape[1]
    ids = np.empty((n, 0), np.int32) if candidates is None else np.array(candidates, np.int32)
    features = np.zeros((*ids.shape, len(FEATURES)), np.float32)
    vector = np.zeros((n, len(VECTOR_BLOCKS) * dim + len(SESSION_NUMBERS)), np.float32)
    history, feedback = np.empty((2, n, HISTORY_LENGTH), np.int32)
    slots, several = histories.dtype["slates"].shape[1], response == "cascade"
    recent = np.empty((n, RECENT_STEPS, slots + 3), np.int32)
    recent_feedback = np.empty((n, RECENT_STEPS * several, slots), np.int32)
    observe_all(
        compiled_view(histories, HISTORY),
        items,
        phrase_vectors,
        horizon,
        ids,
        features.reshape(n, -1),
        vector,
        history,
        feedback,
        recent,
        recent_feedback,
    )
    blocks = named_blocks(vector, history, feedback, recent, recent_feedback if several else None)
    if candidates is not None:
        blocks |= {"candidates": candidates, "candidate_features": features}
    return blocks


@kernel
def observe_all(
    histories,
    items,
    phrase_vectors,
    horizon,
    ids,
    features,
    vector,
    history,
    feedback,
    recent,
    recent_feedback,
):
    """Writes the observations of n histories, and the features of their candidates, (n, c · 8)."""
    for i in range(histories.shape[0]):
        if ids.shape[1] > 0:
            describe(histories[i], items, ids[i], 0, features, i, 0)
        length = items.vectors.shape[1]
        observe(histories[i], items.vectors, phrase_vectors, length, horizon, vector, i)
        newest_first(histories[i], history, feedback, i)
        newest_steps(histories[i], recent, recent_feedback, i)
