"""HIDDEN: record of one user's state."""

from __future__ import annotations

from typing import Any

import numpy as np

from llmrec_env.config import EnvConfig
from llmrec_env.simulation.compilation import inlined
from llmrec_env.simulation.records import extended, floats_behind, in_whole_lines

TASTE_DIM = 4
MAX_SLOTS = 12
MEMORY = 50  # consumed items a user remembers

USER = in_whole_lines(
    [
        ("noise_key", np.uint64),
        ("user_id", np.int64),
        ("dim", np.int32),  # d
        ("slots", np.int32),  # interests, active or dormant
        ("community", np.int32),
        ("step", np.int32),
        ("goodwill", np.float32),  # h
        ("patience", np.float32),  # m
        ("num_consumed", np.int32),
        ("last_switch", np.int32),  # step of the last switch, -1 before the first
        ("taste", np.float32, (TASTE_DIM,)),  # a
        ("phrase", np.int32, (MAX_SLOTS,)),  # ids of the interests' texts
        ("active", np.int32, (MAX_SLOTS,)),  # a_p, 0 is dormant
        ("weight", np.float32, (MAX_SLOTS,)),  # theta_p, log-weight
        ("rest", np.float32, (MAX_SLOTS,)),  # resting log-weight
        ("consumed", np.int32, (MEMORY,)),
    ]
)
"""The fixed part of a user's hidden state; satiation c, (d,), and attachments g follow."""


def user_dtype(config: EnvConfig, num_creators: int = 0) -> np.dtype[np.void]:
    """Returns the record of one user's hidden state.

    Args:
        config: of the environment.
        num_creators: to whom users may become attached.
    """
    slots = ("phrase", "active", "weight", "rest")
    used = {name: config.interest_slots for name in slots}
    parts: list[tuple[str, Any, tuple[int, ...]]] = [("satiation", np.float32, (config.dim,))]
    if num_creators:
        parts.append(("attachment", np.float32, (num_creators,)))
    return extended(USER, used, parts)


@inlined
def satiation_vector(user):
    """Returns c, what the user is satiated with, (d,); writing into it changes the user."""
    return floats_behind(user, 0, user.dim)


@inlined
def attachment_vector(user, num_creators):
    """Returns g, how attached the user is to each creator, (num_creators,)."""
    return floats_behind(user, 4 * user.dim, num_creators)
