"""Trials: what moves propose, how likely they are to propose it, and whether it is taken.

A move changes some randomness of the trial row, replays it from there, and takes it with the
probability min(1, fit' / fit * ratio) of Metropolis and Hastings, where the ratio is that of priors
and proposals.
"""

from __future__ import annotations

import numpy as np

from agents.rankers.belief_oracle.particles import IMPOSSIBLE, copy, copy_randomness, replay
from llmrec_env.simulation import noise
from llmrec_env.simulation.compilation import kernel
from llmrec_env.simulation.elementary import exp64, log64
from llmrec_env.simulation.interests import OWN_FRESH_TOPICS, fresh_phrase
from llmrec_env.simulation.population import OWN_TOPICS

FIRST, FRESH, REFINED = 0, 1, 2
"""Where an interest's phrase comes from: it was there at the beginning, a switch, a refinement."""
ACCEPT, NEW_KEY = 1000, 1001
"""Draws of a move, beside those that it says itself: whether it is taken, and of keys."""

_NEWEST = 5  # steps of which proposals of phrases make more
_PRIOR_SHARE, _EVER_SHARE = 0.2, 0.4  # of proposals of phrases; the rest is of the newest steps
_ATTEMPTS = 2_000  # to draw a key with which an event happens


@kernel
def origin(particles, i, slot, end):
    """Returns since which step slot's phrase before step `end` is there, and where it is from."""
    for t in range(end - 1, -1, -1):
        if particles.phrase[i, t + 1, slot] != particles.phrase[i, t, slot]:
            fresh = particles.phrase[i, t + 1, slot] == particles.fresh[i, t]
            return t + 1, FRESH if particles.died[i, t] == slot and fresh else REFINED
    return 0, FIRST


@kernel
def phrase_density(known, past, community, kind, phrase, start, end):
    """Returns the probability with which `propose_phrase` proposes a phrase."""
    newest, prior = max(start, end - _NEWEST), _PRIOR_SHARE
    density = 0.0
    for share, since in ((_EVER_SHARE, start), (1.0 - _PRIOR_SHARE - _EVER_SHARE, newest)):
        count = past.hinted[end] - past.hinted[since]
        if count > 0:
            density += share * (past.heard[end, phrase] - past.heard[since, phrase]) / count
        else:
            prior += share
    table = known.first if kind == FIRST else known.fresh
    return max(density, 0.0) + prior * exp64(table[community, phrase])


@kernel
def propose_phrase(known, past, kind, start, end, key, user):
    """Returns a phrase for which a step from `start` to before `end` speaks, or one of the prior.

    Args:
        user: whose community it is.
    """
    source, since = noise.uniform(key, 0), end
    if _PRIOR_SHARE <= source < _PRIOR_SHARE + _EVER_SHARE:
        since = start
    elif source >= _PRIOR_SHARE + _EVER_SHARE:
        since = max(start, end - _NEWEST)
    wanted = past.hinted[end] - past.hinted[since]
    if wanted > 0:
        index, t = past.hinted[since] + noise.below(key, 1, wanted), since
        while past.hinted[t + 1] <= index:
            t += 1
        hints = past.hints[t]
        place = noise.uniform(key, 2) * hints[-1]
        return min(np.searchsorted(hints, place), hints.shape[0] - 1)
    return prior_phrase(known, kind, key, user)


@kernel
def prior_phrase(known, kind, key, user):
    """Returns a phrase of the population's first interests, or of the fresh ones of switches."""
    own = OWN_TOPICS if kind == FIRST else OWN_FRESH_TOPICS
    interests = known.interests
    return fresh_phrase(user, interests.topic_start, interests.community_topics, key, 3, own)


@kernel
def exchanged_phrase(known, past, kind, old, start, end, adds, key, user):
    """Returns a phrase for an interest that a move makes active from `start` on, or dormant.

    What becomes active is proposed by what was heard since, what becomes dormant by the prior.
    Returns the log-ratio of the two proposals as well.
    """
    community, table = user.community, known.first if kind == FIRST else known.fresh
    if adds:
        phrase = propose_phrase(known, past, kind, start, end, key, user)
        density = phrase_density(known, past, community, kind, phrase, start, end)
        return phrase, table[community, old] - log64(density)
    phrase = prior_phrase(known, kind, key, user)
    density = phrase_density(known, past, community, kind, old, start, end)
    return phrase, log64(density) - table[community, phrase]


@kernel
def same_topic(known, phrase, key):
    """Returns a random phrase of the same topic."""
    topic, starts = known.topic[phrase], known.interests.topic_start
    return starts[topic] + noise.below(key, 13, starts[topic + 1] - starts[topic])


@kernel
def first_prior(known, phrases, community):
    """Returns the log-probability of a user's first phrases, up to a constant."""
    total = 0.0
    for p in range(phrases.shape[0]):
        total += known.first[community, phrases[p]]
        topic = known.topic[phrases[p]]
        for q in range(p):
            if known.topic[phrases[q]] == topic:
                total += known.again[community, topic]
    return total


@kernel
def phrase_prior(known, particles, i, kind, t):
    """Returns the log-probability of the phrase that begins at t, up to a constant."""
    community = particles.community[i]
    if kind == FIRST:
        return first_prior(known, particles.phrase[i, 0], community)
    return known.fresh[community, particles.fresh[i, t - 1]]


@kernel
def write_phrase(particles, i, kind, t, slot, phrase):
    """Writes the phrase of a slot that begins at t; says whether the user did not hold it yet."""
    particles.phrase[i, t, slot] = -1
    held = False
    for p in range(particles.phrase.shape[2]):
        held |= particles.phrase[i, t, p] == phrase
    particles.phrase[i, t, slot] = phrase
    if kind == FRESH:
        particles.fresh[i, t - 1] = phrase
    return not held


@kernel
def write_state(particles, source, target, t):
    """Writes what one particle was before step t as what another was."""
    particles.phrase[target, t] = particles.phrase[source, t]
    particles.active[target, t] = particles.active[source, t]
    particles.weight[target, t] = particles.weight[source, t]


@kernel
def begin_trial(particles, i, start, end):
    """Makes the trial row the particle i, to be replayed from `start`."""
    trial = particles.log_weight.shape[0]
    copy_randomness(particles, i, trial, start, end)
    write_state(particles, i, trial, start)
    return trial


@kernel
def judge(known, past, particles, i, start, end, ratio, key, user, scratch):
    """Replays the trial row from `start`, and returns by how much it is above being refused.

    It is to be taken if that is not negative. Less than 0 may be returned as IMPOSSIBLE.
    """
    trial = particles.log_weight.shape[0]
    least = particles.fit[i, start:end].sum() + log64(noise.uniform(key, ACCEPT)) - ratio
    fit = replay(known, past, particles, trial, start, end, least, user, scratch)
    return fit - least if fit > IMPOSSIBLE else IMPOSSIBLE


@kernel
def take(known, past, particles, i, start, end, ratio, key, user, scratch):
    """Replays the trial row from `start`, and makes particle i what it is or leaves it."""
    if judge(known, past, particles, i, start, end, ratio, key, user, scratch) < 0.0:
        return False
    copy(particles, particles.log_weight.shape[0], i, start, end)
    return True


@kernel
def key_with(threshold, draw, happens, key):
    """Returns a random key whose `draw` is below a threshold, or is not, as `happens` says."""
    candidate = noise.step_key(key, NEW_KEY)
    for _ in range(_ATTEMPTS):
        candidate = noise.mix(candidate)
        if (noise.uniform(candidate, draw) < threshold) == happens:
            break
    return candidate


@kernel
def take_phrase(particles, i, kind, start, end, phrase):
    """Makes particle i what the trial row is, whose phrase begins at `start`."""
    copy(particles, particles.log_weight.shape[0], i, start, end)
    if kind == FRESH:
        particles.fresh[i, start - 1] = phrase
