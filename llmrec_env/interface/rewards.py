"""BOUNDARY: R = sum of z f(v, y) over what was consumed. A reward is a function and a table entry.

A reward maps the responses of n sessions (records of `response_dtype`) to (n,) float32.
It is never negative, so leaving early never pays.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

Reward = Callable[[npt.NDArray[np.void]], npt.NDArray[np.float32]]


def true_interest(responses: npt.NDArray[np.void]) -> npt.NDArray[np.float32]:
    """Returns the sum of z f(u, a, y): satisfaction times relevance to the current interests."""
    return responses["satisfied_relevance"].copy()


def observed_interest(responses: npt.NDArray[np.void]) -> npt.NDArray[np.float32]:
    """Returns the sum of z f(v, y), v as the agent sees it: pays agreeing with oneself."""
    return responses["satisfied_observed_relevance"].copy()


REWARDS: dict[str, Reward] = {"true": true_interest, "observed": observed_interest}
