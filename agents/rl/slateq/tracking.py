"""Belief tracking: the user model's recurrence, compiled, and candidates appraised by it."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt

from agents.rl.slateq.user_model import MOST, TASTES, Exported
from llmrec_env.simulation.compilation import kernel
from llmrec_env.simulation.inner_products import cosines

_MOST, _STEP = np.float32(MOST), np.float32(3.0)
ITEM_FEATURES = ("relevance", "satisfaction", "satiation", "substance")
"""What is said of each candidate: f, P(z = 1), how satiated the user is, its substance."""


@kernel
def taste_preference(model, belief, taste, out):
    """Writes a user's own taste and that of people with these interests, (TASTES,)."""
    for r in range(out.shape[0]):
        out[r] = taste[r]
    for p in range(belief.shape[0]):
        for r in range(out.shape[0]):
            out[r] += belief[p] * model.shared_taste[p, r]


@kernel
def believed_interest(model, belief, interest):
    """Writes the believed interest vector, (d,), on the scale on which the best item has f = 1."""
    interest[:] = 0.0
    for p in range(belief.shape[0]):
        for j in range(interest.shape[0]):
            interest[j] += belief[p] * model.phrases[p, j]


@kernel
def appraise(model, q, closeness, preference, goodwill, item):
    """Returns f, the utility at rank 1, the log-odds of satisfaction, and tiredness of an item.

    Args:
        closeness: of the item to the interest and to what was consumed lately, (2,).
    """
    taste = 0.0
    for r in range(preference.shape[0]):
        taste += preference[r] * model.tastes[item, r]
    f = max(closeness[0], np.float32(0.0))
    tiredness = 1.0 - math.exp(-max(closeness[1], np.float32(0.0)))
    utility = q.relevance * f + model.biases[item, 0] + taste - q.satiation_choice * tiredness
    utility -= q.lure * model.substance[item] + q.null_utility
    odds = q.satisfaction * f + model.biases[item, 1] + q.taste_satisfaction * taste
    odds -= q.satiation_satisfaction * tiredness
    return f, utility, odds + q.goodwill_satisfaction * goodwill + q.session_bias, tiredness


@kernel
def compare(model, belief, satiation, items, directions, closeness):
    """Writes how close items are to the interest and to what was consumed lately, (2, items)."""
    believed_interest(model, belief, directions[0])
    directions[1] = satiation
    cosines(np.arange(2).astype(np.int32), directions, items, model.vectors, closeness)


@kernel
def expect(model, q, closeness, preference, goodwill, slate, odds, satisfaction):
    """Writes the odds of choosing each slot and P(z = 1) there, (K,); returns 1 + their sum."""
    total = 1.0
    for slot in range(slate.shape[0]):
        _, utility, log_odds, _ = appraise(
            model, q, closeness[:, slot], preference, goodwill, slate[slot]
        )
        odds[slot] = math.exp(min(utility - q.position * math.log(slot + 1.0), 50.0))
        satisfaction[slot] = 1.0 / (1.0 + math.exp(-log_odds))
        total += odds[slot]
    return total


@kernel
def pull_of(model, q, slate, item, satisfied, odds, total, satisfaction, interest_pull, taste_pull):
    """Writes where the choice pulls the interest, (d,), and the taste, (TASTES,)."""
    interest_pull[:], taste_pull[:] = 0.0, 0.0
    for slot in range(slate.shape[0]):
        pull = -q.passed * odds[slot] / total
        move = -q.taste_passed * odds[slot] / total
        if slate[slot] == item:
            surprise = satisfied - satisfaction[slot]
            pull += q.chosen + q.satisfied * surprise
            move += q.taste_chosen + q.taste_satisfied * surprise
        strength = np.float32(pull)
        for j in range(interest_pull.shape[0]):
            interest_pull[j] += strength * model.vectors[slate[slot], j]
        for r in range(taste_pull.shape[0]):
            taste_pull[r] += move * model.tastes[slate[slot], r]


@kernel
def move_belief(model, q, belief, pull, query, change):
    """Moves the weights of the phrases, (P,), by a pull; `change` is room for P numbers."""
    change[:] = 0.0
    for j in range(pull.shape[0]):
        for p in range(change.shape[0]):
            change[p] += pull[j] * model.phrases_across[j, p]
    forgotten, retained = np.float32(q.forgetting), np.float32(1.0 - q.forgetting)
    for p in range(change.shape[0]):
        factor = np.float32(math.exp(min(max(change[p], -_STEP), _STEP)))
        weight = retained * belief[p] * factor + forgotten * model.prior[p]
        if p == query:
            weight += np.float32(q.query)
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
    odds, satisfaction, closeness = np.empty(k), np.empty(k), np.empty((2, k), np.float32)
    directions, interest_pull = np.empty((2, d), np.float32), np.empty(d, np.float32)
    change = np.empty(belief.shape[1], np.float32)
    preference, taste_pull = np.empty(taste.shape[1]), np.empty(taste.shape[1])
    for i in range(belief.shape[0]):
        for s in range(since[i] - 1, -1, -1):
            slate, item = slates[i, s], items[i, s]
            if slate[0] < 0:
                continue
            taste_preference(model, belief[i], taste[i], preference)
            compare(model, belief[i], satiation[i], slate, directions, closeness)
            total = expect(model, q, closeness, preference, goodwill[i], slate, odds, satisfaction)
            satisfied = 1.0 if feedback[i, s] == 1 else 0.0
            pull_of(
                model,
                q,
                slate,
                item,
                satisfied,
                odds,
                total,
                satisfaction,
                interest_pull,
                taste_pull,
            )
            goodwill[i] *= q.goodwill
            for j in range(d):
                satiation[i, j] *= q.satiation
            if item >= 0:
                goodwill[i] += model.substance[item]
                for j in range(d):
                    satiation[i, j] += model.vectors[item, j]
            move_belief(model, q, belief[i], interest_pull, queries[i, s], change)
            for r in range(taste_pull.shape[0]):
                taste[i, r] = q.taste * taste[i, r] + taste_pull[r]


@kernel
def appraise_candidates(
    model, parameters, belief, taste, satiation, goodwill, known, candidates, odds, features
):
    """Writes the odds of choosing each candidate at rank 1, (n, c), and its ITEM_FEATURES.

    Args:
        known: relevance of the candidates, (n, c), which taste is part of; (n, 0): to be computed.
    """
    q = parameters[0]
    preference, directions = np.empty(taste.shape[1]), np.empty((2, satiation.shape[1]), np.float32)
    closeness = np.empty((2, candidates.shape[1]), np.float32)
    for i in range(candidates.shape[0]):
        taste_preference(model, belief[i], taste[i], preference)
        ids = np.maximum(candidates[i], 0)
        compare(model, belief[i], satiation[i], ids, directions, closeness)
        for c in range(candidates.shape[1]):
            item = candidates[i, c]
            if item < 0:
                odds[i, c] = 0.0
                features[i, c] = 0.0
                continue
            if known.shape[1] > 0:
                closeness[0, c], preference[:] = known[i, c], 0.0
            f, utility, log_odds, tiredness = appraise(
                model, q, closeness[:, c], preference, goodwill[i], item
            )
            odds[i, c] = math.exp(min(max(utility, -12.0), 12.0))
            features[i, c, 0], features[i, c, 1] = f, 1.0 / (1.0 + math.exp(-log_odds))
            features[i, c, 2], features[i, c, 3] = tiredness, model.substance[item]


class Tracker:
    """States of n sessions, kept from step to step."""

    def __init__(self, model: Exported) -> None:
        """Takes the model; `model` may be replaced by a newer one at any time."""
        self.model = model
        self.belief = np.empty((0, len(model.prior)), np.float32)
        self.relevance: npt.NDArray[np.float32] | None = None

    def observe(self, observation: Any, starts: npt.NDArray[np.bool_]) -> None:
        """Learns from what came since the last observation; at a start, from what is told.

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
        learn_steps(
            self.model,
            self.model.parameters,
            self.belief,
            self.taste,
            self.satiation,
            self.goodwill,
            steps,
            since,
        )
        self.relevance = observation.get("true_relevance")
        if self.relevance is not None:
            self._know(observation)

    def _know(self, observation: Any) -> None:
        """Takes what a privileged observation tells in place of what was tracked."""
        self.belief[:], self.taste[:] = observation["true_weights"], 0.0
        self.satiation[:] = observation["true_satiation"]
        self.goodwill[:] = observation["true_goodwill"][:, 0]

    @property
    def state(self) -> tuple[npt.NDArray[np.float32], ...]:
        """Belief (n, P), taste (n, TASTES), satiation (n, d) and goodwill (n,), not copied."""
        return self.belief, self.taste, self.satiation, self.goodwill

    def appraise(
        self, candidates: npt.NDArray[np.int32]
    ) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float32]]:
        """Returns the odds of choosing each candidate, (n, c), and its ITEM_FEATURES, (n, c, 4)."""
        odds = np.empty(candidates.shape)
        known = self.relevance
        known = np.empty((len(candidates), 0), np.float32) if known is None else known
        features = np.empty((*candidates.shape, len(ITEM_FEATURES)), np.float32)
        appraise_candidates(
            self.model,
            self.model.parameters,
            self.belief,
            self.taste,
            self.satiation,
            self.goodwill,
            known,
            candidates,
            odds,
            features,
        )
        return odds, features
