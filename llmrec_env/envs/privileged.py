"""HIDDEN state as blocks of an observation: to test algorithms with, never a default.

Who learns with it is told what no recommender can know. What remains to be learnt is how users
respond, what a slate is worth, and how to plan.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from gymnasium import spaces

from llmrec_env.config import EnvConfig
from llmrec_env.simulation.compilation import kernel
from llmrec_env.simulation.inner_products import row_dot
from llmrec_env.simulation.interests import interest_vector
from llmrec_env.simulation.records import compiled_view
from llmrec_env.simulation.simulator import Simulator
from llmrec_env.simulation.user_record import TASTE_DIM, USER
from llmrec_env.simulation.users import relevance_of


def hidden_blocks(simulator: Simulator, sessions: Any) -> dict[str, npt.NDArray[np.float32]]:
    """Returns the hidden state of users: an index gives one session, a slice gives a batch.

    `true_interest` u (d,), `true_weights` omega of every phrase of the world (phrases,),
    `true_satiation` c (d,), `true_taste` a (4,), `true_goodwill` h (1,), and `true_relevance`
    f(u, a, y) of the candidates on offer, (C,), 0 where there is none.
    """
    rows = np.atleast_1d(np.arange(simulator.n)[sessions])
    users, ids, world = simulator.users[rows], simulator.buffers.ids[rows], simulator.world
    interests = np.empty((len(rows), simulator.config.dim), np.float32)
    weights = np.zeros((len(rows), len(world.interests.vectors)), np.float32)
    relevance = np.zeros(ids.shape, np.float32)
    read_users(
        compiled_view(users, USER),
        world.params,
        world.interests.vectors,
        world.text_vectors,
        world.traits,
        ids,
        interests,
        weights,
        relevance,
    )
    blocks = {
        "true_interest": interests,
        "true_weights": weights,
        "true_satiation": users["satiation"].copy(),
        "true_taste": users["taste"].copy(),
        "true_goodwill": users["goodwill"][:, None].copy(),
        "true_relevance": relevance,
    }
    one = isinstance(sessions, int | np.integer)
    return {name: block[0] for name, block in blocks.items()} if one else blocks


def hidden_spaces(simulator: Simulator) -> dict[str, spaces.Box]:
    """Returns the space of each hidden block of one session; they have no bounds."""
    dim, phrases = simulator.config.dim, len(simulator.world.phrases.texts)
    lengths = {
        "true_interest": dim,
        "true_weights": phrases,
        "true_satiation": dim,
        "true_taste": TASTE_DIM,
        "true_goodwill": 1,
        "true_relevance": simulator.buffers.ids.shape[1],
    }
    return {name: spaces.Box(-np.inf, np.inf, (n,), np.float32) for name, n in lengths.items()}


def flat_hidden(
    blocks: dict[str, npt.NDArray[np.float32]], config: EnvConfig
) -> npt.NDArray[np.float32]:
    """Returns the hidden part of a `vector` observation, (..., flat_length(config)).

    Where actions pick candidates their relevance comes last.

    Args:
        blocks: of `hidden_blocks`, or a `dict` observation that holds them.
        config: of the environment.
    """
    leading = min(config.observation_dim, config.dim)
    parts = [blocks[name][..., :leading] for name in ("true_interest", "true_satiation")]
    parts += [blocks["true_taste"], blocks["true_goodwill"]]
    if _tells_relevance(config):
        parts.append(blocks["true_relevance"])
    return np.concatenate(parts, axis=-1)


def flat_length(config: EnvConfig) -> int:
    """Returns how many numbers `flat_hidden` has; 0 without `privileged_observation`."""
    leading = min(config.observation_dim, config.dim)
    state = 2 * leading + TASTE_DIM + 1
    relevance = config.candidates if _tells_relevance(config) else 0
    return config.privileged_observation * (state + relevance)


def _tells_relevance(config: EnvConfig) -> bool:
    return config.action in ("slate", "item") and config.candidates > 0


@kernel
def read_users(users, params, phrases, items, traits, ids, interests, weights, relevance):
    """Writes u, (n, d), the weights of all phrases, and f of the candidates, (n, c)."""
    omega = np.empty(users[0].slots, np.float32)
    for i in range(users.shape[0]):
        interest_vector(users[i], phrases, omega, interests[i])
        for p in range(omega.shape[0]):
            weights[i, users[i].phrase[p]] += omega[p]
        for c in range(ids.shape[1]):
            item = ids[i, c]
            if item >= 0:
                product = row_dot(interests[i], items, item)
                relevance[i, c] = relevance_of(users[i], params[0], traits[item], product)
