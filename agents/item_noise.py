"""Random numbers of items, by which agents explore.

They belong to an item and not to its index among the candidates: where two candidates of almost the
same score change places, the same items are explored.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from llmrec_env.simulation.compilation import kernel
from llmrec_env.simulation.noise import gumbel

Keys = npt.NDArray[np.uint64]


def new_keys(rng: np.random.Generator, *shape: int) -> Keys:
    """Returns keys, each of which gives every item a random number."""
    return rng.integers(0, 2**64, shape, dtype=np.uint64)


def gumbel_of_items(keys: Keys, candidates: npt.NDArray[np.int32]) -> npt.NDArray[np.float32]:
    """Returns a standard Gumbel number of each candidate, (n, c), by a key a session, (n,)."""
    noise = np.empty(candidates.shape, np.float32)
    _write_gumbel(keys, candidates, noise)
    return noise


@kernel
def _write_gumbel(keys, candidates, noise):
    for i in range(candidates.shape[0]):
        for c in range(candidates.shape[1]):
            noise[i, c] = gumbel(keys[i], candidates[i, c])
