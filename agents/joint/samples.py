"""Logged steps as samples: what was known of a user, what was shown, what the user did."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch

from llmrec_env.config import EnvConfig
from llmrec_env.interface.observation import (
    HISTORY_LENGTH,
    SESSION_NUMBERS,
    VECTOR_BLOCKS,
    empty_histories,
    newest_first,
    observe,
    replay,
)
from llmrec_env.simulation.compilation import kernel
from llmrec_env.simulation.logging_policy import Logs
from llmrec_env.simulation.response import response_dtype
from llmrec_env.world import PublicData

Batch = dict[str, torch.Tensor]
"""Columns of samples, or of observations, by name."""
EVENTS_SEEN = 32
"""Events of the past, the newest, that a sample keeps."""


class Samples(NamedTuple):
    """m logged steps, by user and time; what is known is what an observation of them shows."""

    blocks: npt.NDArray[np.float16]  # (m, 6, d), vectors of the observation, see VECTOR_BLOCKS
    session: npt.NDArray[np.float32]  # (m, 10), numbers of the observation
    history: npt.NDArray[np.int32]  # (m, EVENTS_SEEN), ids, newest first, -1 for none
    feedback: npt.NDArray[np.int32]  # (m, EVENTS_SEEN), kinds of these events
    slate: npt.NDArray[np.int32]  # (m, K), items shown
    choice: npt.NDArray[np.int64]  # (m,), place of the item chosen, K for none
    satisfied: npt.NDArray[np.float32]  # (m,), 1 or 0, of what was chosen
    rating: npt.NDArray[np.float32]  # (m,), 1 to 5, 0 where the user did not rate
    user: npt.NDArray[np.int64]  # (m,), row of the logs

    def of(self, rows: npt.NDArray[np.integer]) -> Samples:
        """Returns some of the samples."""
        columns: Any = (column[rows] for column in self)
        return Samples(*columns)


def samples_of(data: PublicData, config: EnvConfig, first: int = 1) -> Samples:
    """Returns the logged steps of the training users from step `first` on.

    Steps whose slate is -1 are not there: so logs of users with fewer steps are filled up.

    Raises:
        ValueError: nobody clicked, or all clicks satisfied or none did: there is nothing to tell
            apart.
    """
    _check_classes(data.logs)
    users, steps, k = data.logs.slates.shape
    histories = empty_histories(users, config)
    scratch = np.zeros(1, response_dtype(k))
    vectors, phrases = data.items.vectors, data.phrase_vectors
    parts: list[tuple[Any, ...]] = []
    for t in range(steps):
        there = np.flatnonzero(data.logs.slates[:, t, 0] >= 0)
        slate, item, satisfied, rating, query = (
            np.ascontiguousarray(column[there, t : t + 1]) for column in data.logs
        )
        past = histories[there]
        if t >= first:
            known = observed(past, vectors, phrases, config.horizon)
            parts.append((*known, *_happened(slate, item, satisfied, rating), there))
        replay(
            *(past, slate, item, satisfied, query),
            *(vectors, data.items.factors, phrases, scratch),
        )
        histories[there] = past
    columns: Any = (np.concatenate(column) for column in zip(*parts, strict=True))
    samples = Samples(*columns)
    return samples.of(np.argsort(samples.user, kind="stable"))


def observed(
    histories: npt.NDArray[np.void],
    vectors: npt.NDArray[np.float32],
    phrases: npt.NDArray[np.float32],
    horizon: int,
) -> tuple[npt.NDArray[np.generic], ...]:
    """Returns the first four columns of Samples for histories as they are now."""
    n, d = len(histories), vectors.shape[1]
    flat = np.zeros((n, len(VECTOR_BLOCKS) * d + len(SESSION_NUMBERS)), np.float32)
    ids, kinds = np.empty((2, n, HISTORY_LENGTH), np.int32)
    _observe_all(histories, vectors, phrases, horizon, flat, ids, kinds)
    blocks = flat[:, : -len(SESSION_NUMBERS)].reshape(n, len(VECTOR_BLOCKS), d)
    kept = (ids[:, :EVENTS_SEEN].copy(), kinds[:, :EVENTS_SEEN].copy())
    return blocks.astype(np.float16), flat[:, -len(SESSION_NUMBERS) :].copy(), *kept


def _happened(
    slate: npt.NDArray[np.int32],
    item: npt.NDArray[np.int32],
    satisfied: npt.NDArray[np.int32],
    rating: npt.NDArray[np.int32],
) -> tuple[npt.NDArray[np.generic], ...]:
    """Slate, choice, satisfied and rating of one step of every user."""
    k = slate.shape[2]
    chosen = slate[:, 0] == item
    choice = np.where(item[:, 0] >= 0, chosen.argmax(axis=1), k)
    pleased = (satisfied[:, 0] == 1).astype(np.float32)
    return slate[:, 0], choice, pleased, rating[:, 0].astype(np.float32)


def _check_classes(logs: Logs) -> None:
    pleased = logs.satisfied[logs.items >= 0] == 1
    if not pleased.size:
        raise ValueError("the logs hold no click; nothing can be learnt from them.")
    if pleased.all() or not pleased.any():
        only = "satisfied" if pleased.all() else "did not satisfy"
        raise ValueError(
            f"all {pleased.size} clicks of the logs {only}; a model of satisfaction needs both "
            "kinds: add ratings below the threshold, or clicks that were not liked."
        )


def batch_of(samples: Samples, rows: npt.NDArray[np.integer]) -> Batch:
    """Returns some samples as tensors."""
    some = samples.of(rows)._asdict()
    whole = {"history", "feedback", "slate", "choice", "user"}
    return {
        name: torch.from_numpy(values.astype(np.int64 if name in whole else np.float32))
        for name, values in some.items()
    }


def batch_seen(observation: Any) -> Batch:
    """Returns of `dict` observations what they have in common with samples."""
    blocks = np.stack([observation[name] for name in VECTOR_BLOCKS], axis=1)
    known = {"blocks": blocks, "session": observation["session"]}
    batch = {name: torch.from_numpy(values) for name, values in known.items()}
    for name, column in (("history", "history"), ("feedback", "history_feedback")):
        batch[name] = torch.from_numpy(observation[column][:, :EVENTS_SEEN].astype(np.int64))
    return batch


@kernel
def _observe_all(histories, vectors, phrases, horizon, flat, ids, kinds):
    for i in range(histories.shape[0]):
        history = histories[i]
        observe(history, vectors, phrases, vectors.shape[1], horizon, flat, i)
        newest_first(history, ids, kinds, i)
