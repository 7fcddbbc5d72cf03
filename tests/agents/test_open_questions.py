"""Open questions: typed and not resolved since; items answer the one that they fit best."""

from __future__ import annotations

import numpy as np
import pytest

from agents.open_questions import DEPTH, ENOUGH, WIDTH, Texts, logged_answers
from llmrec_env.config import EnvConfig

A, B = 0, 1
TEXTS = Texts(
    items=np.array([[1, 0, 0], [0.8, 0.6, 0], [0, 1, 0], [0, 0, 1]], np.float32),
    substance=np.array([0, -1, 1, 0], np.float32),
    phrases=np.array([[1, 0, 0], [0, 1, 0]], np.float32),
)
SLATE = [0, 1, 2, 3]


def _answers(queries, answered):
    """Of SLATE before each step, where answered[t] is the slot that satisfied, -1 for none."""
    slates = np.tile(np.array(SLATE, np.int32), (1, len(queries), 1))
    feedback = np.full(slates.shape, -1, np.int8)
    for t, slot in enumerate(answered):
        if slot >= 0:
            feedback[0, t, slot] = 1
    return logged_answers(slates, feedback, np.array([queries], np.int32), TEXTS)[0]


def _of(question, age=0):
    cosine = (TEXTS.phrases @ TEXTS.items.T)[question]
    return 0.97**age / (1.0 + np.exp(-(cosine + DEPTH * TEXTS.substance - ENOUGH) / WIDTH))


def test_what_is_typed_is_open_until_an_answer_to_it_satisfies():
    none, asked, both, left, closed = _answers([A, B, -1, -1, -1], [-1, -1, 1, 2, -1])
    assert not none.any()
    np.testing.assert_allclose(asked, _of(A), rtol=1e-5)
    np.testing.assert_allclose(both, np.maximum(_of(A, 1), _of(B)), rtol=1e-5)
    np.testing.assert_allclose(left, _of(B, 1), rtol=1e-5)  # it answers A best: B is still open
    assert not closed.any()


def test_the_next_question_is_typed_in_the_step_that_resolves_one():
    np.testing.assert_allclose(_answers([A, B, -1], [-1, 0, -1])[2], _of(B), rtol=1e-5)


@pytest.mark.parametrize("slot", [-1, 3])
def test_what_is_about_something_else_resolves_nothing(slot):
    np.testing.assert_allclose(_answers([A, -1, -1], [-1, slot, -1])[2], _of(A, 1), rtol=1e-5)


def test_a_question_typed_again_is_not_kept_twice():
    after = _answers([A, A, -1, -1], [-1, -1, 0, -1])
    np.testing.assert_allclose(after[2], _of(A), rtol=1e-5)
    assert not after[3].any()


def test_none_are_read_where_resolution_is_off(tiny):
    asked = {"resolution": 0.4, **tiny}
    assert EnvConfig(**asked).resolves()
    assert not EnvConfig(**asked, off=("resolution",)).resolves()
    assert not EnvConfig(**tiny).resolves()
