"""HIDDEN: regimes of the market, at which interests of all users move to the same topics."""

from __future__ import annotations

import numpy as np

from llmrec_env.simulation import noise
from llmrec_env.simulation.compilation import inlined, kernel
from llmrec_env.simulation.interests import holds, switch_one

NUM_REGIMES, REGIME_TOPICS = 8, 3  # of a world, and of each
_MARKET = np.uint64(1 << 40)  # keys of the market, beside those of sessions


@inlined
def market_key(params, step):
    """Returns the key of what happens to all users of a world at a step."""
    return noise.step_key(noise.mix(np.uint64(params.world_seed) + _MARKET), step)


@inlined
def regime_changes(params, step):
    """Says whether the market enters a regime at a step: for all users of a world, or for none."""
    return params.regime_rate > 0.0 and noise.uniform(market_key(params, step), 0) < (
        params.regime_rate
    )


@kernel
def regime_topic(params, step, index, num_topics):
    """Returns topic number `index` of the regime that the market enters at a step."""
    regime = noise.below(market_key(params, step), 1, NUM_REGIMES)
    topics = market_key(params, -(1 << 30))  # of all regimes: the same at every step
    return noise.below(topics, REGIME_TOPICS * regime + index, num_topics)


@kernel
def enter_regime(user, params, interests, key, draw, response):
    """Ends an active interest; the one that is born is of one of the regime's topics."""
    born = switch_one(user, params, interests, key, draw, response)
    starts, index = interests.topic_start, noise.below(key, draw + 60, REGIME_TOPICS)
    topic = regime_topic(params, user.step, index, starts.shape[0] - 1)
    phrase = starts[topic] + noise.below(key, draw + 61, starts[topic + 1] - starts[topic])
    if born >= 0 and not holds(user, phrase):
        user.phrase[born] = response.born = phrase
