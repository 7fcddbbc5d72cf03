"""Likeness by a knowledge graph of candidates to what satisfied: what is rare tells more."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from agents.item_links import LinkedShare
from llmrec_env.content.item_graph import Links
from llmrec_env.interface.history import EMPTY, QUERY, SATISFIED, UNSATISFIED

# Thing 0 is of items 0, 1 and 2; thing 1 of 0 and 3; thing 2 of 4 alone. Item 5 has none.
LINKS = Links(np.array([0, 1, 2, 0, 3, 4]), np.array([0, 0, 0, 1, 1, 2]))


def observation(history: list[int], kinds: list[int]) -> Any:
    return {
        "history": np.array([history]),
        "history_feedback": np.array([kinds]),
        "candidates": np.array([[0, 1, 2, 3, 4, 5, -1]]),
    }


def test_a_candidate_is_as_near_as_what_it_shares_is_rare():
    (share,) = LinkedShare(LINKS, 6)(observation([0, 9], [SATISFIED, EMPTY]))
    assert share[0] == pytest.approx(1.0)
    assert share[3] > share[1] == share[2] > 0.0
    assert share[4] == share[5] == share[6] == 0.0


def test_only_what_satisfied_counts_and_all_of_it_alike():
    (share,) = LinkedShare(LINKS, 6)(
        observation([1, 4, 0, 2], [SATISFIED, SATISFIED, UNSATISFIED, QUERY])
    )
    assert share[1] == share[2] == share[4] == pytest.approx(0.5)
    assert share[5] == share[3] == 0.0


def test_nothing_liked_is_nothing_near():
    assert not LinkedShare(LINKS, 6)(observation([0], [UNSATISFIED])).any()


def test_a_world_without_a_graph_is_refused():
    with pytest.raises(ValueError, match=r"give the environment item_graph='triples\.csv'"):
        LinkedShare(None, 6)
