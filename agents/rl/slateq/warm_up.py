"""The user model's first lesson: the logs of the training users."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch

from agents.rl.slateq.user_model import Happened, UserModel
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
                slate, chosen, satisfied, query = (x[rows, t] for x in columns)
                whole = [torch.from_numpy(x.astype(np.int64)) for x in (slate, chosen, query)]
                happened = Happened(whole[0], whole[1], torch.from_numpy(satisfied), whole[2])
                judged, state = model.step(q, state, happened)
                parts.append((judged.choice_loss + judged.satisfaction_loss).mean())
            loss = torch.stack(parts).mean() + model.penalty(settings.shrinkage, n * steps)
            optimiser.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimiser.step()
