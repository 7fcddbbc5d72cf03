"""PUBLIC: when items are published, and how fresh they are at a step."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from llmrec_env.config import EnvConfig
from llmrec_env.simulation.compilation import inlined
from llmrec_env.simulation.elementary import exp32

_MINUS_LN2 = np.float32(-math.log(2.0))
ALWAYS = -(1 << 30)
"""Step of publication of what does not age: long before any log."""


@inlined
def freshness(published, step, half_life):
    """Returns 2^(-age / half-life), 1 for what is published at this step."""
    age = np.float32(max(step - published, 0))
    return exp32(_MINUS_LN2 * (age / np.float32(half_life)))


def publication_steps(config: EnvConfig, num_items: int) -> npt.NDArray[np.int32]:
    """Returns the step at which each item is published, (items,), ALWAYS if items do not age.

    At a steady rate: `new_items` of them between the first logged step and the last one of a
    session, the others before. Steps are those of sessions, negative in the logs.
    """
    share = config.effective().new_items
    if share == 0.0:
        return np.full(num_items, ALWAYS, np.int32)
    steps = config.warmup_slates + config.horizon
    order = np.random.default_rng([config.world_seed, 5]).permutation(num_items)  # 0: the newest
    before_the_end = (order + 1) * (steps / (share * num_items))
    return np.floor(config.horizon - before_the_end).astype(np.int32)


def published_at_first(config: EnvConfig, num_items: int) -> int:
    """Returns how many items there are at the first logged step, the fewest of all steps."""
    return int((publication_steps(config, num_items) <= -config.warmup_slates).sum())
