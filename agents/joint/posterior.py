"""Gaussian belief about a user's factors, compiled: learnt from choices, and used for candidates.

p(a | past) has a mean and a precision. Each step adds a Newton step of its likelihood, the choice
among what was shown and the satisfaction with what was chosen, as an extended Kalman filter does;
what is little known of an item's factors counts little.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from agents.joint.memory import LAST, remember, write_text_scores
from agents.joint.response import SOFTNESS, bend, respond
from llmrec_env.simulation.compilation import kernel
from llmrec_env.simulation.elementary import exp64

Doubles = npt.NDArray[np.float64]

_HUGE = 12.0  # largest utility of an item that is offered
_SPREAD = 0.576  # width of softplus by a deviation: its value at 0 is then E max(x, 0)


class Posterior(NamedTuple):
    """Factors of n users."""

    mean: Doubles  # (n, r)
    precision: Doubles  # (n, r, r)


class Appraisal(NamedTuple):
    """What is believed of the candidates of n users."""

    odds: Doubles  # (n, c), of choosing it at rank 1 against nothing, 0 for id -1
    value: Doubles  # (n, c), what it is worth if it is chosen
    log_odds: Doubles  # (n, c), of satisfaction
    tiredness: Doubles  # (n, c)


@kernel
def factorise(matrix, lower):
    """Writes the Cholesky factor of a positive definite matrix, (r, r)."""
    for i in range(matrix.shape[0]):
        for j in range(i + 1):
            total = matrix[i, j]
            for k in range(j):
                total -= lower[i, k] * lower[j, k]
            lower[i, j] = math.sqrt(max(total, 1e-12)) if i == j else total / lower[j, j]


@kernel
def solve_lower(lower, b, x):
    """Writes x with L x = b."""
    for i in range(b.shape[0]):
        total = b[i]
        for k in range(i):
            total -= lower[i, k] * x[k]
        x[i] = total / lower[i, i]


@kernel
def solve_upper(lower, x):
    """Overwrites x with the solution of Lᵀ y = x."""
    for i in range(x.shape[0] - 1, -1, -1):
        total = x[i]
        for k in range(i + 1, x.shape[0]):
            total -= lower[k, i] * x[k]
        x[i] = total / lower[i, i]


@kernel
def add_taste(posterior, i, taste, ids, scores):
    """Adds aᵀq of the items to scores, (ids,)."""
    for k in range(ids.shape[0]):
        for j in range(posterior.mean.shape[1]):
            scores[k] += posterior.mean[i, j] * taste.factors[ids[k], j]


@kernel
def move_factors(own, precision, others, spreads, ids, pull, weight, gradient, lower):
    """Moves Gaussian factors by a Newton step of the likelihood of products with others.

    Args:
        own: mean, (r,), with its `precision`, (r, r).
        others: factors, (n, r), and how unsure they are, `spreads`, (n, r, r).
        ids: which of them it was multiplied by, (K,).
        pull: slope of the log-likelihood by each product, (K,); `weight`: its curvature.
        gradient: room for (r,) numbers; `lower`: for (r, r).
    """
    gradient[:] = 0.0
    for k in range(ids.shape[0]):
        factors, spread = others[ids[k]], spreads[ids[k]]
        for a in range(own.shape[0]):
            gradient[a] += pull[k] * factors[a]
            for b in range(own.shape[0]):
                precision[a, b] += weight[k] * (factors[a] * factors[b] + spread[a, b])
                gradient[a] -= weight[k] * spread[a, b] * own[b]
    factorise(precision, lower)
    solve_lower(lower, gradient, gradient)
    solve_upper(lower, gradient)
    for a in range(own.shape[0]):
        own[a] += gradient[a]


@kernel
def unsure_relevance(x, lower, factors, ids, parts, f, variance):
    """Writes f of items of text and taste x, and how unsure x is of the user's factors, (c,).

    Candidates lie side by side in the loops, so that the compiler makes vectors of them.

    Args:
        x: (c,).
        lower: Cholesky factor of the precision of the user's factors, (r, r).
        factors: of all items, (N, r); `ids`: which of them, (c,).
        parts: room, (r, c).
        f: receives the relevance, (c,).
        variance: receives that of x, (c,).
    """
    rank, count = lower.shape[0], ids.shape[0]
    for c in range(count):
        variance[c] = 0.0
        for j in range(rank):
            parts[j, c] = factors[ids[c], j]
    for j in range(rank):  # forward substitution: parts become the solutions of L y = q
        inverse = 1.0 / lower[j, j]
        for k in range(j):
            for c in range(count):
                parts[j, c] -= lower[j, k] * parts[k, c]
        for c in range(count):
            parts[j, c] *= inverse
            variance[c] += parts[j, c] * parts[j, c]
    for c in range(count):
        f[c], _ = bend(x[c], math.sqrt(SOFTNESS**2 + _SPREAD**2 * variance[c]))


@kernel
def learn_step(
    q, posterior, i, texts, taste, slate, item, satisfied, scores, tired, added, goodwill, room
):
    """Moves the belief about user i by what it did with a slate.

    Args:
        scores: x of the slots, text and taste, (K,).
        tired: tiredness of the slots, (K,).
        added: to the utility and the log-odds of the slots, (K, 2), or nothing, (K, 0).
        room: scratch, (4, K) numbers for the slots, (r, r) and (r,).

    Returns:
        The log-odds that what was chosen would satisfy, as expected before; 0 for nothing.
    """
    slots, lower, gradient = room
    chance, slope, pull, weight = slots[0], slots[1], slots[2], slots[3]
    total, expected = 1.0, 0.0
    for k in range(slate.shape[0]):
        f, slope[k] = bend(scores[k], SOFTNESS)
        utility, odds = respond(q, texts, taste, slate[k], f, tired[k], goodwill)
        if added.shape[1] > 0:
            utility += added[k, 0]
            odds += added[k, 1]
        chance[k] = math.exp(min(utility - q.position * math.log(k + 1.0), 30.0))
        total += chance[k]
        if slate[k] == item:
            expected = odds
    for k in range(slate.shape[0]):
        p = chance[k] / total
        step = q.relevance_choice * slope[k]
        pull[k] = q.click * step * ((1.0 if slate[k] == item else 0.0) - p)
        weight[k] = q.click * step * step * p * (1.0 - p)
        if slate[k] == item:
            p = 1.0 / (1.0 + math.exp(-expected))
            step = q.relevance_satisfaction * slope[k]
            pull[k] += q.text * step * ((1.0 if satisfied else 0.0) - p)
            weight[k] += q.text * step * step * p * (1.0 - p)
    mean, precision = posterior.mean[i], posterior.precision[i]
    move_factors(mean, precision, taste.factors, taste.spread, slate, pull, weight, gradient, lower)
    return expected


@kernel
def learn_steps(parameters, memory, posterior, texts, taste, steps, added, first, expected):
    """Moves all that is known of each user by its steps number `first` down to 0.

    Args:
        steps: slates (n, s, K), items, feedback and queries (n, s), newest first.
        added: to the utility and the log-odds of the slots, (n, s, K, 2), or nothing, (n, s, K, 0).
        first: (n,), the oldest step to learn from; -1: none.
        expected: receives the log-odds of satisfaction with what was chosen, (n, s).
    """
    q = parameters[0]
    slates, items, feedback, queries = steps
    k, r = slates.shape[2], posterior.mean.shape[1]
    interest = np.empty(texts.rows.shape[1], np.float32)
    scratch = np.empty((LAST + 1, k + 16), np.float32)
    scores, tired = np.empty(k), np.empty(k)
    room = (np.empty((4, k)), np.empty((r, r)), np.empty(r))
    for i in range(slates.shape[0]):
        for s in range(first[i], -1, -1):
            slate, item = slates[i, s], items[i, s]
            if slate[0] < 0:
                continue
            satisfied = feedback[i, s] == 1
            write_text_scores(memory, i, texts, q.weights, slate, interest, scratch, scores, tired)
            add_taste(posterior, i, taste, slate, scores)
            expected[i, s] = learn_step(
                q,
                posterior,
                i,
                texts,
                taste,
                slate,
                item,
                satisfied,
                scores,
                tired,
                added[i, s],
                memory.goodwill[i],
                room,
            )
            remember(memory, i, texts, slate, item, satisfied, queries[i, s])


@kernel
def appraise(
    parameters, memory, posterior, texts, taste, candidates, bonus, added, lookahead, appraisal
):
    """Writes an Appraisal of the candidates.

    Args:
        bonus: added to the relevance of each candidate, (n, c), or nothing, (n, 0).
        added: to the utility and the log-odds of each candidate, (n, c, 2), or nothing, (n, c, 0).
        lookahead: worth of substance, of satisfaction and of a deviation of relevance, (3,).
    """
    q = parameters[0]
    odds, value, log_odds, tiredness = appraisal
    substance, patience, curiosity = lookahead
    n, count = candidates.shape
    r = posterior.mean.shape[1]
    interest = np.empty(texts.rows.shape[1], np.float32)
    scratch = np.empty((LAST + 1, count + 16), np.float32)
    x, tired, f, variance = np.empty(count), np.empty(count), np.empty(count), np.empty(count)
    satisfied, lower, parts = np.empty(count), np.empty((r, r)), np.empty((r, count))
    for i in range(n):
        ids = np.maximum(candidates[i], 0)
        write_text_scores(memory, i, texts, q.weights, ids, interest, scratch, x, tired)
        add_taste(posterior, i, taste, ids, x)
        if bonus.shape[1] > 0:
            x += bonus[i]
        factorise(posterior.precision[i], lower)
        unsure_relevance(x, lower, taste.factors, ids, parts, f, variance)
        for c in range(count):
            utility, log_odds[i, c] = respond(
                q, texts, taste, ids[c], f[c], tired[c], memory.goodwill[i]
            )
            if added.shape[2] > 0:
                utility += added[i, c, 0]
                log_odds[i, c] += added[i, c, 1]
            odds[i, c] = min(max(utility, -_HUGE), _HUGE)
        for c in range(count):
            odds[i, c] = exp64(odds[i, c])
            satisfied[c] = 1.0 / (1.0 + exp64(-log_odds[i, c]))
            value[i, c] = satisfied[c] * f[c] + curiosity * math.sqrt(variance[c])
            value[i, c] += patience * (satisfied[c] - 0.5)
        for c in range(count):
            value[i, c] += substance * texts.substance[ids[c]]
            tiredness[i, c] = tired[c]
            if candidates[i, c] < 0:
                odds[i, c], value[i, c], log_odds[i, c], tiredness[i, c] = 0.0, 0.0, 0.0, 0.0
