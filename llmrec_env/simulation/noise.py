"""Counter-based random numbers: the same (session key, step, draw) gives the same number, always.

No generator has a state, so what one session draws does not depend on the batch it is in, on the
other sessions or on earlier actions, and two agents on one seed meet common random numbers.
The mixing function is SplitMix64 (Steele, Lea and Flood, OOPSLA 2014).
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from llmrec_env.simulation.compilation import inlined, kernel
from llmrec_env.simulation.elementary import cosine_of_turn, log32, log64

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_MIX_1 = np.uint64(0xBF58476D1CE4E5B9)
_MIX_2 = np.uint64(0x94D049BB133111EB)
_LOW_BITS = np.uint64(0xFFFFFFFF)
_LOW_BITS_23, _PER_UINT23 = np.uint64(0x7FFFFF), np.float32(2.0**-23)
_HALF, _PER_UINT32 = np.float32(0.5), np.float32(2.0**-32)

# First draw of each use in a step. Each use has its own, so that adding one never moves another.
CHOICE = 0
SATISFACTION = 24
SPONTANEOUS = 32  # .. 43: one for each interest slot
WAKE = 48  # .. 59
SWITCH = 64  # a switch takes 64 draws from here; the switches of a burst follow one another
REFINE = 1024
QUERY = 1032
EXPLORE = 1056
CASCADE = 2048  # three for each slot: consumed, satisfied, goes on
RESOLVE = 2560  # as a switch, for each slot that satisfied
INSTRUCT = 3072  # .. 3098: in steps in which nothing satisfied, so that RESOLVE draws none
LOGGED_SLATE = 1 << 12  # the logging policy of the warm-up
CANDIDATES = 1 << 16


@inlined
def mix(x):
    """Returns 64 well-mixed bits of `x`."""
    z = np.uint64(x)
    z = (z ^ (z >> np.uint64(30))) * _MIX_1
    z = (z ^ (z >> np.uint64(27))) * _MIX_2
    return z ^ (z >> np.uint64(31))


@inlined
def step_key(session_key, step):
    """Returns the key of one step of a session."""
    return mix(np.uint64(session_key) + mix(np.uint64(step + 1) * _GOLDEN))


@inlined
def uniform(key, draw):
    """Returns a number in (0, 1)."""
    bits = mix(key + np.uint64(draw + 1) * _GOLDEN)
    return (np.float64(bits >> np.uint64(12)) + 0.5) * (1.0 / 4503599627370496.0)  # exact


@inlined
def below(key, draw, bound):
    """Returns an integer in 0 .. bound - 1."""
    return min(int(uniform(key, draw) * bound), bound - 1)


@inlined
def item_and_uniform(key, draw, num_items):
    """Returns an item id, and a float32 in (0, 1) of which no logarithm is 0, from one draw."""
    bits = mix(key + np.uint64(draw + 1) * _GOLDEN)
    item = np.int32(((bits >> np.uint64(32)) * np.uint64(num_items)) >> np.uint64(32))
    return item, (np.float32(np.int32(bits & _LOW_BITS_23)) + _HALF) * _PER_UINT23


@inlined
def gumbel(key, draw):
    """Returns a standard Gumbel number."""
    return -log64(-log64(uniform(key, draw)))


@inlined
def hashed(key, item):
    """Returns 64 bits for an item, different for every item: the least is a random item."""
    return mix(key + np.uint64(item + 1) * _GOLDEN)


@inlined
def normal(key, draw):
    """Returns a standard normal number, a float32 (Box and Muller, 1958)."""
    bits = mix(key + np.uint64(draw + 1) * _GOLDEN)
    radius = (np.float32(np.uint32(bits >> np.uint64(32))) + _HALF) * _PER_UINT32
    turn = np.float32(np.int32(np.uint32(bits & _LOW_BITS))) * _PER_UINT32  # in [-1/2, 1/2]
    return np.float32(math.sqrt(np.float32(-2.0) * log32(radius))) * cosine_of_turn(turn)


@kernel
def _fill_normals(key, values):
    """Writes independent standard normal numbers."""
    for i in range(values.shape[0]):
        values[i] = normal(key, i)


def draw_normals(rng: np.random.Generator, *shape: int) -> npt.NDArray[np.float64]:
    """Returns standard normal numbers with the same bits on every machine."""
    values = np.empty(math.prod(shape))
    _fill_normals(rng.integers(2**63, dtype=np.uint64), values)
    return values.reshape(shape)
