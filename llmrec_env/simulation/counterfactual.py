"""Counterfactual interests of users to whom nothing is recommended: the null policy."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from llmrec_env.simulation import noise
from llmrec_env.simulation.compilation import kernel
from llmrec_env.simulation.interests import interest_vector
from llmrec_env.simulation.records import compiled_view
from llmrec_env.simulation.response import RESPONSE, new_scratch, no_responses
from llmrec_env.simulation.user_record import USER
from llmrec_env.simulation.users import evolve
from llmrec_env.world import World


def without_recommendations(
    world: World, user_ids: npt.NDArray[np.int64], noise_keys: npt.NDArray[np.uint64], steps: int
) -> npt.NDArray[np.float32]:
    """Returns the true interests of users who are shown nothing, (n, steps + 1, d).

    Row t is the interest before step t. Nobody leaves. Random numbers are those of sessions
    with the same noise keys, so that the difference is what an agent did.
    """
    users = world.users[user_ids]
    users["noise_key"] = noise_keys
    response = no_responses(1, world.config.slate_size)
    out = np.empty((len(users), steps + 1, world.config.dim), np.float32)
    _drift_alone(
        compiled_view(users, USER),
        world.params,
        world.interests,
        world.text_vectors,
        world.traits,
        compiled_view(response, RESPONSE),
        out,
    )
    return out


@kernel
def _drift_alone(users, params, interests, vectors, traits, response, out):
    weights, response = np.empty(users[0].slots, np.float32), response[0]
    scratch = new_scratch(response.slots, vectors.shape[1])  # no affinity to any slot
    for i in range(users.shape[0]):
        user = users[i]
        for t in range(out.shape[1]):
            interest_vector(user, interests.vectors, weights, out[i, t])
            key = noise.step_key(user.noise_key, user.step)
            evolve(user, params[0], interests, vectors, traits, scratch, key, response)
