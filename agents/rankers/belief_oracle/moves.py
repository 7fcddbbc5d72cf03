"""Moves: Metropolis-Hastings steps on a trajectory, each of which leaves the posterior as it is.

A move changes some randomness of the trial row, replays it from there, and takes it with the
probability min(1, fit' / fit * ratio), where the ratio is that of priors and proposals. Resampling
and moving: Gilks and Berzuini, JRSS B 63(1), 2001.
"""

from __future__ import annotations

import math

import numpy as np

from agents.rankers.belief_oracle.particles import (
    IMPOSSIBLE,
    REFINE,
    SWITCH,
    WAKE,
    copy,
    copy_randomness,
    replay,
    response_fit,
)
from llmrec_env.simulation import noise
from llmrec_env.simulation.compilation import kernel
from llmrec_env.simulation.elementary import exp64, log64
from llmrec_env.simulation.population import COMMUNITY_TASTE, OWN_TASTE, OWN_TOPICS
from llmrec_env.simulation.user_record import TASTE_DIM
from llmrec_env.simulation.users import MAX_LOG_WEIGHT, attraction, fresh_phrase
from llmrec_env.simulation.users import OWN_TOPICS as OWN_FRESH_TOPICS

FIRST, FRESH, REFINED = 0, 1, 2
"""Where an interest's phrase comes from: it was there at the beginning, a switch, a refinement."""

_WINDOW = 25  # newest steps whose events are moved
_NOISE_WINDOW = 40
_NEWEST = 5  # steps of which proposals of phrases make more
_PRIOR_SHARE, _EVER_SHARE = 0.2, 0.4  # of proposals of phrases; the rest is of the newest steps
_SAME_TOPIC_SHARE = 0.3
_DORMANT_SHARE = 0.3  # moves of a dormant phrase that are tried
_ATTEMPTS = 2_000  # to draw a key with which an event happens
_LEAST_CHANCE = 1.0 / 256.0  # of an event that a move proposes
_ACCEPT, _KEY = 1000, 1001  # draws


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
    least = particles.fit[i, start:end].sum() + log64(noise.uniform(key, _ACCEPT)) - ratio
    fit = replay(known, past, particles, trial, start, end, least, user, scratch)
    return fit - least if fit > IMPOSSIBLE else IMPOSSIBLE


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
    copy(particles, trial, i, start, end)
    if kind == FRESH:
        particles.fresh[i, start - 1] = phrase
    return True


@kernel
def tried_share(particles, i, end, slot):
    """Returns how often the phrase of a slot is moved: what is dormant matters less."""
    return 1.0 if particles.active[i, end, slot] == 1 else _DORMANT_SHARE


@kernel
def same_topic(known, phrase, key):
    """Returns a random phrase of the same topic."""
    topic, starts = known.topic[phrase], known.interests.topic_start
    return starts[topic] + noise.below(key, 13, starts[topic + 1] - starts[topic])


@kernel
def key_with(threshold, draw, happens, key):
    """Returns a random key whose `draw` is below a threshold, or is not, as `happens` says."""
    candidate = noise.step_key(key, _KEY)
    for _ in range(_ATTEMPTS):
        candidate = noise.mix(candidate)
        if (noise.uniform(candidate, draw) < threshold) == happens:
            break
    return candidate


@kernel
def move_switch(known, past, particles, i, end, key, user, scratch):
    """Adds a switch at a step, or takes one away; the phrase that it wakes is proposed with it."""
    params = known.params[0]
    rate, t = params.switch_rate, end - 1 - noise.below(key, 10, min(end, _WINDOW))
    bursts = params.burst_step > 0 and t - past.num_logged[0] == int(params.burst_step)
    if bursts or not _LEAST_CHANCE <= rate <= 1.0 - _LEAST_CHANCE:
        return False
    adds = noise.uniform(particles.keys[i, t, SWITCH], noise.SWITCH) >= rate
    trial = begin_trial(particles, i, t, t + 1)
    if adds:
        particles.keys[trial, t, SWITCH] = key_with(rate, noise.SWITCH, True, key)
        replay(known, past, particles, trial, t, t + 1, 2.0 * IMPOSSIBLE, user, scratch)
        born = particles.born[trial, t]
    else:
        born = particles.born[i, t]
    if born < 0:
        return False
    with_switch = particles.keys[trial, t, SWITCH]
    ratio = log64(rate / (1.0 - rate)) if adds else log64((1.0 - rate) / rate)
    start, kind = origin(particles, i, born, t)
    if kind == REFINED:
        return False
    community, old = particles.community[i], particles.phrase[i, t, born]
    user.community = community
    table = known.first if kind == FIRST else known.fresh
    if adds:
        phrase = propose_phrase(known, past, kind, t, end, key, user)
        ratio += table[community, old]
        ratio -= log64(phrase_density(known, past, community, kind, phrase, t, end))
    else:
        phrase = prior_phrase(known, kind, key, user)
        ratio += log64(phrase_density(known, past, community, kind, old, t, end))
        ratio -= table[community, phrase]
    begin_trial(particles, i, start, end)
    if not write_phrase(particles, trial, kind, start, born, phrase):
        return False
    ratio += phrase_prior(known, particles, trial, kind, start)
    ratio -= phrase_prior(known, particles, i, kind, start)
    if not adds:  # would adding the switch wake the same slot?
        replay(known, past, particles, trial, start, t + 1, 2.0 * IMPOSSIBLE, user, scratch)
        if particles.born[trial, t] != born:
            return False
        particles.keys[trial, t, SWITCH] = key_with(rate, noise.SWITCH, False, key)
    else:
        particles.keys[trial, t, SWITCH] = with_switch
    if judge(known, past, particles, i, start, end, ratio, key, user, scratch) < 0.0:
        return False
    if adds and particles.born[trial, t] != born:
        return False
    if origin(particles, trial, born, t)[0] != start:
        return False
    copy(particles, trial, i, start, end)
    if kind == FRESH:
        particles.fresh[i, start - 1] = phrase
    return True


@kernel
def wake_chance(known, past, particles, i, t):
    """Returns the probability that an interest wakes at step t."""
    params, response, asleep = known.params[0], past.responses[t], 1.0
    for p in range(particles.phrase.shape[2]):
        if particles.active[i, t, p] == 0:
            called = attraction(params, past.cosines[t].T, particles.phrase[i, t, p], response)
            asleep *= 1.0 - min(params.discovery * called, 1.0)
    return 1.0 - asleep


@kernel
def wakes(known, past, particles, i, t, key):
    """Says whether an interest wakes at step t with this key."""
    params, response, found = known.params[0], past.responses[t], False
    for p in range(particles.phrase.shape[2]):
        if particles.active[i, t, p] == 0:
            called = attraction(params, past.cosines[t].T, particles.phrase[i, t, p], response)
            found |= noise.uniform(key, noise.WAKE + p) < params.discovery * called
    return found


@kernel
def move_wake(known, past, particles, i, end, key, user, scratch):
    """Lets an interest wake at a step, or lets none."""
    t = end - 1 - noise.below(key, 10, min(end, _WINDOW))
    chance = wake_chance(known, past, particles, i, t)
    if not _LEAST_CHANCE <= chance <= 1.0 - _LEAST_CHANCE:
        return False
    adds = particles.woken[i, t] == 0
    candidate = noise.step_key(key, _KEY)
    for _ in range(_ATTEMPTS):
        candidate = noise.mix(candidate)
        if wakes(known, past, particles, i, t, candidate) == adds:
            break
    ratio = log64(chance / (1.0 - chance)) if adds else log64((1.0 - chance) / chance)
    trial = begin_trial(particles, i, t, end)
    particles.keys[trial, t, WAKE] = candidate
    return take(known, past, particles, i, t, end, ratio, key, user, scratch)


@kernel
def take(known, past, particles, i, start, end, ratio, key, user, scratch):
    """Replays the trial row from `start`, and makes particle i what it is or leaves it."""
    if judge(known, past, particles, i, start, end, ratio, key, user, scratch) < 0.0:
        return False
    copy(particles, particles.log_weight.shape[0], i, start, end)
    return True


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
def move_noise(known, past, particles, i, end, key, user, scratch):
    """Moves the noise of one log-weight, or of all, from some step on (preconditioned walk)."""
    start = end - 1 - noise.below(key, 10, min(end, _NOISE_WINDOW))
    slot = noise.below(key, 11, user.slots + 2)
    kept = 0.8
    if slot < user.slots:
        kept = 0.0 if noise.uniform(key, 12) < 0.5 else 0.6
    trial, new = begin_trial(particles, i, start, end), math.sqrt(1.0 - kept * kept)
    for t in range(start, end):
        step_key = noise.step_key(key, t)
        for p in range(user.slots):
            if slot >= user.slots or slot == p:
                old = particles.noise[i, t, p]
                particles.noise[trial, t, p] = kept * old + new * noise.normal(step_key, p)
    return take(known, past, particles, i, start, end, 0.0, key, user, scratch)


@kernel
def move_rest(known, past, particles, i, end, key, user, scratch):
    """Moves the resting log-weight of an interest, with which it also begins."""
    params, slot = known.params[0], noise.below(key, 10, user.slots)
    kept = 0.8 if noise.uniform(key, 11) < 0.5 else 0.0
    trial, new = begin_trial(particles, i, 0, end), math.sqrt(1.0 - kept * kept)
    rest = kept * particles.rest[i, slot] + new * params.base_sd * noise.normal(key, 12)
    particles.rest[trial, slot] = rest
    particles.weight[trial, 0, slot] = min(max(rest, -MAX_LOG_WEIGHT), MAX_LOG_WEIGHT)
    return take(known, past, particles, i, 0, end, 0.0, key, user, scratch)


@kernel
def move_count(known, past, particles, i, end, key, user, scratch):
    """Lets one more interest be active at the beginning, or one less."""
    fewest, most = known.active_range
    count, more = particles.active[i, 0].sum(), noise.uniform(key, 10) < 0.5
    if count == (most if more else fewest):
        return False
    slot, community = count if more else count - 1, particles.community[i]
    old, user.community = particles.phrase[i, 0, slot], community
    if more:
        phrase = propose_phrase(known, past, FIRST, 0, end, key, user)
        ratio = known.first[community, old]
        ratio -= log64(phrase_density(known, past, community, FIRST, phrase, 0, end))
    else:
        phrase = prior_phrase(known, FIRST, key, user)
        ratio = log64(phrase_density(known, past, community, FIRST, old, 0, end))
        ratio -= known.first[community, phrase]
    trial = begin_trial(particles, i, 0, end)
    if not write_phrase(particles, trial, FIRST, 0, slot, phrase):
        return False
    particles.active[trial, 0, slot] = 1 if more else 0
    ratio += phrase_prior(known, particles, trial, FIRST, 0)
    ratio -= phrase_prior(known, particles, i, FIRST, 0)
    return take(known, past, particles, i, 0, end, ratio, key, user, scratch)


@kernel
def community_of(known, particles, i, end, key, with_taste):
    """Returns a community drawn by the phrases of particle i, and by its taste if so wanted."""
    count = known.community_taste.shape[0]
    scores = np.empty(count)
    for c in range(count):
        scores[c] = first_prior(known, particles.phrase[i, 0], c)
        for t in range(end):
            if particles.died[i, t] >= 0:
                scores[c] += known.fresh[c, particles.fresh[i, t]]
        if with_taste:
            for r in range(TASTE_DIM):
                own = particles.taste[i, r] - COMMUNITY_TASTE * known.community_taste[c, r]
                scores[c] -= 0.5 * (own / OWN_TASTE) ** 2
    best, most = 0, -np.inf
    for c in range(count):  # Gumbel-max
        score = scores[c] + noise.gumbel(key, 20 + c)
        if score > most:
            best, most = c, score
    return best


@kernel
def move_taste(known, past, particles, i, end, key, user, scratch):
    """Moves the taste within its community, or to another one as the phrases say.

    No trajectory depends on taste: nothing is replayed.
    """
    trial, community = particles.log_weight.shape[0], particles.community[i]
    choice = noise.uniform(key, 10)
    if choice < 0.15:
        particles.community[i] = community_of(known, particles, i, end, key, True)
        return True
    kept, target = 1.0, community
    if choice < 0.3:
        target = community_of(known, particles, i, end, key, False)
    else:
        kept = 0.95 if choice < 0.6 else (0.8 if choice < 0.85 else 0.3)
    new = math.sqrt(1.0 - kept * kept)
    for r in range(TASTE_DIM):
        own = particles.taste[i, r] - COMMUNITY_TASTE * known.community_taste[community, r]
        own = kept * own + new * OWN_TASTE * noise.normal(key, 40 + r)
        particles.taste[trial, r] = COMMUNITY_TASTE * known.community_taste[target, r] + own
    return take_taste(known, past, particles, i, target, end, key, user, scratch)


@kernel
def take_taste(known, past, particles, i, community, end, key, user, scratch):
    """Gives particle i the taste of the trial row and a community, or leaves it."""
    trial = particles.log_weight.shape[0]
    change, old, new = np.zeros(end), particles.taste[i].copy(), particles.taste[trial]
    margin = -log64(noise.uniform(key, _ACCEPT))
    for t in range(end):
        user.goodwill = past.goodwill[t]
        user.taste[:] = old
        before = response_fit(known, past, t, particles.text[i, t], user, scratch)
        user.taste[:] = new
        change[t] = response_fit(known, past, t, particles.text[i, t], user, scratch) - before
        margin += change[t]
    if margin < 0.0:
        return False
    particles.fit[i, :end] += change
    particles.taste[i] = new
    particles.community[i] = community
    return True


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
