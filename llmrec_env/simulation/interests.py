"""HIDDEN: interests of a user: how much each counts, and how one ends and another begins."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from llmrec_env.simulation import noise
from llmrec_env.simulation.compilation import kernel
from llmrec_env.simulation.elementary import exp32

NUM_COMMUNITIES = 16
COMMUNITY_TOPICS = 12
ATTEMPTS = 8  # to find a phrase the user does not hold yet
OWN_FRESH_TOPICS = 0.3  # share of fresh phrases that the community does not decide


class Interests(NamedTuple):
    """What interests can be: phrases, ordered by topic, and who draws from which topics."""

    vectors: npt.NDArray[np.float32]  # (phrases, d), unit
    neighbours: npt.NDArray[np.int32]  # (phrases, 6), nearest phrases of the same topic
    topic_start: npt.NDArray[np.int32]  # (topics + 1,), where each topic's phrases begin
    community_topics: npt.NDArray[np.int32]  # (communities, 12)


@kernel
def relative_weights(user, out):
    """Writes omega_p in [0, 1], 0 for dormant interests, 1 for the strongest."""
    top = np.float32(-1e9)
    for p in range(user.slots):
        if user.active[p] == 1 and user.weight[p] > top:
            top = user.weight[p]
    for p in range(user.slots):
        omega = exp32(user.weight[p] - top)
        out[p] = omega if user.active[p] == 1 else np.float32(0.0)


@kernel
def interest_vector(user, phrase_vectors, weights, out):
    """Writes u = sum_p omega_p e_p, not renormalised; `weights` is scratch for omega."""
    relative_weights(user, weights)
    out[:] = 0.0
    for p in range(user.slots):
        if weights[p] > 0.0:
            for j in range(out.shape[0]):
                out[j] += weights[p] * phrase_vectors[user.phrase[p], j]


@kernel
def holds(user, phrase):
    """Says whether the phrase is one of the user's interests, active or dormant."""
    for p in range(user.slots):
        if user.phrase[p] == phrase:
            return True
    return False


@kernel
def fresh_phrase(user, topic_start, community_topics, key, draw, own_share):
    """Returns a random phrase: of one of the community's topics, or (`own_share`) of any topic."""
    num_topics = topic_start.shape[0] - 1
    if noise.uniform(key, draw) < own_share:
        topic = noise.below(key, draw + 1, num_topics)
    else:
        index = noise.below(key, draw + 1, community_topics.shape[1])
        topic = community_topics[user.community, index]
    first = topic_start[topic]
    return first + noise.below(key, draw + 2, topic_start[topic + 1] - first)


@kernel
def switch_one(user, params, interests, key, draw, response):
    """Ends an active interest (probability ~ exp theta); its slot gets a fresh, dormant phrase.

    Returns the slot of the dormant interest that is born, or -1.
    """
    active = 0
    for p in range(user.slots):
        active += user.active[p]
    if active <= 1 or active >= user.slots:
        return -1
    died, most_died, born = -1, -1e9, dormant_slot(user, key, draw)
    for p in range(user.slots):
        if user.active[p] == 1:
            score = user.weight[p] + noise.gumbel(key, draw + p)
            if score > most_died:
                died, most_died = p, score
    replace(user, params, interests, died, born, key, draw, response)
    return born


@kernel
def dormant_slot(user, key, draw):
    """Returns a random dormant interest's slot, -1 if all are awake."""
    born, most_born = -1, -1e9
    for p in range(user.slots):
        if user.active[p] == 0:
            score = noise.gumbel(key, draw + 16 + p)
            if score > most_born:
                born, most_born = p, score
    return born


@kernel
def replace(user, params, interests, died, born, key, draw, response):
    """Ends the interest of a slot, which gets a fresh, dormant phrase; wakes that of another."""
    response.died, response.born = user.phrase[died], user.phrase[born]
    user.active[died], user.active[born] = 0, 1
    user.weight[born] = params.theta_birth
    for attempt in range(ATTEMPTS):
        draw_phrase = draw + 32 + 3 * attempt
        phrase = fresh_phrase(
            user,
            interests.topic_start,
            interests.community_topics,
            key,
            draw_phrase,
            OWN_FRESH_TOPICS,
        )
        if not holds(user, phrase):
            user.phrase[died] = phrase
            break
    user.last_switch = user.step
