"""BOUNDARY: what freshness and familiarity count in the rankings that actions adjust."""

from __future__ import annotations

import numpy as np

from llmrec_env.interface.candidates import FAMILIARITY, FRESHNESS
from llmrec_env.interface.familiarity import add_up
from llmrec_env.simulation.compilation import kernel
from llmrec_env.simulation.elementary import one_minus_exp32
from llmrec_env.simulation.freshness import freshness

_FRESHNESS, _FAMILIARITY = np.float32(FRESHNESS), np.float32(FAMILIARITY)


@kernel
def added_terms(history, items, params, ids):
    """Returns what is added to the score of items, (c,); (0,) where no mechanism adds anything.

    Args:
        history: public, of one user.
        items: all items.
        params: of the dynamics: what is public of them.
        ids: of the items, (c,).
    """
    ages, attaches = params.new_items > 0.0, params.creator_growth > 0.0
    terms = np.zeros(ids.shape[0] if ages or attaches else 0, np.float32)
    if ages:
        for c in range(ids.shape[0]):
            published = items.published[ids[c]]
            terms[c] += _FRESHNESS * freshness(published, history.step, params.freshness_half_life)
    if attaches:
        totals = np.empty(int(params.num_creators), np.float32)
        add_up(history, items.creator, totals)
        for c in range(ids.shape[0]):
            terms[c] += _FAMILIARITY * one_minus_exp32(totals[items.creator[ids[c]]])
    return terms
