"""BOUNDARY: public history of a user, as a recommender could have written it down.

It holds what was shown, chosen, satisfying and typed; `record` updates it after each step.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from llmrec_env.config import EnvConfig
from llmrec_env.simulation.compilation import inlined, kernel
from llmrec_env.simulation.inner_products import dot
from llmrec_env.simulation.records import (
    bytes_behind,
    extended,
    floats_behind,
    in_whole_lines,
    ints_behind,
)

HISTORY_LENGTH = 128

RECENT_STEPS = 32
"""Newest steps that the history holds whole: slate, item, feedback and query."""

FACTOR_DIM = 16

EMPTY, UNSATISFIED, SATISFIED, QUERY = -1, 0, 1, 2
"""Kinds of entries: none, an item that did not satisfy, one that did, a phrase typed."""

RECENT = ("slates", "slot_feedbacks", "items", "feedbacks", "queries")
"""Rings of the newest steps: slate shown, feedback of each slot, the last item consumed, whether
it satisfied, phrase typed."""

_SLOW, _FAST = np.float32(0.97), np.float32(0.85)
_SKIP, _TIRED = np.float32(0.92), np.float32(0.90)
_UNSATISFIED_SLOW, _UNSATISFIED_FAST = np.float32(0.15), np.float32(-0.4)
_SKIPPED_FAST = np.float32(-0.25)
_FAST_SKIP = np.float32(
    0.9601851
)  # 0.85^(1/4): a skipped slate ages the recent interest a quarter as much


def consumable(config: EnvConfig) -> int:
    """Returns how many items a user can consume, in the past and a session."""
    at_once = config.slate_size if config.response == "cascade" else 1
    return (config.warmup_slates + config.horizon) * at_once


HISTORY = in_whole_lines(
    [
        ("dim", np.int32),  # d
        ("slots", np.int32),  # k
        ("cap_slots", np.int32),  # length of `shown`
        ("num_entries", np.int32),
        ("num_steps", np.int32),
        ("num_consumed_items", np.int32),
        ("num_shown", np.int32),
        ("step", np.int32),
        ("consumed", np.int32),  # counts of this session
        ("satisfied", np.int32),
        ("last_satisfied", np.int32),  # steps of the last such event, -1 before the first
        ("last_consumed", np.int32),
        ("last_query", np.int32),
        ("query", np.int32),  # id of the last phrase typed, -1 before the first
        ("last_item", np.int32),
        ("last_rank", np.int32),
        ("diversity", np.float32),  # of the last slate
        ("factor", np.float32, (FACTOR_DIM,)),  # co-consumption factors of what satisfied
        ("items", np.int32, (RECENT_STEPS,)),  # rings of the last steps, beside `slates`
        ("feedbacks", np.int32, (RECENT_STEPS,)),
        ("queries", np.int32, (RECENT_STEPS,)),
        ("item", np.int32, (HISTORY_LENGTH,)),  # ring of item or phrase ids
        ("feedback", np.int32, (HISTORY_LENGTH,)),  # kinds of these entries
    ]
)
"""The fixed part of a user's public history; see `history_dtype`."""


def history_dtype(config: EnvConfig) -> np.dtype[np.void]:
    """Returns the record of one user's public history."""
    dim, shown = config.dim, max(config.impression_cap, 1) * config.slate_size
    parts: list[tuple[str, Any, tuple[int, ...]]] = [
        ("interest", np.float32, (dim,)),  # v: slow mean of what satisfied
        ("recent", np.float32, (dim,)),  # v: fast mean, negative for what did not
        ("satiation", np.float32, (dim,)),  # what was consumed lately
        ("skipped", np.float32, (dim,)),  # slates from which nothing was chosen
        ("shown", np.int32, (shown,)),  # ring of the last slates
        ("slates", np.int32, (RECENT_STEPS, config.slate_size)),  # ring of the last steps
        ("slot_feedbacks", np.int8, (RECENT_STEPS, config.slate_size)),
        ("consumed_items", np.int32, (consumable(config),)),  # all of them, in the past or now
    ]
    return extended(HISTORY, {}, parts)


@inlined
def interest_of(history):
    """Returns the slow mean of what satisfied, (d,)."""
    return floats_behind(history, 0, history.dim)


@inlined
def recent_of(history):
    """Returns the fast mean of what satisfied, (d,)."""
    return floats_behind(history, 4 * history.dim, history.dim)


@inlined
def satiation_of(history):
    """Returns what was consumed lately, (d,)."""
    return floats_behind(history, 8 * history.dim, history.dim)


@inlined
def skipped_of(history):
    """Returns the slates from which nothing was chosen, (d,)."""
    return floats_behind(history, 12 * history.dim, history.dim)


@inlined
def shown_of(history):
    """Returns the ring of the items shown last, (cap_slots,)."""
    return ints_behind(history, 16 * history.dim, history.cap_slots)


@inlined
def slates_of(history):
    """Returns the ring of the last steps' slates, (RECENT_STEPS · k,)."""
    start = 16 * history.dim + 4 * history.cap_slots
    return ints_behind(history, start, RECENT_STEPS * history.slots)


@inlined
def slot_feedbacks_of(history):
    """Returns the ring of the feedback of each slot, (RECENT_STEPS · k,)."""
    start = 16 * history.dim + 4 * history.cap_slots + 4 * RECENT_STEPS * history.slots
    return bytes_behind(history, start, RECENT_STEPS * history.slots)


@inlined
def consumed_of(history):
    """Returns the items consumed; room for one more behind them."""
    start = 16 * history.dim + 4 * history.cap_slots + 5 * RECENT_STEPS * history.slots
    return ints_behind(history, start, history.num_consumed_items + 1)


def empty_histories(n: int, config: EnvConfig) -> npt.NDArray[np.void]:
    """Returns the histories of n users of whom nothing is known, (n,)."""
    histories = np.zeros(n, history_dtype(config))
    histories["dim"], histories["slots"] = config.dim, config.slate_size
    histories["cap_slots"] = histories.dtype["shown"].shape[0]
    for name in ("item", "feedback", "shown", "query", "last_item", "last_rank"):
        histories[name] = -1
    for name in RECENT:
        histories[name] = -1
    start_session(histories)
    return histories


def start_session(histories: npt.NDArray[np.void]) -> None:
    """Sets what is counted per session to its beginning; what was learnt about the user stays."""
    for name in ("step", "consumed", "satisfied", "num_shown"):
        histories[name] = 0
    for name in ("last_satisfied", "last_consumed", "last_query", "last_rank"):
        histories[name] = -1


@inlined
def record(history, vectors, factors, phrase_vectors, response, slate_mean):
    """Writes one step into the history; `slate_mean` is scratch, (d,)."""
    slots, shown = response.slots, shown_of(history)
    index = history.num_shown % history.cap_slots  # the ring holds whole slates
    for k in range(slots):
        shown[index + k] = response.slate[k]
    history.num_shown += slots
    record_step(history, response)
    mean_vector(vectors, response.slate[:slots], slate_mean)
    history.diversity = diversity(slate_mean, slots)
    history.last_rank = response.choice
    for k in range(slots):
        if response.feedback[k] >= 0:
            satisfied = response.feedback[k] == 1
            record_consumption(history, vectors, factors, response.slate[k], satisfied)
    if response.item < 0:
        record_skip(history, slate_mean)
    if response.query >= 0:
        query, interest, recent = response.query, interest_of(history), recent_of(history)
        for j in range(phrase_vectors.shape[1]):
            interest[j] += phrase_vectors[query, j]
            recent[j] += phrase_vectors[query, j]
        append(history, response.query, QUERY)
        history.query = response.query
        history.last_query = history.step
    history.step += 1


@inlined
def record_step(history, response):
    """Writes the step over the oldest one of the ring."""
    start = history.num_steps % RECENT_STEPS * response.slots
    slates, feedbacks = slates_of(history), slot_feedbacks_of(history)
    for k in range(response.slots):
        slates[start + k] = response.slate[k]
        feedbacks[start + k] = response.feedback[k]
    index = history.num_steps % RECENT_STEPS
    history.items[index], history.queries[index] = response.item, response.query
    history.feedbacks[index] = response.satisfied if response.item >= 0 else EMPTY
    history.num_steps += 1


@inlined
def append(history, item, kind):
    """Adds an entry to the ring of events."""
    index = history.num_entries % HISTORY_LENGTH
    history.item[index] = item
    history.feedback[index] = kind
    history.num_entries += 1


@inlined
def record_consumption(history, vectors, factors, item, satisfied):
    """An item was consumed: it pulls the interests by whether it satisfied, and tires."""
    slow = np.float32(1.0) if satisfied else _UNSATISFIED_SLOW
    fast = np.float32(1.0) if satisfied else _UNSATISFIED_FAST
    interest, recent = interest_of(history), recent_of(history)
    satiation, skipped = satiation_of(history), skipped_of(history)
    for j in range(vectors.shape[1]):
        y = vectors[item, j]
        interest[j] = _SLOW * interest[j] + slow * y
        recent[j] = _FAST * recent[j] + fast * y
        satiation[j] = _TIRED * satiation[j] + y
        skipped[j] = _SKIP * skipped[j]
    for j in range(FACTOR_DIM):
        gain = slow * factors[item, j]
        history.factor[j] = _SLOW * history.factor[j] + gain
    append(history, item, SATISFIED if satisfied else UNSATISFIED)
    consumed = consumed_of(history)
    consumed[history.num_consumed_items] = item
    history.num_consumed_items += 1
    history.last_item = item
    history.consumed += 1
    history.last_consumed = history.step
    if satisfied:
        history.satisfied += 1
        history.last_satisfied = history.step


@inlined
def record_skip(history, slate_mean):
    """Nothing was chosen: the whole slate counts against its direction."""
    recent, satiation, skipped = recent_of(history), satiation_of(history), skipped_of(history)
    for j in range(slate_mean.shape[0]):
        mean = slate_mean[j]
        recent[j] = _FAST_SKIP * recent[j] + _SKIPPED_FAST * mean
        satiation[j] = _TIRED * satiation[j]
        skipped[j] = _SKIP * skipped[j] + mean


@kernel
def mean_vector(vectors, slate, mean):
    """Writes the mean of the vectors of a slate, (d,)."""
    mean[:] = 0.0
    for k in range(slate.shape[0]):
        item = slate[k]  # read once: the compiler cannot know that `mean` does not overlap it
        for j in range(mean.shape[0]):
            mean[j] += vectors[item, j]
    for j in range(mean.shape[0]):
        mean[j] *= np.float32(1.0 / slate.shape[0])


@kernel
def diversity(slate_mean, k):
    """Returns the intra-list diversity 1 - mean pairwise cosine (Ziegler et al., WWW 2005)."""
    if k < 2:
        return 0.0
    square = k * k * dot(slate_mean, slate_mean)  # = k + 2 sum of pairs, for unit vectors
    return 1.0 - (square - k) / (k * (k - 1.0))


@kernel
def newest_first(history, items, feedback, i):
    """Writes the events into row i in order of time, newest first, -1 where there is none."""
    count = min(history.num_entries, HISTORY_LENGTH)
    for j in range(HISTORY_LENGTH):
        index = (history.num_entries - 1 - j) % HISTORY_LENGTH
        items[i, j] = history.item[index] if j < count else -1
        feedback[i, j] = history.feedback[index] if j < count else -1


@kernel
def newest_steps(history, recent, slot_feedback, i):
    """Writes the last steps into row i, newest first, -1 where there is none.

    Args:
        recent: receives the slate, the last item, its feedback and the query, (n, 32, K + 3).
        slot_feedback: receives the feedback of each slot, (n, 32, K), or nothing, (n, 0, K).
    """
    slots, slates, feedbacks = history.slots, slates_of(history), slot_feedbacks_of(history)
    for j in range(RECENT_STEPS):
        index = (history.num_steps - 1 - j) % RECENT_STEPS
        for k in range(slots):
            recent[i, j, k] = slates[index * slots + k]
        recent[i, j, slots] = history.items[index]
        recent[i, j, slots + 1] = history.feedbacks[index]
        recent[i, j, slots + 2] = history.queries[index]
    for j in range(slot_feedback.shape[1]):
        index = (history.num_steps - 1 - j) % RECENT_STEPS
        for k in range(slots):
            slot_feedback[i, j, k] = feedbacks[index * slots + k]


def slot_feedback(
    slates: npt.NDArray[np.int32], items: npt.NDArray[np.int32], satisfied: npt.NDArray[np.int32]
) -> npt.NDArray[np.int32]:
    """Returns the feedback of each slot, (..., k), where at most one item of a slate is consumed.

    Args:
        slates: (..., k).
        items: consumed, (...,); -1 for none.
        satisfied: whether each did, (...,).
    """
    consumed = (slates == items[..., None]) & (slates >= 0)
    return np.where(consumed, satisfied[..., None] == SATISFIED, EMPTY).astype(np.int32)


@kernel
def replay(histories, slates, feedback, queries, vectors, factors, phrase_vectors, response):
    """Writes the logged slates of each user, and the feedback of each slot, into the history."""
    scratch = np.empty(vectors.shape[1], np.float32)
    for i in range(histories.shape[0]):
        for t in range(slates.shape[1]):
            response[0].item, response[0].satisfied, response[0].choice = -1, 0, -1
            for k in range(slates.shape[2]):
                response[0].slate[k], response[0].feedback[k] = slates[i, t, k], feedback[i, t, k]
                if feedback[i, t, k] >= 0:
                    response[0].item, response[0].satisfied = slates[i, t, k], feedback[i, t, k]
            response[0].query = queries[i, t]
            record(histories[i], vectors, factors, phrase_vectors, response[0], scratch)
