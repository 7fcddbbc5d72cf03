"""`action="text"`: the grammar, and what unreadable answers show."""

from __future__ import annotations

import time

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmrec_env.interface.text_answer import LONGEST_ANSWER, PROBLEMS, read_answer

TEXT = {"observation": "dict", "action": "text"}


@pytest.mark.parametrize(
    "answer", ["3,17,5", "3, 17, 5", " 3 ,17\t,5\n", "\r\n03, 017,000005 ", "3,\n17,\n5"]
)
def test_numbers_between_commas_are_read(answer):
    assert read_answer(answer, 3, 20) == ([2, 16, 4], 0)


@pytest.mark.parametrize(
    ("answer", "problem"),
    [
        ("", "not numbers"),
        ("3 17 5", "not numbers"),
        ("3, 17, 5.", "not numbers"),
        ("3, 17, 5,", "not numbers"),
        ("Answer: 3, 17, 5", "not numbers"),
        ("3, -17, 5", "not numbers"),
        ("\uff13, 17, 5", "not numbers"),
        ("1234567890, 2, 3", "not numbers"),
        ("3\x00, 17, 5", "not numbers"),
        ("0, 17, 5", "unknown number"),
        ("3, 17, 21", "unknown number"),
        ("3, 17, 3", "repeated number"),
        ("3, 17", "too few numbers"),
        ("3, 17, 5, 6", "too many numbers"),
        ("3, 17, 5" + " " * LONGEST_ANSWER, "too long"),
    ],
)
def test_other_answers_have_a_problem(answer, problem):
    indices, code = read_answer(answer, 3, 20)
    assert (indices, PROBLEMS[code]) == ([], problem)


@given(st.text())
def test_any_text_is_read_or_has_a_problem(answer):
    indices, code = read_answer(answer, 3, 20)
    assert 0 <= code < len(PROBLEMS) and (len(set(indices)) == 3) == (code == 0)


@pytest.mark.parametrize("answer", ["9" * 10**7, "1," * (5 * 10**6), " " * 10**7 + "x"])
def test_ten_megabytes_are_refused_at_once(new_vec, answer):
    env = new_vec(64, **TEXT)
    env.reset(seed=0)
    started = time.process_time()
    *_, infos = env.step((answer, *["1, 2, 3, 4, 5"] * 63))
    assert time.process_time() - started < 1.0
    assert infos["parse_problem"].tolist() == ["too long"] + [""] * 63
    assert infos["parse_error"].sum() == 1


def test_answers_act_as_the_slates_they_name(new_env):
    told, shown = new_env(**TEXT), new_env(observation="dict")
    told.reset(seed=1), shown.reset(seed=1)
    for start in range(1, 9):
        numbers = [start, 20, start + 1, start + 4, start + 7]
        _, reward, *_, info = told.step(", ".join(map(str, numbers)))
        _, expected, *_, other = shown.step(np.array(numbers) - 1)
        assert reward == expected and info["parse_error"] == 0
        np.testing.assert_array_equal(info["slate"], other["slate"])


def _fallback(new_env, policy, **changes):
    env = new_env(**(TEXT | {"text_fallback": policy} | changes))
    observation, _ = env.reset(seed=3)
    *_, info = env.step("whatever you say")
    assert info["parse_error"] == 1 and info["parse_problem"] == "not numbers"
    return observation["candidates"], info["slate"].tolist(), env.unwrapped.public_data()


def test_the_fallback_is_the_policy_that_is_named(new_env):
    candidates, first, data = _fallback(new_env, "first")
    assert first == candidates[:5].tolist()
    _, popular, _ = _fallback(new_env, "popular")
    order = np.lexsort((candidates, -data.items.popularity[candidates]))
    assert popular == candidates[order[:5]].tolist()
    _, drawn, _ = _fallback(new_env, "random")
    assert len(set(drawn)) == 5 and set(drawn) <= set(candidates.tolist())
    assert drawn == _fallback(new_env, "random")[1] not in (first, popular)


def test_random_slates_depend_neither_on_the_order_nor_on_the_batch(new_env, new_vec):
    # Candidates are listed in another order in prompts.
    one = _fallback(new_env, "random")[1]
    env = new_vec(3, **(TEXT | {"observation": "text"}))
    env.reset(seed=[7, 3, 8])
    assert env.step(("no", "whatever you say", "no"))[-1]["slate"][1].tolist() == one


def test_the_whole_catalogue_can_be_named_and_items_gone_are_unknown(new_env):
    env = new_env(candidates=0, **TEXT)
    observation, _ = env.reset(seed=0)
    candidates = observation["candidates"]
    gone, free = np.flatnonzero(candidates < 0), np.flatnonzero(candidates >= 0)
    answer = ", ".join(str(i + 1) for i in free[:5])
    *_, info = env.step(answer)
    assert info["slate"].tolist() == free[:5].tolist() and info["parse_error"] == 0
    *_, info = env.step(", ".join(str(i + 1) for i in [gone[0], *free[10:14]]))
    assert info["parse_problem"] == "unknown number"
    assert not set(info["slate"].tolist()) & set(gone.tolist())
    _fallback(new_env, "random", candidates=0), _fallback(new_env, "popular", candidates=0)


def test_a_new_session_has_made_no_error(new_env, new_vec):
    env = new_env(**TEXT)
    env.reset(seed=0)
    env.step("no")
    assert env.reset(seed=0)[1]["parse_error"] == 0
    batch = new_vec(2, **(TEXT | {"patience_start": 0.3}))
    batch.reset(seed=0)
    for _ in range(20):
        ended = ~batch._running.copy()
        *_, infos = batch.step(("no", "no"))
        np.testing.assert_array_equal(infos["parse_error"], ~ended)


@pytest.mark.parametrize("actions", ["1,2,3,4,5", ("1,2,3,4,5",), (1, 2), ("1", None), 3, None])
def test_actions_that_are_no_strings_are_refused_and_change_nothing(new_vec, actions):
    env = new_vec(2, **TEXT)
    env.reset(seed=0)
    with pytest.raises((TypeError, ValueError), match="action"):
        env.step(actions)
    assert (env.simulator.histories["step"] == 0).all()
