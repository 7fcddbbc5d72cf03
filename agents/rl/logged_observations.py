"""Logged choices as observations: what an online agent would have observed at each."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch

from agents.dataset import Dataset
from agents.features import FeatureExtractor
from llmrec_env.config import EnvConfig
from llmrec_env.interface.observation import observations_of
from llmrec_env.world import PublicData

Tensor = torch.Tensor
_MOST = 40_000  # logged steps, the latest, that are read: bounds memory


class Logged(NamedTuple):
    """m logged steps in which an item satisfied."""

    features: Tensor  # (m, length); the first K candidates are the slate, the others drawn
    choice: Tensor  # (m,), slot of the item


def logged_choices(
    data: PublicData, config: EnvConfig, extractor: FeatureExtractor, rng: np.random.Generator
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
            observations = observations_of(
                histories[satisfied], data.items, data.phrase_vectors, config.horizon, ids
            )
            features = extractor.encode(observations)
            parts.append((torch.from_numpy(features), torch.from_numpy(steps.choices)))
    if not parts:
        return Logged(torch.empty(0, extractor.length), torch.empty(0, dtype=torch.int64))
    return Logged(*(torch.cat(column) for column in zip(*parts, strict=True)))
