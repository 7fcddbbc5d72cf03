"""How well items answer open questions: what users typed that no answer has resolved since.

Where answers resolve questions, only what fits an open one satisfies. Which these are the public
history tells: what was typed, until something satisfied that fits it. An item answers the question
that it fits best, by 1 / (1 + exp(-(fit - ENOUGH) / WIDTH)), fit = cosine + DEPTH substance.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from llmrec_env.interface.history import slot_feedback
from llmrec_env.simulation.compilation import kernel
from llmrec_env.simulation.inner_products import rows_dot
from llmrec_env.world import PublicData

Floats = npt.NDArray[np.float32]
ENOUGH, DEPTH, WIDTH = 0.32, 0.12, 0.05
"""Read off the logs of world 100 of `Support`, as the following: log-loss of satisfaction."""
_FITS = 0.25  # from which on what satisfied is taken to have resolved a question
_FADING = 0.97  # of a question with each step since it was typed: interests end by themselves too
_OPEN = 6  # questions that are kept, the last typed


class Texts(NamedTuple):
    """What is read of items and phrases."""

    items: Floats  # (N, d), unit
    substance: Floats  # (N,)
    phrases: Floats  # (P, d), unit

    @classmethod
    def of(cls, data: PublicData) -> Texts:
        """Returns those of public data."""
        return cls(data.items.vectors, data.items.substance, data.phrase_vectors)


def candidate_answers(observation: Any, texts: Texts) -> Floats:
    """Returns how well candidates answer open questions, in [0, 1], (n, c).

    Args:
        observation: batch of n `dict` observations.
        texts: of the catalogue.
    """
    return _answers(_steps_of(observation), texts, observation["candidates"], 0)[1]


def recent_answers(observation: Any, texts: Texts, count: int) -> Floats:
    """Returns that of the `count` newest slates before each step, newest first, (n, s, K).

    What was typed before the oldest step that an observation holds is missing in it.
    """
    steps = _steps_of(observation)
    nothing = np.empty((len(steps[0]), 0), np.int32)
    return _answers(steps, texts, nothing, count)[0][:, ::-1][:, :count]


def logged_answers(
    slates: npt.NDArray[np.int32],
    feedback: npt.NDArray[np.integer],
    queries: npt.NDArray[np.int32],
    texts: Texts,
) -> Floats:
    """Returns that of every slot that was logged, before its step, (U, W, K).

    Args:
        slates: of users of whom nothing is known before, oldest first, (U, W, K).
        feedback: of each slot, (U, W, K).
        queries: phrases typed after each step, -1 for none, (U, W).
        texts: of the catalogue.
    """
    nothing = np.empty((len(slates), 0), np.int32)
    return _answers((slates, feedback, queries), texts, nothing, slates.shape[1])[0]


def _steps_of(observation: Any) -> tuple[npt.NDArray[Any], ...]:
    """Slates, feedback of their slots, and what was typed after them, oldest first."""
    names = ("recent_slates", "recent_items", "recent_satisfied", "recent_queries")
    slates, items, satisfied, queries = (observation[name] for name in names)
    if "recent_feedback" in observation:
        feedback = observation["recent_feedback"]
    else:
        feedback = slot_feedback(slates, items, satisfied)
    return tuple(np.ascontiguousarray(x[:, ::-1]) for x in (slates, feedback, queries))


def _answers(
    steps: tuple[npt.NDArray[Any], ...], texts: Texts, candidates: npt.NDArray[Any], count: int
) -> tuple[Floats, Floats]:
    """That of the slots of the `count` newest steps, (n, s, K), and of candidates, (n, c)."""
    of_slates, of_candidates = (np.zeros(x.shape, np.float32) for x in (steps[0], candidates))
    _follow(texts, steps, candidates, steps[0].shape[1] - count, of_slates, of_candidates)
    return of_slates, of_candidates


@kernel
def _follow(texts, steps, candidates, first, of_slates, of_candidates):
    """Follows the steps, oldest first; writes the slates from step `first` on."""
    slates, feedback, queries = steps
    phrase, weight = np.empty(_OPEN, np.int32), np.empty(_OPEN)
    for i in range(slates.shape[0]):
        phrase[:] = -1
        for t in range(slates.shape[1]):
            if slates[i, t, 0] < 0:
                continue
            if t >= first:
                _compare(texts, phrase, weight, slates[i, t], of_slates[i, t])
            for k in range(slates.shape[2]):
                if feedback[i, t, k] == 1:
                    _close(texts, phrase, slates[i, t, k])
            for j in range(_OPEN):
                weight[j] *= _FADING
            if queries[i, t] >= 0:
                _open(phrase, weight, queries[i, t])
        _compare(texts, phrase, weight, candidates[i], of_candidates[i])


@kernel
def _answer(texts, question, item):
    """Returns how well an item answers a question, in [0, 1]."""
    fit = rows_dot(texts.phrases, question, texts.items, item) + DEPTH * texts.substance[item]
    return 1.0 / (1.0 + math.exp(-(fit - ENOUGH) / WIDTH))


@kernel
def _compare(texts, phrase, weight, ids, out):
    """Writes how well each item answers the open question that it answers best, (ids,)."""
    for c in range(ids.shape[0]):
        best = 0.0
        for j in range(_OPEN if ids[c] >= 0 else 0):
            if phrase[j] >= 0:
                best = max(best, weight[j] * _answer(texts, phrase[j], ids[c]))
        out[c] = best


@kernel
def _close(texts, phrase, item):
    """Forgets the question that an item which satisfied answers best, if it answers one."""
    resolved, best = -1, _FITS
    for j in range(_OPEN):
        if phrase[j] >= 0:
            answer = _answer(texts, phrase[j], item)
            if answer > best:
                resolved, best = j, answer
    if resolved >= 0:
        phrase[resolved] = -1


@kernel
def _open(phrase, weight, query):
    """Takes a question in the place of itself, of none, or of the faintest."""
    place = 0
    for j in range(_OPEN):
        if phrase[j] == query:
            place = j
            break
        if phrase[place] >= 0 and (phrase[j] < 0 or weight[j] < weight[place]):
            place = j
    phrase[place], weight[place] = query, 1.0
