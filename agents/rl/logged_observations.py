"""Logged choices as observations: what an online agent would have observed at each."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch

from agents.dataset import Dataset
from agents.features import FeatureExtractor
from llmrec_env.config import EnvConfig
from llmrec_env.interface.candidates import FEATURES, describe
from llmrec_env.interface.observation import (
    HISTORY_LENGTH,
    RECENT_STEPS,
    SESSION_NUMBERS,
    VECTOR_BLOCKS,
    newest_first,
    newest_steps,
    observe,
)
from llmrec_env.simulation.compilation import kernel
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
    dataset = Dataset.from_logs(data)
    parts: list[tuple[Tensor, Tensor]] = []
    for rows, histories in dataset.replayed(data, config):
        satisfied = dataset.satisfied[rows]
        steps = dataset.take(rows[satisfied])
        if len(steps) and steps.times[0] >= -(_MOST // dataset.num_users):
            slots = steps.slates.shape[1]
            others = rng.integers(dataset.num_items, size=(len(steps), config.candidates - slots))
            ids = np.concatenate([steps.slates, others], 1).astype(np.int32)
            seen = features.see(observed(histories[satisfied], data, config, ids))
            parts.append((torch.from_numpy(seen), torch.from_numpy(steps.choices)))
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
        histories,
        data.items,
        data.phrase_vectors,
        config.horizon,
        ids,
        features,
        flat,
        events,
        recent,
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
