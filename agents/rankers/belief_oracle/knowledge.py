"""Knowledge of a world: everything but the hidden states of its users."""

from __future__ import annotations

import dataclasses
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from llmrec_env.config import EnvConfig
from llmrec_env.interface.history import RECENT_STEPS
from llmrec_env.simulation import population
from llmrec_env.simulation.compilation import kernel
from llmrec_env.simulation.elementary import exp64
from llmrec_env.simulation.inner_products import rows_dot
from llmrec_env.simulation.interests import OWN_FRESH_TOPICS, Interests
from llmrec_env.simulation.logging_policy import SEARCH_NOISE, SEARCHED
from llmrec_env.simulation.records import compiled_view
from llmrec_env.simulation.user_record import USER
from llmrec_env.world import World

_POOL = 10_000  # users drawn from the population, of whom particles begin as copies
_NEWTON_STEPS = 30


class Knowledge(NamedTuple):
    """What a filter knows of a world: dynamics, texts, traits of items, communities."""

    params: npt.NDArray[np.void]  # (1,)
    still: npt.NDArray[np.void]  # (1,), the same without the random part of drift
    interests: Interests
    vectors: npt.NDArray[np.float32]  # (items, d)
    traits: npt.NDArray[np.void]  # (items,)
    community_taste: npt.NDArray[np.float32]  # (communities, TASTE_DIM)
    topic: npt.NDArray[np.int32]  # (phrases,)
    first: npt.NDArray[np.float64]  # (communities, phrases), log P(one of the first interests)
    fresh: npt.NDArray[np.float64]  # (communities, phrases), log P(fresh phrase)
    again: npt.NDArray[np.float64]  # (communities, topics), log of how much rarer a pair of it is
    attraction: npt.NDArray[np.float64]  # (items,), by which logged slates show popular items
    shelves: npt.NDArray[np.float64]  # (logged steps or 1, 2), number and attraction of all items
    race: npt.NDArray[np.float64]  # (logged steps or 1, phrases, k + 1), see `race_times`
    active_range: tuple[int, int]  # fewest and most interests of a new user that are active


def knowledge_of(world: World, slate_size: int) -> Knowledge:
    """Returns what there is to know of a world but its users."""
    interests, config = world.interests, world.config
    still = world.params.copy()
    still["ou_sigma"] = 0.0
    sizes = np.diff(interests.topic_start)
    topic = np.repeat(np.arange(len(sizes)), sizes).astype(np.int32)
    share = np.stack([np.bincount(c, minlength=len(sizes)) for c in interests.community_topics])
    share = share / share.sum(axis=1, keepdims=True)
    first = _topic_shares(share, population.OWN_TOPICS)
    # The community's topics are drawn without replacement: of two first interests of one topic
    # at least one is the user's own.
    drawn = (1.0 - population.OWN_TOPICS) * share / first
    attraction = np.exp(0.5 * world.traits["quality"].astype(np.float64))
    vectors, published = world.text_vectors, world.items.published
    logged = min(config.warmup_slates, RECENT_STEPS) if config.ages() else 1
    existing = [published <= step for step in range(-1, -1 - logged, -1)]
    return Knowledge(
        params=world.params,
        still=still,
        interests=interests,
        vectors=world.text_vectors,
        traits=world.traits,
        community_taste=world.community_taste,
        topic=topic,
        first=np.log(first / sizes)[:, topic],
        fresh=np.log(_topic_shares(share, OWN_FRESH_TOPICS) / sizes)[:, topic],
        again=np.log1p(-(drawn**2)),
        attraction=attraction,
        shelves=np.array([[items.sum(), attraction[items].sum()] for items in existing]),
        race=np.stack([race_times(interests.vectors, vectors[x], slate_size) for x in existing]),
        active_range=(config.active_min, config.active_max),
    )


def _topic_shares(share: npt.NDArray[np.float64], own: float) -> npt.NDArray[np.float64]:
    return (1.0 - own) * share + own / share.shape[1]


def draw_pool(config: EnvConfig, world: World, seed: int) -> Any:
    """Returns users of the same population, other than those of the world, (_POOL,)."""
    config = dataclasses.replace(config, num_users=_POOL, world_seed=seed)
    pool = population.new_users(config, world.interests, world.community_taste)
    return compiled_view(pool, USER)


@kernel
def race_times(phrases, vectors, k):
    """Returns when a search has found so many results, (phrases, k + 1), for 0 .. k of them.

    Maxima of scores with Gumbel noise are the winners of a race: an item of score s arrives at an
    exponential time of rate exp(s / noise). At time tau, sum_y f (1 - exp(-rate_y tau)) items are
    expected to have arrived, f the chance of an item to be among those searched; tau makes that
    0 .. k. Newton's method, which comes from the left as the sum is concave.
    """
    n = vectors.shape[0]
    searched = min(SEARCHED, n) / n
    times, rates = np.zeros((phrases.shape[0], k + 1)), np.empty(n)
    for p in range(phrases.shape[0]):
        for y in range(n):
            rates[y] = exp64(rows_dot(phrases, p, vectors, y) / np.float64(SEARCH_NOISE))
        tau = 0.0
        for m in range(1, k + 1):
            for _ in range(_NEWTON_STEPS):
                arrived, speed = 0.0, 0.0
                for y in range(n):
                    waiting = exp64(-rates[y] * tau)
                    arrived += 1.0 - waiting
                    speed += rates[y] * waiting
                missing = m - searched * arrived
                tau += missing / (searched * speed)
                if missing < 1e-6:
                    break
            times[p, m] = tau
    return times
