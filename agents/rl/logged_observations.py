"""Logged choices as what an agent that learns by acting would have seen when they were made."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch

from agents.features import FeatureExtractor
from llmrec_env.config import EnvConfig
from llmrec_env.interface.candidates import FEATURES, describe
from llmrec_env.interface.observation import (
    HISTORY_LENGTH,
    RECENT_STEPS,
    SESSION_NUMBERS,
    VECTOR_BLOCKS,
    empty_histories,
    newest_first,
    newest_steps,
    observe,
    replay,
)
from llmrec_env.simulation.compilation import kernel
from llmrec_env.simulation.response import response_dtype
from llmrec_env.world import PublicData

Tensor = torch.Tensor
_MOST = 40_000  # logged steps, the latest, that are read: bounds memory


class Logged(NamedTuple):
    """m logged steps in which an item satisfied."""

    seen: Tensor  # (m, length); the first K candidates are the slate, the others drawn
    choice: Tensor  # (m,), slot of the item


def logged_choices(
    data: PublicData, config: EnvConfig, features: FeatureExtractor, rng: np.random.Generator
) -> Logged:
    """Returns the logged steps in which an item satisfied, as they would have been observed."""
    users, steps, slots = data.logs.slates.shape
    histories, scratch = empty_histories(users, config), np.zeros(1, response_dtype(slots))
    parts: list[tuple[Tensor, Tensor]] = []
    for t in range(steps):
        slates, items, satisfied, _, queries = (column[:, t : t + 1].copy() for column in data.logs)
        rows = np.flatnonzero((items[:, 0] >= 0) & (satisfied[:, 0] == 1))
        if len(rows) and t >= steps - _MOST // users:
            others = rng.integers(len(data.catalog), size=(len(rows), config.candidates - slots))
            ids = np.concatenate([slates[rows, 0], others], 1).astype(np.int32)
            seen = features.see(observed(histories[rows], data, config, ids))
            choice = (slates[rows, 0] == items[rows]).argmax(1)
            parts.append((torch.from_numpy(seen), torch.from_numpy(choice)))
        replay(
            *(histories, slates, items, satisfied, queries),
            *(data.items.vectors, data.items.factors, data.phrase_vectors, scratch),
        )
    if not parts:
        return Logged(torch.empty(0, features.length), torch.empty(0, dtype=torch.int64))
    return Logged(*(torch.cat(column) for column in zip(*parts, strict=True)))


def observed(
    histories: npt.NDArray[np.void], data: PublicData, config: EnvConfig, ids: npt.NDArray[np.int32]
) -> dict[str, Any]:
    """Returns the `dict` observations of histories (n,) and candidates (n, c), without user ids."""
    n, d = len(histories), config.dim
    flat = np.zeros((n, len(VECTOR_BLOCKS) * d + len(SESSION_NUMBERS)), np.float32)
    features = np.zeros((*ids.shape, len(FEATURES)), np.float32)
    events = np.empty((2, n, HISTORY_LENGTH), np.int32)
    recent = np.empty((n, RECENT_STEPS, config.slate_size + 3), np.int32)
    _observe_all(
        *(histories, data.items, data.phrase_vectors, config.horizon, ids),
        *(features, flat, events, recent),
    )
    blocks = {name: flat[:, i * d : (i + 1) * d] for i, name in enumerate(VECTOR_BLOCKS)}
    blocks |= {"session": flat[:, len(VECTOR_BLOCKS) * d :], "candidates": ids}
    blocks |= {"candidate_features": features, "history": events[0], "history_feedback": events[1]}
    blocks["recent_slates"] = recent[..., :-3].copy()
    names = ("recent_items", "recent_satisfied", "recent_queries")
    return blocks | {name: recent[..., i - 3].copy() for i, name in enumerate(names)}


@kernel
def _observe_all(histories, items, phrases, horizon, ids, features, flat, events, recent):
    for i in range(histories.shape[0]):
        history = histories[i]
        describe(history, items, ids[i], features, i)
        observe(history, items.vectors, phrases, items.vectors.shape[1], horizon, flat, i)
        newest_first(history, events[0], events[1], i)
        newest_steps(history, recent, i)
