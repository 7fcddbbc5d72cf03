"""Creators: who made the items (PUBLIC), and how attached a user is to each (HIDDEN)."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from llmrec_env.config import EnvConfig
from llmrec_env.content.catalog import Catalog
from llmrec_env.simulation.compilation import inlined
from llmrec_env.simulation.elementary import exp32
from llmrec_env.simulation.user_record import attachment_vector

NOBODY = -1
"""Creator of items where users do not mind who made them."""
_PER_TOPIC = 4  # creators of a topic where the catalogue names nobody
_MINUS_LN2 = np.float32(-math.log(2.0))


def creators_of(config: EnvConfig, catalog: Catalog) -> npt.NDArray[np.int32]:
    """Returns the number of each item's creator, (items,), NOBODY if users do not mind.

    Where the catalogue names nobody, the items of a topic are dealt at random to four creators, the
    same for all users, sessions and agents of a world.
    """
    if not config.attaches():
        return np.full(len(catalog), NOBODY, np.int32)
    if catalog.creators is not None:
        return catalog.creators
    rng = np.random.default_rng([config.world_seed, 6])
    return (_PER_TOPIC * catalog.topics + rng.integers(_PER_TOPIC, size=len(catalog))).astype(
        np.int32
    )


@inlined
def attachment_to(user, params, creator):
    """Returns how attached the user is to a creator, in [0, 1]; 0 if users do not mind."""
    if params.creator_growth > 0.0:
        return attachment_vector(user, int(params.num_creators))[creator]
    return np.float32(0.0)


@inlined
def attach(user, params, traits, response):
    """Attachments fade, and grow to the creators of what satisfied."""
    if params.creator_growth > 0.0:
        attachments = attachment_vector(user, int(params.num_creators))
        kept = exp32(_MINUS_LN2 / np.float32(params.creator_half_life))
        growth = np.float32(params.creator_growth)
        for c in range(attachments.shape[0]):
            attachments[c] *= kept
        for k in range(response.choice + 1):
            if response.feedback[k] == 1:
                creator = traits[response.slate[k]].creator
                attachments[creator] += growth * (np.float32(1.0) - attachments[creator])
