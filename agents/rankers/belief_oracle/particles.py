"""Particles of a session: whole trajectories that its user may have taken, and how well they fit.

A trajectory is what it began with, and the randomness of each step: noise of the log-weights, keys
of the other mechanisms, and the phrase that a switch would bring. Everything else follows, by the
simulator's own functions.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from agents.rankers.belief_oracle.likelihood import logged_fit, query_fit, response_fit
from llmrec_env.simulation import noise
from llmrec_env.simulation.compilation import inlined, kernel
from llmrec_env.simulation.elementary import exp64
from llmrec_env.simulation.inner_products import products_with
from llmrec_env.simulation.interests import OWN_FRESH_TOPICS, fresh_phrase, holds, relative_weights
from llmrec_env.simulation.questions import resolve
from llmrec_env.simulation.regimes import regime_changes
from llmrec_env.simulation.user_record import TASTE_DIM
from llmrec_env.simulation.users import MAX_LOG_WEIGHT, drift, forget, refine, switch, wake

WAKE, SWITCH, REFINE = 0, 1, 2
IMPOSSIBLE = -1e18


class Particles(NamedTuple):
    """N trajectories of T steps at most, and in row N one on trial; P interests, k slots."""

    phrase: npt.NDArray[np.int32]  # (N + 1, T + 1, P), before each step
    active: npt.NDArray[np.int32]  # (N + 1, T + 1, P)
    weight: npt.NDArray[np.float32]  # (N + 1, T + 1, P)
    noise: npt.NDArray[np.float32]  # (N + 1, T, P), standard normal
    keys: npt.NDArray[np.uint64]  # (N + 1, T, 3), of WAKE, SWITCH and REFINE
    fresh: npt.NDArray[np.int32]  # (N + 1, T), phrase that the dead interest's slot gets
    died: npt.NDArray[np.int8]  # (N + 1, T), slot, -1 for none
    born: npt.NDArray[np.int8]  # (N + 1, T), likewise
    woken: npt.NDArray[np.int8]  # (N + 1, T), 1: an interest woke
    text: npt.NDArray[np.float32]  # (N + 1, T, k), y . u
    fit: npt.NDArray[np.float64]  # (N + 1, T), log-likelihood of what is public of the step
    rest: npt.NDArray[np.float32]  # (N + 1, P)
    taste: npt.NDArray[np.float32]  # (N + 1, TASTE_DIM)
    community: npt.NDArray[np.int32]  # (N + 1,)
    log_weight: npt.NDArray[np.float64]  # (N,)


def new_particles(n: int, steps: int, slots: int, slate_size: int) -> Particles:
    """Returns room for n trajectories."""
    rows = n + 1
    return Particles(
        phrase=np.zeros((rows, steps + 1, slots), np.int32),
        active=np.zeros((rows, steps + 1, slots), np.int32),
        weight=np.zeros((rows, steps + 1, slots), np.float32),
        noise=np.zeros((rows, steps, slots), np.float32),
        keys=np.zeros((rows, steps, 3), np.uint64),
        fresh=np.zeros((rows, steps), np.int32),
        died=np.full((rows, steps), -1, np.int8),
        born=np.full((rows, steps), -1, np.int8),
        woken=np.zeros((rows, steps), np.int8),
        text=np.zeros((rows, steps, slate_size), np.float32),
        fit=np.zeros((rows, steps)),
        rest=np.zeros((rows, slots), np.float32),
        taste=np.zeros((rows, TASTE_DIM), np.float32),
        community=np.zeros(rows, np.int32),
        log_weight=np.zeros(n),
    )


@kernel
def begin(particles, pool, key):
    """Begins every trajectory as some user of the pool."""
    for i in range(particles.log_weight.shape[0]):
        user = pool[noise.below(key, i, pool.shape[0])]
        for p in range(user.slots):
            particles.phrase[i, 0, p], particles.active[i, 0, p] = user.phrase[p], user.active[p]
            particles.weight[i, 0, p], particles.rest[i, p] = user.weight[p], user.rest[p]
        particles.taste[i] = user.taste
        particles.community[i] = user.community
        particles.log_weight[i] = 0.0


@kernel
def load(particles, i, t, user):
    """Writes what a particle was before step t into the record of a user."""
    for p in range(user.slots):
        user.phrase[p], user.active[p] = particles.phrase[i, t, p], particles.active[i, t, p]
        user.weight[p], user.rest[p] = particles.weight[i, t, p], particles.rest[i, p]
    for r in range(TASTE_DIM):
        user.taste[r] = particles.taste[i, r]
    user.community = particles.community[i]


@kernel
def copy(particles, source, target, start, end):
    """Copies a trajectory from `start` to before step `end`, with what it began with."""
    for t in range(start, end + 1):
        particles.phrase[target, t] = particles.phrase[source, t]
        particles.active[target, t] = particles.active[source, t]
        particles.weight[target, t] = particles.weight[source, t]
    copy_randomness(particles, source, target, start, end)
    for t in range(start, end):
        particles.died[target, t] = particles.died[source, t]
        particles.born[target, t] = particles.born[source, t]
        particles.woken[target, t] = particles.woken[source, t]
        particles.text[target, t] = particles.text[source, t]
        particles.fit[target, t] = particles.fit[source, t]


@kernel
def copy_randomness(particles, source, target, start, end):
    """Copies what a trajectory began with, and the randomness of some steps."""
    for t in range(start, end):
        particles.noise[target, t] = particles.noise[source, t]
        particles.keys[target, t] = particles.keys[source, t]
        particles.fresh[target, t] = particles.fresh[source, t]
    particles.rest[target] = particles.rest[source]
    particles.taste[target] = particles.taste[source]
    particles.community[target] = particles.community[source]


@kernel
def draw_randomness(known, particles, i, t, key, user):
    """Draws the randomness of step t."""
    for p in range(user.slots):
        particles.noise[i, t, p] = noise.normal(key, p)
    for mechanism in range(3):
        particles.keys[i, t, mechanism] = noise.step_key(key, mechanism)
    user.community = particles.community[i]
    interests = known.interests
    particles.fresh[i, t] = fresh_phrase(
        user, interests.topic_start, interests.community_topics, key, 32, OWN_FRESH_TOPICS
    )


@inlined
def advance(known, past, particles, i, t, user, scratch):
    """Advances `user`, which particle i was before step t, and returns the fit of the step."""
    params, response = known.params[0], past.responses[t]
    affinity, text = scratch.affinity, scratch.relevance
    for p in range(user.slots):
        phrase = user.phrase[p]
        for k in range(response.slots):
            affinity[k, p] = past.cosines[t, phrase, k]
    relative_weights(user, scratch.weights)
    products_with(scratch.weights, affinity, scratch.slots, text)
    for k in range(response.slots):
        particles.text[i, t, k] = text[k]
    user.goodwill, user.step = past.goodwill[t], t - past.num_logged[0]
    fit = response_fit(known, past, t, text, user, scratch)
    if user.step < 0:
        fit += logged_fit(past, t, user)
    drift(user, known.still[0], scratch, np.uint64(0), response)
    for p in range(user.slots):
        user.weight[p] += np.float32(params.ou_sigma) * particles.noise[i, t, p]
    wake(user, params, scratch, particles.keys[i, t, WAKE], response)
    particles.woken[i, t] = 1 if response.woken >= 0 else 0
    possible = change_phrases(known, particles, i, t, user, scratch, response)
    for p in range(user.slots):
        limit = np.float32(MAX_LOG_WEIGHT)
        user.weight[p] = min(max(user.weight[p], -limit), limit)
    if response.query >= 0:
        fit += query_fit(response, user)
    particles.fit[i, t] = fit
    return fit if possible else IMPOSSIBLE


@inlined
def switches_several(params, step):
    """Says whether all users switch several interests at a step: in a burst, or in a new regime."""
    bursts = params.burst_step > 0 and step == int(params.burst_step)
    return bursts or regime_changes(params, step)


@inlined
def change_phrases(known, particles, i, t, user, scratch, response):
    """Switches, resolves, forgets and refines; says whether the fresh phrase was not held already.

    The phrase of a switch is the trajectory's own, so that it can be moved; those of a burst, of a
    new regime and of a resolved question are drawn by its key.
    """
    params, interests = known.params[0], known.interests
    died, born, possible = -1, -1, True
    response.died, response.born = -1, -1
    if switches_several(params, user.step):
        switch(user, params, interests, particles.keys[i, t, SWITCH], response)
    elif noise.uniform(particles.keys[i, t, SWITCH], noise.SWITCH) < params.switch_rate:
        before = 0
        for p in range(user.slots):
            before |= user.active[p] << p
        switch(user, params, interests, particles.keys[i, t, SWITCH], response)
        for p in range(user.slots):
            if (before >> p) & 1 > user.active[p]:
                died = p
            elif (before >> p) & 1 < user.active[p]:
                born = p
        if died >= 0:
            user.phrase[died] = -1
            possible = not holds(user, particles.fresh[i, t])
            user.phrase[died] = particles.fresh[i, t]
    particles.died[i, t], particles.born[i, t] = died, born
    resolve(user, params, interests, known.traits, scratch, particles.keys[i, t, SWITCH], response)
    forget(user, response)
    refine(user, params, interests, particles.keys[i, t, REFINE], response)
    return possible


@inlined
def store(particles, i, t, user):
    """Writes the record of a user as what particle i is before step t."""
    for p in range(user.slots):
        particles.phrase[i, t, p], particles.active[i, t, p] = user.phrase[p], user.active[p]
        particles.weight[i, t, p] = user.weight[p]


@kernel
def replay(known, past, particles, i, start, end, least, user, scratch):
    """Runs particle i from its state before `start` to that before `end`.

    Returns the fit of these steps, or IMPOSSIBLE once it is below `least`: no step adds to it.
    """
    load(particles, i, start, user)
    total = 0.0
    for t in range(start, end):
        total += advance(known, past, particles, i, t, user, scratch)
        store(particles, i, t + 1, user)
        if total < least:
            return IMPOSSIBLE
    return total


@kernel
def extend(known, past, particles, t, key, user, scratch):
    """Runs every particle through step t with fresh randomness, and weighs it by the fit."""
    for i in range(particles.log_weight.shape[0]):
        draw_randomness(known, particles, i, t, noise.step_key(key, i), user)
        replay(known, past, particles, i, t, t + 1, IMPOSSIBLE, user, scratch)
        particles.log_weight[i] += particles.fit[i, t]


@kernel
def posterior(particles, out):
    """Writes the weights of the particles, which sum to 1, (N,), and returns 1 / sum of squares."""
    out[:] = particles.log_weight - particles.log_weight.max()
    for i in range(out.shape[0]):
        out[i] = exp64(out[i])
    out /= out.sum()
    return 1.0 / (out * out).sum()


@kernel
def resample(particles, end, weights, key):
    """Replaces particles by copies, as many as their weights say (systematic resampling)."""
    n = weights.shape[0]
    copies, left, drawn = np.zeros(n, np.int64), noise.uniform(key, 0), 0
    for i in range(n):
        left += n * weights[i]
        copies[i] = int(left) - drawn
        drawn += copies[i]
    source = 0
    for i in range(n):
        if copies[i] == 0:
            while source < n and copies[source] < 2:
                source += 1
            if source < n:
                copies[source] -= 1
                copy(particles, source, i, 0, end)
    particles.log_weight[:] = 0.0
