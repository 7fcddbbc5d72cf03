"""Moves of a trajectory: Metropolis-Hastings steps that leave the posterior as it is.

Resampling and moving: Gilks and Berzuini, JRSS B 63(1), 2001.
"""

from __future__ import annotations

import numpy as np

from agents.rankers.belief_oracle.particles import (
    IMPOSSIBLE,
    REFINE,
    SWITCH,
    WAKE,
    replay,
    switches_several,
)
from agents.rankers.belief_oracle.trait_moves import move_noise, move_rest, move_taste
from agents.rankers.belief_oracle.trials import (
    FIRST,
    NEW_KEY,
    REFINED,
    begin_trial,
    exchanged_phrase,
    judge,
    key_with,
    origin,
    phrase_density,
    phrase_prior,
    propose_phrase,
    same_topic,
    take,
    take_phrase,
    write_phrase,
)
from llmrec_env.simulation import noise
from llmrec_env.simulation.compilation import kernel
from llmrec_env.simulation.elementary import log64
from llmrec_env.simulation.users import attract

_WINDOW = 25  # newest steps whose events are moved
_SAME_TOPIC_SHARE = 0.3  # of proposals of phrases
_DORMANT_SHARE = 0.3  # moves of a dormant phrase that are tried
_ATTEMPTS = 2_000  # to draw a key with which an interest wakes, or none
_LEAST_CHANCE = 1.0 / 256.0  # of an event that a move proposes


@kernel
def move_phrase(known, past, particles, i, end, key, user, scratch):
    """Proposes another phrase for an interest, from where its phrase begins."""
    slot = noise.below(key, 10, user.slots)
    tried = tried_share(particles, i, end, slot)
    start, kind = origin(particles, i, slot, end)
    if noise.uniform(key, 11) > tried or kind == REFINED:
        return False
    community, old = particles.community[i], particles.phrase[i, end, slot]
    user.community, ratio = community, 0.0
    if noise.uniform(key, 12) < _SAME_TOPIC_SHARE:
        phrase = same_topic(known, old, key)
    else:
        phrase = propose_phrase(known, past, kind, start, end, key, user)
        ratio = log64(phrase_density(known, past, community, kind, old, start, end))
        ratio -= log64(phrase_density(known, past, community, kind, phrase, start, end))
    trial = begin_trial(particles, i, start, end)
    if phrase == old or not write_phrase(particles, trial, kind, start, slot, phrase):
        return False
    ratio += phrase_prior(known, particles, trial, kind, start)
    ratio -= phrase_prior(known, particles, i, kind, start)
    most = ratio - log64(tried)  # the new one may be tried more often than the old one
    margin = judge(known, past, particles, i, start, end, most, key, user, scratch)
    if margin < 0.0 or margin + log64(tried_share(particles, trial, end, slot)) < 0.0:
        return False
    take_phrase(particles, i, kind, start, end, phrase)
    return True


@kernel
def tried_share(particles, i, end, slot):
    """Returns how often the phrase of a slot is moved: what is dormant matters less."""
    return 1.0 if particles.active[i, end, slot] == 1 else _DORMANT_SHARE


@kernel
def move_switch(known, past, particles, i, end, key, user, scratch):
    """Adds a switch at a step, or takes one away; the phrase that it wakes is proposed with it."""
    params, t = known.params[0], end - 1 - noise.below(key, 10, min(end, _WINDOW))
    rate = params.switch_rate
    bursts = switches_several(params, t - past.num_logged[0])
    if bursts or not _LEAST_CHANCE <= rate <= 1.0 - _LEAST_CHANCE:
        return False
    adds = noise.uniform(particles.keys[i, t, SWITCH], noise.SWITCH) >= rate
    trial = begin_trial(particles, i, t, t + 1)
    if adds:
        particles.keys[trial, t, SWITCH] = key_with(rate, noise.SWITCH, True, key)
        replay(known, past, particles, trial, t, t + 1, 2.0 * IMPOSSIBLE, user, scratch)
    with_switch, born = particles.keys[trial, t, SWITCH], particles.born[trial if adds else i, t]
    start, kind = origin(particles, i, max(born, 0), t)
    if born < 0 or kind == REFINED:
        return False
    old, user.community = particles.phrase[i, t, born], particles.community[i]
    phrase, ratio = exchanged_phrase(known, past, kind, old, t, end, adds, key, user)
    begin_trial(particles, i, start, end)
    if not write_phrase(particles, trial, kind, start, born, phrase):
        return False
    ratio += phrase_prior(known, particles, trial, kind, start)
    ratio -= phrase_prior(known, particles, i, kind, start)
    ratio += log64(rate / (1.0 - rate)) if adds else log64((1.0 - rate) / rate)
    if adds:
        particles.keys[trial, t, SWITCH] = with_switch
    else:  # would adding the switch to what comes of it wake the same slot?
        replay(known, past, particles, trial, start, t + 1, 2.0 * IMPOSSIBLE, user, scratch)
        if particles.born[trial, t] != born:
            return False
        particles.keys[trial, t, SWITCH] = key_with(rate, noise.SWITCH, False, key)
    if judge(known, past, particles, i, start, end, ratio, key, user, scratch) < 0.0:
        return False
    same = not adds or particles.born[trial, t] == born
    if not same or origin(particles, trial, born, t)[0] != start:
        return False
    take_phrase(particles, i, kind, start, end, phrase)
    return True


@kernel
def wake_chances(known, past, particles, i, t, scratch, chances):
    """Writes how probably each dormant interest is called at step t; returns P(any is)."""
    params, response, asleep = known.params[0], past.responses[t], 1.0
    for p in range(chances.shape[0]):
        phrase = particles.phrase[i, t, p]
        for k in range(response.slots):
            scratch.affinity[k, p] = past.cosines[t, phrase, k]
    attract(params, scratch, response)
    for p in range(chances.shape[0]):
        dormant = particles.active[i, t, p] == 0
        chances[p] = min(params.discovery * scratch.change[p], 1.0) if dormant else 0.0
        asleep *= 1.0 - chances[p]
    return 1.0 - asleep


@kernel
def move_wake(known, past, particles, i, end, key, user, scratch):
    """Lets an interest wake at a step, or lets none."""
    t, chances = end - 1 - noise.below(key, 10, min(end, _WINDOW)), np.empty(user.slots)
    chance = wake_chances(known, past, particles, i, t, scratch, chances)
    if not _LEAST_CHANCE <= chance <= 1.0 - _LEAST_CHANCE:
        return False
    adds = particles.woken[i, t] == 0
    candidate = noise.step_key(key, NEW_KEY)
    for _ in range(_ATTEMPTS):
        candidate, called = noise.mix(candidate), False
        for p in range(user.slots):
            called |= noise.uniform(candidate, noise.WAKE + p) < chances[p]
        if called == adds:
            break
    ratio = log64(chance / (1.0 - chance)) if adds else log64((1.0 - chance) / chance)
    trial = begin_trial(particles, i, t, end)
    particles.keys[trial, t, WAKE] = candidate
    return take(known, past, particles, i, t, end, ratio, key, user, scratch)


@kernel
def move_event(known, past, particles, i, end, key, user, scratch):
    """Draws a refinement anew, or adds it, or takes it away; or draws anew what a switch does."""
    params, mechanism = known.params[0], REFINE
    rate, draw = params.refine_rate, noise.REFINE
    if noise.uniform(key, 11) < 0.3:
        mechanism, rate, draw = SWITCH, params.switch_rate, noise.SWITCH
    if not _LEAST_CHANCE <= rate <= 1.0 - _LEAST_CHANCE:
        return False
    t = end - 1 - noise.below(key, 10, min(end, _WINDOW))
    now = noise.uniform(particles.keys[i, t, mechanism], draw) < rate
    then, ratio = now, 0.0
    if mechanism == REFINE and noise.uniform(key, 12) < 0.7:
        then, ratio = not now, log64((1.0 - rate) / rate)
        ratio = ratio if now else -ratio
    if not now and not then:
        return False
    trial = begin_trial(particles, i, t, end)
    particles.keys[trial, t, mechanism] = key_with(rate, draw, then, key)
    return take(known, past, particles, i, t, end, ratio, key, user, scratch)


@kernel
def move_count(known, past, particles, i, end, key, user, scratch):
    """Lets one more interest be active at the beginning, or one less."""
    fewest, most = known.active_range
    count, more = particles.active[i, 0].sum(), noise.uniform(key, 10) < 0.5
    if count == (most if more else fewest):
        return False
    slot = count if more else count - 1
    old, user.community = particles.phrase[i, 0, slot], particles.community[i]
    phrase, ratio = exchanged_phrase(known, past, FIRST, old, 0, end, more, key, user)
    trial = begin_trial(particles, i, 0, end)
    if not write_phrase(particles, trial, FIRST, 0, slot, phrase):
        return False
    particles.active[trial, 0, slot] = 1 if more else 0
    ratio += phrase_prior(known, particles, trial, FIRST, 0)
    ratio -= phrase_prior(known, particles, i, FIRST, 0)
    return take(known, past, particles, i, 0, end, ratio, key, user, scratch)


@kernel
def move(known, past, particles, i, end, key, user, scratch):
    """Tries one random move of particle i, of which `end` steps are past."""
    choice = noise.uniform(key, 5000)
    if choice < 0.40:
        return move_phrase(known, past, particles, i, end, key, user, scratch)
    if choice < 0.60:
        return move_switch(known, past, particles, i, end, key, user, scratch)
    if choice < 0.68:
        return move_wake(known, past, particles, i, end, key, user, scratch)
    if choice < 0.72:
        return move_event(known, past, particles, i, end, key, user, scratch)
    if choice < 0.82:
        return move_noise(known, past, particles, i, end, key, user, scratch)
    if choice < 0.85:
        return move_rest(known, past, particles, i, end, key, user, scratch)
    if choice < 0.87:
        return move_count(known, past, particles, i, end, key, user, scratch)
    return move_taste(known, past, particles, i, end, key, user, scratch)
