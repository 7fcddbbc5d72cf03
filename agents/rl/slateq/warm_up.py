"""Warm-up of the user model: the logs of the training users."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch

from agents.rl.slateq.user_model import Transition, UserModel
from llmrec_env.world import PublicData

_BATCH = 128  # users


def learn_logs(model: UserModel, data: PublicData, settings: Any, seed: int) -> None:
    """Fits the user model to logged slates.

    Args:
        model: learns in place.
        data: with the logs of the training users.
        settings: `log_epochs`, `learning_rate` and `shrinkage` of the learner.
        seed: of the order of users.
    """
    logs = data.logs
    n, steps, k = logs.slates.shape
    choice = np.where(logs.items >= 0, (logs.slates == logs.items[..., None]).argmax(2), k)
    columns = (logs.slates, choice, (logs.satisfied == 1).astype(np.float32), logs.queries)
    optimiser = torch.optim.Adam(model.parameters(), lr=2.0 * settings.learning_rate)
    rng = np.random.default_rng([seed, 11])
    for epoch in range(settings.log_epochs):
        for group in optimiser.param_groups:
            share = 0.5 * (1.0 + math.cos(math.pi * epoch / settings.log_epochs))
            group["lr"] = 2.0 * settings.learning_rate * share
        for rows in np.array_split(rng.permutation(n), max(n // _BATCH, 1)):
            q, state, parts = model.parameters_now(), model.start(len(rows)), []
            for t in range(steps):
                slate, choices, satisfied, query = (column[rows, t] for column in columns)
                transition = Transition(
                    torch.from_numpy(slate.astype(np.int64)),
                    torch.from_numpy(choices.astype(np.int64)),
                    torch.from_numpy(satisfied),
                    torch.from_numpy(query.astype(np.int64)),
                )
                prediction, state = model.step(q, state, transition)
                parts.append((prediction.choice_loss + prediction.satisfaction_loss).mean())
            loss = torch.stack(parts).mean() + model.penalty(settings.shrinkage, n * steps)
            optimiser.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimiser.step()
