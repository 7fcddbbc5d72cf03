"""Past of a session: what is public of it, and what follows from that alone."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from llmrec_env.config import EnvConfig
from llmrec_env.interface.history import RECENT_STEPS
from llmrec_env.simulation import noise
from llmrec_env.simulation.compilation import kernel
from llmrec_env.simulation.creators import attachment_to
from llmrec_env.simulation.elementary import exp64
from llmrec_env.simulation.inner_products import cosines
from llmrec_env.simulation.logging_policy import POPULAR_SHARE, SEARCH_NOISE, SEARCH_SHARE, SEARCHED
from llmrec_env.simulation.records import compiled_view
from llmrec_env.simulation.response import (
    AGAIN,
    RESPONSE,
    consumed_before,
    new_scratch,
    no_responses,
    satiation_of,
)
from llmrec_env.simulation.user_record import USER, user_dtype
from llmrec_env.simulation.users import evolve

_SHARPNESS = 8.0  # of what a consumed item says about phrases, per unit of cosine
_QUERY_WEIGHT = 2.0  # what a typed phrase says, against a consumed item or a logged slate


class Past(NamedTuple):
    """What is public of a session's T steps at most, the logged ones first."""

    responses: Any  # (T,) RESPONSE: slate, feedback, choice, query; `examined` as far as known
    cosines: npt.NDArray[np.float32]  # (T, phrases, k), of every phrase and slot
    satiation: npt.NDArray[np.float32]  # (T, k), sat(y_k)
    attachment: npt.NDArray[np.float32]  # (T, k), to the creators of the slots
    penalty: npt.NDArray[np.float64]  # (T, k), utility lost to rank, null item and repetition
    goodwill: npt.NDArray[np.float32]  # (T,)
    logged: npt.NDArray[np.float64]  # (logged steps, phrases), P(slate | searched phrase)
    hints: npt.NDArray[np.float64]  # (T, phrases), cumulative: which phrases step t speaks for
    heard: npt.NDArray[np.float64]  # (T + 1, phrases), sums of `hints` over the steps before
    hinted: npt.NDArray[np.int64]  # (T + 1,), steps before that speak for any
    num_logged: npt.NDArray[np.int64]  # (1,)
    public: Any  # (1,) USER: its interests and taste mean nothing


def new_past(config: EnvConfig, num_phrases: int, num_creators: int = 0) -> Past:
    """Returns the past of a session of which nothing is known yet."""
    steps, k = RECENT_STEPS + config.horizon, config.slate_size
    public = np.zeros(1, user_dtype(config, num_creators))
    public["dim"], public["slots"], public["consumed"] = config.dim, config.interest_slots, -1
    return Past(
        responses=compiled_view(no_responses(steps, k), RESPONSE),
        cosines=np.zeros((steps, num_phrases, k), np.float32),
        satiation=np.zeros((steps, k), np.float32),
        attachment=np.zeros((steps, k), np.float32),
        penalty=np.zeros((steps, k)),
        goodwill=np.zeros(steps, np.float32),
        logged=np.ones((RECENT_STEPS, num_phrases)),
        hints=np.zeros((steps, num_phrases)),
        heard=np.zeros((steps + 1, num_phrases)),
        hinted=np.zeros(steps + 1, np.int64),
        num_logged=np.zeros(1, np.int64),
        public=compiled_view(public, USER),
    )


@kernel
def append(known, past, t, slate, feedback, query):
    """Writes step t into the past.

    Args:
        slate: item ids in the order shown, (k,).
        feedback: satisfied 1 or 0 of each slot, -1: not consumed, (k,).
        query: id of the phrase typed, -1 for none.
    """
    params, public, response = known.params[0], past.public[0], past.responses[t]
    k, every_phrase = slate.shape[0], np.arange(past.cosines.shape[1]).astype(np.int32)
    response.choice, response.item, response.satisfied, response.query = -1, -1, 0, query
    for slot in range(k):
        response.slate[slot], response.feedback[slot] = slate[slot], feedback[slot]
        if feedback[slot] >= 0:
            response.choice, response.item = slot, slate[slot]
            response.satisfied = feedback[slot]
    response.examined = slots_examined(params, response)
    cosines(every_phrase, known.interests.vectors, slate, known.vectors, past.cosines[t])
    past.goodwill[t] = public.goodwill
    for slot in range(k):
        past.satiation[t, slot] = satiation_of(public, known.vectors, slate[slot])
        creator = known.traits[slate[slot]].creator
        past.attachment[t, slot] = attachment_to(public, params, creator)
        past.penalty[t, slot] = params.rank_penalty[slot] + params.null
        if public.step < 0:
            past.penalty[t, slot] += AGAIN if consumed_before(public, slate[slot]) else 0.0
    if public.step < 0:
        write_logged(known, past, t, slate)
    listen(past, t, public.step < 0)
    scratch = new_scratch(k, known.vectors.shape[1])
    evolve(
        public,
        params,
        known.interests,
        known.vectors,
        known.traits,
        scratch,
        noise.step_key(0, t),
        response,
    )
    response.query = query  # `evolve` wrote the one of nobody


@kernel
def slots_examined(params, response):
    """Returns how many slots were looked at: in `cascade` the mean number, rounded.

    There the public history shows that the user came to the last item consumed, and no more.
    """
    if params.cascade == 0:
        return response.slots
    reach, count = 1.0, response.choice + 1.0
    if response.choice >= 0:
        reach = params.cascade_satisfied if response.satisfied else params.cascade_dissatisfied
    for _ in range(response.choice + 1, response.slots):
        count += reach
        reach *= params.cascade_skipped
    return int(count + 0.5)


@kernel
def write_logged(known, past, t, slate):
    """Writes the probability of a logged slate, if its search was for a phrase, for every phrase.

    Slots are searched, popular or random; result k of a search is an item of which the race knows
    how likely it arrives between the times of k and k + 1 arrivals.
    """
    age = min(-past.public[0].step, known.race.shape[0]) - 1  # of the step, back from the session
    race, n = known.race[age], known.shelves[age, 0]
    searched = min(SEARCHED, n) / n
    for p in range(past.logged.shape[1]):
        chance = 1.0
        for k in range(slate.shape[0]):
            rate = exp64(past.cosines[t, p, k] / np.float64(SEARCH_NOISE))
            before, after = race[p, k] * rate, race[p, k + 1] * rate
            found = searched * (exp64(-before) - exp64(-after))
            popular = POPULAR_SHARE * known.attraction[slate[k]] / known.shelves[age, 1]
            uniform = (1.0 - SEARCH_SHARE - POPULAR_SHARE) / n
            chance *= SEARCH_SHARE * found + popular + uniform
        past.logged[t, p] = chance


@kernel
def listen(past, t, logged):
    """Writes which phrases the step speaks for: those near what was consumed, typed or searched."""
    response, num_phrases = past.responses[t], past.hints.shape[1]
    hints, closeness, total = past.hints[t], np.empty(num_phrases), 0.0
    hints[:] = 0.0
    for k in range(response.choice + 1):
        if response.feedback[k] >= 0:
            for p in range(num_phrases):
                closeness[p] = exp64(_SHARPNESS * past.cosines[t, p, k])
            hints += closeness / closeness.sum()
            total += 1.0
    if logged:
        hints += past.logged[t] / past.logged[t].sum()
        total += 1.0
    if response.query >= 0:
        hints[response.query] += _QUERY_WEIGHT
        total += _QUERY_WEIGHT
    past.hinted[t + 1] = past.hinted[t]
    past.heard[t + 1] = past.heard[t]
    if total > 0.0:
        hints /= total
        past.hinted[t + 1] += 1
        past.heard[t + 1] += hints
        past.hints[t] = np.cumsum(hints)
