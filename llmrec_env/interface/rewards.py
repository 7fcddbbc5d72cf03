"""BOUNDARY: R = z f(v, y). A reward is one function and one table entry.

A reward maps the responses of n sessions (records of `response_dtype`) to (n,) float32.
It is never negative, so leaving early never pays.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

Reward = Callable[[npt.NDArray[np.void]], npt.NDArray[np.float32]]


def true_interest(responses: npt.NDArray[np.void]) -> npt.NDArray[np.float32]:
    """Returns z f(u, y): satisfaction times relevance to the user's current interests."""
    return responses["satisfied"].astype(np.float32) * responses["relevance"]


def observed_interest(responses: npt.NDArray[np.void]) -> npt.NDArray[np.float32]:
    """Returns z f(v, y), v as the agent sees it: an ablation that pays agreeing with oneself."""
    return responses["satisfied"].astype(np.float32) * responses["observed_relevance"]


REWARDS: dict[str, Reward] = {"true": true_interest, "observed": observed_interest}
