"""Belief about a session's user: particles that follow the public history."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt

from agents.rankers.belief_oracle.hedging import hedged_slate
from agents.rankers.belief_oracle.knowledge import Knowledge
from agents.rankers.belief_oracle.moves import move
from agents.rankers.belief_oracle.particles import (
    begin,
    extend,
    load,
    new_particles,
    posterior,
    resample,
)
from agents.rankers.belief_oracle.public_past import append, new_past
from agents.rankers.oracles import Lookahead, worth
from llmrec_env.config import EnvConfig
from llmrec_env.simulation import noise
from llmrec_env.simulation.compilation import kernel
from llmrec_env.simulation.interests import interest_vector
from llmrec_env.simulation.records import compiled_view
from llmrec_env.simulation.response import new_scratch
from llmrec_env.simulation.user_record import (
    USER,
    attachment_vector,
    satiation_vector,
    user_dtype,
)

_TYPICAL_LENGTH = 60  # steps of a trajectory on which as many moves are tried as asked for
_MOVES = 1 << 20  # keys of moves, behind those of the particles' randomness


class Belief:
    """What the public history says about one user: weighted particles before the coming step.

    Attributes:
        t: steps taken in.
        past: what is public of them.
        particles: trajectories through them.
        users: the particles as users, (N,) records; `weights` are theirs, (N,).
    """

    def __init__(
        self, config: EnvConfig, known: Knowledge, pool: Any, particles: int, moves: int, key: int
    ) -> None:
        """Begins as the population.

        Args:
            config: of the session.
            known: what is known of its world.
            pool: users of the population.
            particles: N.
            moves: tried with each particle at each step.
            key: of all that is drawn, 64 bits.
        """
        self._known, self._moves, self._key = known, moves, np.uint64(key)
        num_creators = int(known.params["num_creators"][0])
        self.past = new_past(config, len(known.topic), num_creators)
        steps = len(self.past.goodwill)
        slots, k = config.interest_slots, config.slate_size
        self.particles = new_particles(particles, steps, slots, k)
        begin(self.particles, pool, np.uint64(noise.step_key(self._key, steps)))
        self.t, self.weights = 0, np.full(particles, 1.0 / particles)
        self._scratch = new_scratch(k, config.dim)
        users = np.zeros(particles + 1, user_dtype(config, num_creators))
        users["dim"], users["slots"] = config.dim, slots
        self.users = compiled_view(users[:-1], USER)
        self._user = compiled_view(users[-1:], USER)[0]
        write_users(known, self.past, self.particles, 0, self.users)

    def begin_session(self, logged: int) -> None:
        """Says how many of the steps to come were logged before the session."""
        self.past.num_logged[0] = logged
        self.past.public["step"] = -logged

    def follow(
        self, slate: npt.NDArray[np.int32], feedback: npt.NDArray[np.int32], query: int
    ) -> None:
        """Takes in one step.

        Args:
            slate: item ids in the order shown, (k,).
            feedback: satisfied 1 or 0 of each slot, -1: not consumed, (k,).
            query: id of the phrase typed, -1 for none.
        """
        append(self._known, self.past, self.t, slate, feedback, query)
        key = np.uint64(noise.step_key(self._key, self.t))
        absorb(
            self._known,
            self.past,
            self.particles,
            self.t,
            self._moves,
            key,
            self._user,
            self._scratch,
        )
        self.t += 1
        posterior(self.particles, self.weights)
        write_users(self._known, self.past, self.particles, self.t, self.users)

    def slate(self, candidates: npt.NDArray[np.int32], lookahead: Lookahead, k: int) -> Any:
        """Returns the candidates that are best on average over the belief, (k,) indices."""
        slate = np.empty(k, np.int64)
        ids = candidates[None]
        best_hedged_slate(self._known, self.users, self.weights, lookahead, ids, slate)
        return slate

    def interest(self) -> npt.NDArray[np.float32]:
        """Returns the mean of u, (d,)."""
        phrases = self._known.interests.vectors
        out = np.empty(phrases.shape[1], np.float32)
        mean_interest(self.users, phrases, self.weights, out)
        return out


@kernel
def absorb(known, past, particles, t, moves, key, user, scratch):
    """Takes step t, which `past` holds, into the particles."""
    n = particles.log_weight.shape[0]
    weights = np.empty(n)
    extend(known, past, particles, t, key, user, scratch)
    if posterior(particles, weights) < 0.5 * n:
        resample(particles, t + 1, weights, noise.step_key(key, _MOVES - 1))
    for i in range(n):
        own_key = noise.step_key(key, _MOVES + i)
        for m in range(math.ceil(moves * _TYPICAL_LENGTH / (t + 1))):
            move(known, past, particles, i, t + 1, noise.step_key(own_key, m), user, scratch)


@kernel
def write_users(known, past, particles, t, users):
    """Writes every particle as a user before step t, with what is public of the real one."""
    public, num_creators = past.public[0], int(known.params[0].num_creators)
    for i in range(users.shape[0]):
        load(particles, i, t, users[i])
        users[i].goodwill, users[i].step = public.goodwill, public.step
        satiation_vector(users[i])[:] = satiation_vector(public)
        attachment_vector(users[i], num_creators)[:] = attachment_vector(public, num_creators)


@kernel
def best_hedged_slate(known, users, weights, lookahead, ids, slate):
    """Writes the slate for which the mean over hypothetical users is highest, (k,)."""
    shape = weights.shape[0], ids.shape[1]
    odds, satisfaction, value = np.empty(shape), np.empty(shape), np.empty(shape)
    omega = np.empty(users[0].slots, np.float32)
    phrases, vectors, traits = known.interests.vectors, known.vectors, known.traits
    params = known.params[0]
    for i in range(weights.shape[0]):
        worth(
            users[i],
            params,
            phrases,
            vectors,
            traits,
            lookahead,
            omega,
            ids,
            0,
            odds[i],
            satisfaction[i],
            value[i],
        )
    hedged_slate(params, odds, satisfaction, value, weights, ids[0], slate)


@kernel
def mean_interest(users, phrases, weights, out):
    """Writes the mean of u over hypothetical users, (d,)."""
    omega, one = np.empty(users[0].slots, np.float32), np.empty_like(out)
    out[:] = 0.0
    for i in range(weights.shape[0]):
        interest_vector(users[i], phrases, omega, one)
        for j in range(out.shape[0]):
            out[j] += np.float32(weights[i]) * one[j]
