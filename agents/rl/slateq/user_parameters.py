"""Parameters of the recurrent user model: their bounds, and where learning starts."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import torch

STARTS: dict[str, tuple[str, float]] = {  # the optimiser sums gradients in this order
    "query": ("positive", 0.45),
    "satiation_satisfaction": ("positive", 0.5),
    "chosen": ("positive", 0.46),
    "forgetting": ("share", 0.02),
    "goodwill": ("share", 0.95),
    "lure": ("free", 0.3),
    "session_bias": ("free", -1.7),
    "null_utility": ("free", 3.0),
    "passed": ("positive", 0.4),
    "satisfied": ("positive", 0.37),
    "satisfaction": ("positive", 2.0),
    "position": ("positive", 0.5),
    "relevance": ("positive", 4.7),
    "reward": ("free", 1.0),
    "satiation": ("share", 0.85),
    "taste": ("share", 0.98),
    "taste_chosen": ("positive", 0.1),
    "taste_passed": ("positive", 0.1),
    "taste_satisfied": ("positive", 0.1),
    "taste_satisfaction": ("free", 1.0),
    "satiation_choice": ("positive", 0.3),
    "goodwill_satisfaction": ("free", 0.05),
}
"""Bounds of the single parameters, and where they start.

Effects on the choice: `relevance`, `position`, `satiation_choice`, `lure`, `null_utility`; on
satisfaction: `satisfaction` (of the relevance), `taste_satisfaction`, `satiation_satisfaction`,
`goodwill_satisfaction`, `session_bias`; how far an item that was `chosen`, `passed` over or that
`satisfied`, and a `query`, move the belief, and `taste_*` the taste; what the belief loses in a
step (`forgetting`), and what is kept of `taste`, `satiation` and `goodwill`; the scale of `reward`.
"""
TO_RAW: dict[str, Callable[[float], float]] = {
    "positive": math.log,
    "share": lambda x: math.log(x / (1.0 - x)),
    "free": lambda x: x,
}
FROM_RAW: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "positive": torch.exp,
    "share": torch.sigmoid,
    "free": lambda x: x,
}
PARAMETERS = np.dtype([(name, np.float64) for name in STARTS])
