"""HIDDEN: population of a world, before anything is recorded of its users."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from llmrec_env.config import EnvConfig
from llmrec_env.simulation.interests import ATTEMPTS, Interests
from llmrec_env.simulation.noise import draw_normals
from llmrec_env.simulation.user_record import TASTE_DIM, user_dtype
from llmrec_env.simulation.users import MAX_LOG_WEIGHT

OWN_TOPICS = 0.15  # share of the first interests that the community does not decide
COMMUNITY_TASTE, OWN_TASTE = 0.8, 0.6  # weights of what makes up a taste


def new_users(
    config: EnvConfig,
    interests: Interests,
    community_taste: npt.NDArray[np.float32],
    num_creators: int = 0,
) -> npt.NDArray[np.void]:
    """Returns the hidden state of every user of the world, before any record, (num_users,).

    Args:
        config: of the world.
        interests: what interests can be.
        community_taste: text-free taste of the communities, (communities, TASTE_DIM).
        num_creators: to whom users may become attached; of a new user, to nobody.
    """
    n, slots = config.num_users, config.interest_slots
    rng = np.random.default_rng([config.world_seed, 3])
    users = np.zeros(n, user_dtype(config, num_creators))
    users["user_id"], users["dim"], users["slots"] = np.arange(n), config.dim, slots
    users["noise_key"] = rng.integers(0, 2**63, n, dtype=np.uint64)
    users["community"] = rng.integers(0, len(community_taste), n)
    users["phrase"] = _first_phrases(users["community"], interests, slots, rng)
    active = rng.integers(config.active_min, config.active_max + 1, n)
    users["active"] = np.arange(slots) < active[:, None]
    users["rest"] = config.base_sd * draw_normals(rng, n, slots)
    users["weight"] = np.clip(users["rest"], -MAX_LOG_WEIGHT, MAX_LOG_WEIGHT)
    own_taste = draw_normals(rng, n, TASTE_DIM)
    users["taste"] = COMMUNITY_TASTE * community_taste[users["community"]] + OWN_TASTE * own_taste
    users["patience"] = config.patience_start
    users["consumed"] = -1
    users["last_switch"] = -1
    return users


def _first_phrases(
    community: npt.NDArray[np.int32], interests: Interests, slots: int, rng: np.random.Generator
) -> npt.NDArray[np.int64]:
    n, topics = len(community), interests.community_topics[community]
    order = np.argsort(rng.random(topics.shape), axis=1, kind="stable")
    ranks = np.resize(np.arange(topics.shape[1]), slots)
    chosen = np.take_along_axis(topics, order[:, ranks], axis=1)  # (n, slots), distinct topics
    own = rng.random((n, slots)) < OWN_TOPICS
    anywhere = rng.integers(0, len(interests.topic_start) - 1, (n, slots))
    chosen = np.where(own, anywhere, chosen)
    first, last = interests.topic_start[chosen], interests.topic_start[chosen + 1]
    phrases = first + (rng.random((n, slots)) * (last - first)).astype(np.int64)
    for _ in range(ATTEMPTS):
        twice = _held_before(phrases)
        phrases[twice] = rng.integers(0, len(interests.vectors), int(twice.sum()))
    return phrases


def _held_before(phrases: npt.NDArray[np.int64]) -> npt.NDArray[np.bool_]:
    """Says of each slot whether an earlier slot holds the same phrase, (n, slots)."""
    same = phrases[:, :, None] == phrases[:, None, :]
    return np.tril(same, k=-1).any(axis=2)
