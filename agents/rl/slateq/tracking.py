"""Belief tracking: the user model's recurrence, compiled, and candidates appraised by it."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt

from agents.added_blocks import AddedBlocks
from agents.joint.posterior import factorise, unsure_relevance
from agents.joint.response import SOFTNESS, bend
from agents.rl.slateq.taste import learn_taste, taste_score
from agents.rl.slateq.user_model import MOST, Exported
from llmrec_env.simulation.compilation import kernel
from llmrec_env.simulation.inner_products import cosines

_MOST, _STEP = np.float32(MOST), np.float32(3.0)
ITEM_FEATURES = ("relevance", "satisfaction", "satiation", "substance")
"""What is said of each candidate: f, P(z = 1), how satiated the user is, its substance."""


@kernel
def believed_interest(model, belief, interest):
    """Writes the believed interest vector, (d,), on the scale on which the best item has f = 1."""
    interest[:] = 0.0
    for p in range(belief.shape[0]):
        for j in range(interest.shape[0]):
            interest[j] += belief[p] * model.phrases[p, j]


@kernel
def appraise(model, q, f, closeness, goodwill, item, blocks):
    """Returns the utility at rank 1, the log-odds of satisfaction, and tiredness of an item.

    Args:
        f: its relevance.
        closeness: to what was consumed lately.
        blocks: what mechanisms add to it, (B,).
    """
    tiredness = 1.0 - math.exp(-max(closeness, np.float32(0.0)))
    utility = q.relevance * f + model.biases[item, 0] - q.satiation_choice * tiredness
    utility -= q.lure * model.substance[item] + q.null_utility
    odds = q.satisfaction * f + model.biases[item, 1] - q.satiation_satisfaction * tiredness
    odds = odds + q.goodwill_satisfaction * goodwill + q.session_bias
    for b in range(blocks.shape[0]):
        utility += model.added[b, 0] * blocks[b]
        odds += model.added[b, 1] * blocks[b]
    return utility, odds, tiredness


@kernel
def compare(model, belief, satiation, items, directions, closeness):
    """Writes how close items are to the interest and to what was consumed lately, (2, items)."""
    believed_interest(model, belief, directions[0])
    directions[1] = satiation
    cosines(np.arange(2).astype(np.int32), directions, items, model.vectors, closeness)


@kernel
def expect(model, q, closeness, mean, goodwill, slate, blocks, odds, satisfaction, slope):
    """Writes the odds of choosing each slot and P(z = 1) there, (K,); returns 1 + their sum.

    Args:
        blocks: what mechanisms add to the slots, (K, B).
        mean: of the user's taste, (r,).
        slope: receives that of f by what it is made of, text and taste, (K,).
    """
    total = 1.0
    for slot in range(slate.shape[0]):
        x = closeness[0, slot] + taste_score(mean, model.taste.factors, slate[slot])
        f, slope[slot] = bend(x, SOFTNESS)
        utility, log_odds, _ = appraise(
            model, q, f, closeness[1, slot], goodwill, slate[slot], blocks[slot]
        )
        odds[slot] = math.exp(min(utility - q.position * math.log(slot + 1.0), 50.0))
        satisfaction[slot] = 1.0 / (1.0 + math.exp(-log_odds))
        total += odds[slot]
    return total


@kernel
def pull_of(model, q, slate, item, satisfied, odds, total, satisfaction, interest_pull):
    """Writes where the choice pulls the interest, (d,)."""
    interest_pull[:] = 0.0
    for slot in range(slate.shape[0]):
        pull = -q.passed * odds[slot] / total
        if slate[slot] == item:
            pull += q.chosen + q.satisfied * (satisfied - satisfaction[slot])
            pull -= q.resolved * satisfied
        strength = np.float32(pull)
        for j in range(interest_pull.shape[0]):
            interest_pull[j] += strength * model.vectors[slate[slot], j]


@kernel
def likelihood_of(q, slate, item, satisfied, odds, total, satisfaction, slope, pull, weight):
    """Writes slope and curvature of the log-likelihood by what f of each slot is made of, (K,)."""
    for slot in range(slate.shape[0]):
        p, step = odds[slot] / total, q.relevance * slope[slot]
        pull[slot], weight[slot] = -step * p, step * step * p * (1.0 - p)
        if slate[slot] == item:
            p, pull[slot] = satisfaction[slot], pull[slot] + step
            step = q.satisfaction * slope[slot]
            pull[slot] += step * (satisfied - p)
            weight[slot] += step * step * p * (1.0 - p)


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
def learn_steps(model, parameters, state, steps, blocks, since, learning):
    """Moves the state of each session by its last steps, oldest first.

    Args:
        state: of Tracker.
        steps: slates (n, s, K), items, feedback and queries (n, s), newest first.
        blocks: what mechanisms add to the slots, (n, s, K, B).
        since: number of steps to learn from, (n,).
        learning: whether what is new also teaches what items are like, (n,).
    """
    q = parameters[0]
    belief, satiation, goodwill, mean, precision = state
    slates, items, feedback, queries = steps
    k, d, r = slates.shape[2], satiation.shape[1], mean.shape[1]
    odds, satisfaction, closeness = np.empty(k), np.empty(k), np.empty((2, k), np.float32)
    directions, interest_pull = np.empty((2, d), np.float32), np.empty(d, np.float32)
    slope, pull, weight = np.empty(k), np.empty(k), np.empty(k)
    change = np.empty(belief.shape[1], np.float32)
    gradient, lower, spread = np.empty(r), np.empty((r, r)), np.empty((r, r))
    room = gradient, np.empty((k, r)), np.empty((k, r, r)), lower, spread, np.arange(k)
    for i in range(belief.shape[0]):
        for s in range(since[i] - 1, -1, -1):
            slate, item = slates[i, s], items[i, s]
            if slate[0] < 0:
                continue
            compare(model, belief[i], satiation[i], slate, directions, closeness)
            expected = odds, satisfaction, slope
            own = mean[i], goodwill[i], slate, blocks[i, s]
            total = expect(model, q, closeness, *own, *expected)
            z = 1.0 if feedback[i, s] == 1 else 0.0
            pull_of(model, q, slate, item, z, odds, total, satisfaction, interest_pull)
            likelihood_of(q, slate, item, z, odds, total, satisfaction, slope, pull, weight)
            learn_taste(model.taste, slate, mean[i], precision[i], pull, weight, learning[i], room)
            goodwill[i] *= q.goodwill
            for j in range(d):
                satiation[i, j] *= q.satiation
            if item >= 0:
                goodwill[i] += model.substance[item]
                for j in range(d):
                    satiation[i, j] += model.vectors[item, j]
            move_belief(model, q, belief[i], interest_pull, queries[i, s], change)


@kernel
def appraise_candidates(model, parameters, state, known, candidates, blocks, odds, features):
    """Writes the odds of choosing each candidate at rank 1, (n, c), and its ITEM_FEATURES.

    Args:
        state: of Tracker.
        known: relevance of the candidates, (n, c), which taste is part of; (n, 0): to be computed.
        blocks: what mechanisms add to them, (n, c, B).
    """
    q, factors = parameters[0], model.taste.factors
    belief, satiation, goodwill, mean, precision = state
    r, count = mean.shape[1], candidates.shape[1]
    directions = np.empty((2, satiation.shape[1]), np.float32)
    closeness = np.empty((2, count), np.float32)
    x, f, variance = np.empty(count), np.empty(count), np.empty(count)
    lower, parts = np.empty((r, r)), np.empty((r, count))
    for i in range(candidates.shape[0]):
        ids = np.maximum(candidates[i], 0)
        compare(model, belief[i], satiation[i], ids, directions, closeness)
        if known.shape[1] > 0:
            f[:] = known[i]
        else:
            for c in range(count):
                x[c] = closeness[0, c] + taste_score(mean[i], factors, ids[c])
            factorise(precision[i], lower)
            unsure_relevance(x, lower, factors, ids, parts, f, variance)
        for c in range(count):
            item = ids[c]
            utility, log_odds, tiredness = appraise(
                model, q, f[c], closeness[1, c], goodwill[i], item, blocks[i, c]
            )
            odds[i, c] = math.exp(min(max(utility, -12.0), 12.0))
            features[i, c, 0], features[i, c, 1] = f[c], 1.0 / (1.0 + math.exp(-log_odds))
            features[i, c, 2], features[i, c, 3] = tiredness, model.substance[item]
            if candidates[i, c] < 0:
                odds[i, c] = 0.0
                features[i, c] = 0.0


class Tracker:
    """States of n sessions, kept from step to step."""

    def __init__(self, model: Exported, blocks: AddedBlocks | None = None) -> None:
        """Takes the model, which may be replaced by a newer one at any time.

        Args:
            model: as arrays.
            blocks: of the task; None: it has none.
        """
        self.model, self.blocks = model, blocks
        self.belief = np.empty((0, len(model.prior)), np.float32)
        self.relevance: npt.NDArray[np.float32] | None = None

    def observe(
        self, observation: Any, starts: npt.NDArray[np.bool_], learning: bool = False
    ) -> None:
        """Learns from what came since the last observation; at a start, from what is told.

        Args:
            observation: `dict` observations of n sessions.
            starts: whether the session begins here, (n,); a new n counts as all beginning.
            learning: whether steps of the session also teach what items are like.
        """
        n = len(observation["candidates"])
        if len(self.belief) != n:
            starts = np.ones(n, np.bool_)
            self.belief = np.empty((n, len(self.model.prior)), np.float32)
            self.satiation = np.empty((n, self.model.vectors.shape[1]), np.float32)
            self.goodwill = np.empty(n, np.float32)
            self.mean = np.empty((n, *self.model.taste.mean.shape))
            self.precision = np.empty((n, *self.model.taste.start.shape))
        self.belief[starts], self.mean[starts] = self.model.prior, self.model.taste.mean
        self.precision[starts] = self.model.taste.start
        self.satiation[starts], self.goodwill[starts] = 0.0, 0.0
        names = ("slates", "items", "satisfied", "queries")
        steps = tuple(observation[f"recent_{name}"] for name in names)
        since = np.where(starts, steps[0].shape[1], 1)
        self.added = _no_blocks(observation["candidates"])
        before = _no_blocks(steps[0])
        if self.blocks is not None:
            self.added = self.blocks.of_candidates(observation)
            before = self.blocks.of_recent(observation, int(since.max(initial=0)))
        model, state = self.model, self._whole
        learn_steps(model, model.parameters, state, steps, before, since, learning & ~starts)
        self.relevance = observation.get("true_relevance")
        if self.relevance is not None:
            self._know(observation)

    def _know(self, observation: Any) -> None:
        """Takes what a privileged observation tells in place of what was tracked."""
        self.belief[:], self.mean[:] = observation["true_weights"], 0.0
        self.satiation[:] = observation["true_satiation"]
        self.goodwill[:] = observation["true_goodwill"][:, 0]

    @property
    def state(self) -> tuple[npt.NDArray[np.float32], ...]:
        """Belief (n, P), satiation (n, d) and goodwill (n,), not copied."""
        return self.belief, self.satiation, self.goodwill

    @property
    def _whole(self) -> tuple[npt.NDArray[Any], ...]:
        return *self.state, self.mean, self.precision

    def taste(self, items: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
        """Returns what the relevance of items, (n, k) ids, has beside the texts."""
        factors = self.model.taste.factors[items]
        return np.einsum("nkr,nr->nk", factors, self.mean).astype(np.float32)

    def appraise(
        self, candidates: npt.NDArray[np.int32]
    ) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float32]]:
        """Returns the odds of choosing each candidate, (n, c), and its ITEM_FEATURES, (n, c, 4).

        They are the candidates of the observation that was observed last.
        """
        odds = np.empty(candidates.shape)
        known = self.relevance
        known = np.empty((len(candidates), 0), np.float32) if known is None else known
        features = np.empty((*candidates.shape, len(ITEM_FEATURES)), np.float32)
        state = self._whole
        appraise_candidates(
            self.model, self.model.parameters, state, known, candidates, self.added, odds, features
        )
        return odds, features


def _no_blocks(items: npt.NDArray[np.int32]) -> npt.NDArray[np.float32]:
    return np.empty((*items.shape, 0), np.float32)
