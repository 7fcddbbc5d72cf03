"""The user model's recurrence, compiled: states of many sessions, and candidates judged by them."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt

from agents.rl.slateq.user_model import MOST, TASTES, Exported
from llmrec_env.simulation.compilation import cosines, kernel

_MOST, _STEP = np.float32(MOST), np.float32(3.0)
SEEN = ("relevance", "pleasure", "tired", "substance")
"""What is said of each candidate: f, P(z = 1), how tired the user is of it, its substance."""


@kernel
def liked_taste(model, belief, taste, out):
    """Writes a user's own taste and that of people with these interests, (TASTES,)."""
    for r in range(out.shape[0]):
        out[r] = taste[r]
    for p in range(belief.shape[0]):
        for r in range(out.shape[0]):
            out[r] += belief[p] * model.shared_taste[p, r]


@kernel
def wanted(model, belief, interest):
    """Writes the believed interest vector, (d,), on the scale on which the best item has f = 1."""
    interest[:] = 0.0
    for p in range(belief.shape[0]):
        for j in range(interest.shape[0]):
            interest[j] += belief[p] * model.phrases[p, j]


@kernel
def appraise(model, q, closeness, liked, goodwill, item):
    """Returns f, the utility at rank 1, the log-odds of satisfaction, and tiredness of an item.

    Args:
        closeness: of the item to the interest and to what was consumed lately, (2,).
    """
    taste = 0.0
    for r in range(liked.shape[0]):
        taste += liked[r] * model.tastes[item, r]
    f = max(closeness[0], np.float32(0.0))
    tired = 1.0 - math.exp(-max(closeness[1], np.float32(0.0)))
    utility = q.relevance * f + model.biases[item, 0] + taste - q.tired * tired
    utility -= q.lure * model.substance[item] + q.nothing
    odds = q.pleasure * f + model.biases[item, 1] + q.taste_pleasure * taste - q.bored * tired
    return f, utility, odds + q.trust * goodwill + q.mood, tired


@kernel
def compare(model, belief, satiation, items, directions, closeness):
    """Writes how close items are to the interest and to what was consumed lately, (2, items)."""
    wanted(model, belief, directions[0])
    directions[1] = satiation
    cosines(np.arange(2).astype(np.int32), directions, items, model.vectors, closeness)


@kernel
def expect(model, q, closeness, liked, goodwill, slate, odds, pleased):
    """Writes the odds of choosing each slot and P(z = 1) there, (K,); returns 1 + their sum."""
    total = 1.0
    for slot in range(slate.shape[0]):
        _, utility, log_odds, _ = appraise(
            *(model, q, closeness[:, slot], liked, goodwill, slate[slot])
        )
        odds[slot] = math.exp(min(utility - q.position * math.log(slot + 1.0), 50.0))
        pleased[slot] = 1.0 / (1.0 + math.exp(-log_odds))
        total += odds[slot]
    return total


@kernel
def pull_of(model, q, slate, item, satisfied, odds, total, pleased, pulled, move):
    """Writes where the choice pulls the interest, (d,), and the taste, (TASTES,)."""
    pulled[:], move[:] = 0.0, 0.0
    for slot in range(slate.shape[0]):
        pull = -q.passed * odds[slot] / total
        taste_pull = -q.taste_passed * odds[slot] / total
        if slate[slot] == item:
            surprise = satisfied - pleased[slot]
            pull += q.chosen + q.pleased * surprise
            taste_pull += q.taste_chosen + q.taste_pleased * surprise
        strength = np.float32(pull)
        for j in range(pulled.shape[0]):
            pulled[j] += strength * model.vectors[slate[slot], j]
        for r in range(move.shape[0]):
            move[r] += taste_pull * model.tastes[slate[slot], r]


@kernel
def move_belief(model, q, belief, pulled, query, moved):
    """Moves the weights of the phrases, (P,), by a pull; `moved` is room for P numbers."""
    moved[:] = 0.0
    for j in range(pulled.shape[0]):
        for p in range(moved.shape[0]):
            moved[p] += pulled[j] * model.phrases_across[j, p]
    forgotten, kept = np.float32(q.forgetting), np.float32(1.0 - q.forgetting)
    for p in range(moved.shape[0]):
        change = np.float32(math.exp(min(max(moved[p], -_STEP), _STEP)))
        weight = kept * belief[p] * change + forgotten * model.prior[p]
        if p == query:
            weight += np.float32(q.asked)
        belief[p] = min(max(weight, model.least), _MOST)


@kernel
def learn_steps(model, parameters, belief, taste, satiation, goodwill, steps, since):
    """Moves the state of each session by its last steps, oldest first.

    Args:
        steps: slates (n, s, K), items, feedback and queries (n, s), newest first.
        since: number of steps to learn from, (n,).
    """
    q = parameters[0]
    slates, items, feedback, queries = steps
    k, d = slates.shape[2], satiation.shape[1]
    odds, pleased, closeness = np.empty(k), np.empty(k), np.empty((2, k), np.float32)
    directions, pulled = np.empty((2, d), np.float32), np.empty(d, np.float32)
    moved = np.empty(belief.shape[1], np.float32)
    liked, move = np.empty(taste.shape[1]), np.empty(taste.shape[1])
    for i in range(belief.shape[0]):
        for s in range(since[i] - 1, -1, -1):
            slate, item = slates[i, s], items[i, s]
            if slate[0] < 0:
                continue
            liked_taste(model, belief[i], taste[i], liked)
            compare(model, belief[i], satiation[i], slate, directions, closeness)
            total = expect(model, q, closeness, liked, goodwill[i], slate, odds, pleased)
            satisfied = 1.0 if feedback[i, s] == 1 else 0.0
            pull_of(model, q, slate, item, satisfied, odds, total, pleased, pulled, move)
            goodwill[i] *= q.goodwill
            for j in range(d):
                satiation[i, j] *= q.satiation
            if item >= 0:
                goodwill[i] += model.substance[item]
                for j in range(d):
                    satiation[i, j] += model.vectors[item, j]
            move_belief(model, q, belief[i], pulled, queries[i, s], moved)
            for r in range(move.shape[0]):
                taste[i, r] = q.taste * taste[i, r] + move[r]


@kernel
def appraise_candidates(
    model, parameters, belief, taste, satiation, goodwill, candidates, odds, seen
):
    """Writes the odds of choosing each candidate at rank 1, (n, c), and what SEEN names."""
    q = parameters[0]
    liked, directions = np.empty(taste.shape[1]), np.empty((2, satiation.shape[1]), np.float32)
    closeness = np.empty((2, candidates.shape[1]), np.float32)
    for i in range(candidates.shape[0]):
        liked_taste(model, belief[i], taste[i], liked)
        offered = np.maximum(candidates[i], 0)
        compare(model, belief[i], satiation[i], offered, directions, closeness)
        for c in range(candidates.shape[1]):
            item = candidates[i, c]
            if item < 0:
                odds[i, c] = 0.0
                seen[i, c] = 0.0
                continue
            f, utility, log_odds, tired = appraise(
                *(model, q, closeness[:, c], liked, goodwill[i], item)
            )
            odds[i, c] = math.exp(min(max(utility, -12.0), 12.0))
            seen[i, c, 0], seen[i, c, 1] = f, 1.0 / (1.0 + math.exp(-log_odds))
            seen[i, c, 2], seen[i, c, 3] = tired, model.substance[item]


class Tracker:
    """States of n sessions, kept from step to step."""

    def __init__(self, model: Exported) -> None:
        """Takes the model; `model` may be replaced by a newer one at any time."""
        self.model = model
        self.belief = np.empty((0, len(model.prior)), np.float32)

    def observe(self, observation: Any, starts: npt.NDArray[np.bool_]) -> None:
        """Learns from what happened since the last observation; at a start, from what is told.

        Args:
            observation: `dict` observations of n sessions.
            starts: whether the session begins here, (n,); a new n counts as all beginning.
        """
        n = len(observation["candidates"])
        if len(self.belief) != n:
            starts = np.ones(n, np.bool_)
            self.belief = np.empty((n, len(self.model.prior)), np.float32)
            self.taste = np.empty((n, TASTES), np.float32)
            self.satiation = np.empty((n, self.model.vectors.shape[1]), np.float32)
            self.goodwill = np.empty(n, np.float32)
        self.belief[starts] = self.model.prior
        self.taste[starts], self.satiation[starts], self.goodwill[starts] = 0.0, 0.0, 0.0
        names = ("slates", "items", "satisfied", "queries")
        steps = tuple(observation[f"recent_{name}"] for name in names)
        since = np.where(starts, steps[0].shape[1], 1)
        arguments: Any = (self.model, self.model.parameters, *self.state, steps, since)
        learn_steps(*arguments)

    @property
    def state(self) -> tuple[npt.NDArray[np.float32], ...]:
        """Belief (n, P), taste (n, TASTES), satiation (n, d) and goodwill (n,), not copied."""
        return self.belief, self.taste, self.satiation, self.goodwill

    def appraise(
        self, candidates: npt.NDArray[np.int32]
    ) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float32]]:
        """Returns the odds of choosing each candidate, (n, c), and SEEN of it, (n, c, 4)."""
        odds = np.empty(candidates.shape)
        seen = np.empty((*candidates.shape, len(SEEN)), np.float32)
        arguments: Any = (self.model, self.model.parameters, *self.state, candidates, odds, seen)
        appraise_candidates(*arguments)
        return odds, seen
