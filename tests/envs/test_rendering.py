"""Rendering shows a session truly, reads it only, and fits into its page."""

from __future__ import annotations

import copy
import itertools
import sys
import unicodedata
from collections.abc import Callable
from typing import Any

import gymnasium
import numpy as np
import pytest

from llmrec_env.envs import figure
from llmrec_env.envs.rendering import (
    SessionRecorder,
    as_image,
    as_text,
    change_sentences,
)

NewEnv = Callable[..., gymnasium.Env]


def rollout(env: gymnasium.Env, steps: int, seed: int = 3) -> list[Any]:
    """Takes random actions and returns all that the environment answered."""
    env.action_space.seed(seed)
    answers: list[Any] = [env.reset(seed=seed)]
    for _ in range(steps):
        answers.append(env.step(env.action_space.sample()))
        if answers[-1][2] or answers[-1][3]:
            break
    return answers


def recorded(new_env: NewEnv, steps: int, seed: int = 3, **changes: Any) -> SessionRecorder:
    env = new_env(render_mode="ansi", **changes)
    rollout(env, steps, seed)
    return env.unwrapped._recorder  # type: ignore[attr-defined]


def columns(line: str) -> int:
    return sum(1 + (unicodedata.east_asian_width(letter) in "WF") for letter in line)


# --- recording


@pytest.mark.parametrize("steps", [0, 1, 30])
def test_a_frame_for_the_start_and_one_for_each_step(new_env: NewEnv, steps: int) -> None:
    recorder = recorded(new_env, steps, off=["churn"])
    assert [frame.step for frame in recorder.frames] == list(range(steps + 1))


def test_weights_are_those_behind_the_true_interests(new_env: NewEnv) -> None:
    env = new_env(render_mode="ansi")
    env.reset(seed=5)
    simulator, vectors = env.unwrapped.simulator, env.unwrapped.simulator.world.interests.vectors
    for _ in range(10):
        env.step(env.action_space.sample())
        weights = env.unwrapped._recorder.frames[-1].weights
        u = sum(weight * vectors[phrase] for phrase, weight in weights.items())
        np.testing.assert_allclose(u, simulator.interests()[0], atol=1e-5)


def test_relevance_of_the_chosen_slot_is_the_one_the_user_felt(new_env: NewEnv) -> None:
    frames = recorded(new_env, 30, switch_rate=0.5, off=["churn"], choice_null=-5.0).frames[1:]
    chosen = [frame for frame in frames if frame.response["choice"] >= 0]
    assert chosen
    for frame in chosen:
        felt = frame.relevance[frame.response["choice"]]
        assert felt == pytest.approx(frame.response["relevance"], abs=1e-5)


def test_tracking_errors_are_between_true_and_observed_interest(new_env: NewEnv) -> None:
    env = new_env(render_mode="ansi", observation="dict")
    observation, _ = env.reset(seed=2)
    u = env.unwrapped.simulator.interests()[0]
    frame = env.unwrapped._recorder.frames[0]
    for tracking_error, block in (
        (frame.tracking_error, "interest"),
        (frame.recent_tracking_error, "recent"),
    ):
        cosine = float(u @ observation[block] / np.linalg.norm(u))
        assert np.cos(np.radians(tracking_error)) == pytest.approx(cosine, abs=1e-4)


def test_frames_are_copies(new_env: NewEnv) -> None:
    env = new_env(render_mode="ansi", off=["churn"])
    rollout(env, 3)
    frame = env.unwrapped._recorder.frames[1]
    before = copy.deepcopy(frame.__dict__)
    for _ in range(5):
        env.step(env.action_space.sample())
    assert frame.response == before.pop("response")
    np.testing.assert_equal({name: getattr(frame, name) for name in before}, before)


def test_reset_forgets_the_session_before(new_env: NewEnv) -> None:
    env = new_env(render_mode="ansi")
    rollout(env, 10)
    env.reset(seed=9, options={"user_id": 7})
    recorder = env.unwrapped._recorder
    assert len(recorder.frames) == 1
    assert recorder.user_id == 7
    assert "User 7" in env.render()


@pytest.mark.parametrize("mode", ["ansi", "rgb_array"])
def test_rendering_changes_nothing(
    new_env: NewEnv, acting: dict[str, Any], mode: str, assert_same
) -> None:
    watched = new_env(render_mode=mode, **acting)
    watched.action_space.seed(3)
    answers: list[Any] = [watched.reset(seed=3)]
    watched.render()
    for step in range(8):
        answers.append(watched.step(watched.action_space.sample()))
        if mode == "ansi" or step == 4:
            watched.render()
        if answers[-1][2] or answers[-1][3]:
            break
    unwatched = rollout(new_env(**acting), 8)
    for seen, unseen in zip(answers, unwatched, strict=True):
        assert_same(dict(enumerate(seen)), dict(enumerate(unseen)))


# --- sentences


def test_a_burst_reports_every_switch(new_env: NewEnv) -> None:
    recorder = recorded(
        new_env, 6, burst_step=5, burst_size=3, off=["churn", "influence", "refinement"]
    )
    before, after = (set(frame.weights) for frame in recorder.frames[-2:])
    text = "\n".join(change_sentences(recorder))
    assert len(before - after) >= 2
    for phrase in before - after:
        text_of = recorder.phrases.texts[phrase]
        assert f'no longer into "{text_of}"' in text or f'switched from "{text_of}"' in text
    for phrase in after - before:
        text_of = recorder.phrases.texts[phrase]
        assert f'now into "{text_of}"' in text or f'to "{text_of}", unprompted' in text


def test_the_largest_change_of_weight_is_reported_with_its_direction(new_env: NewEnv) -> None:
    recorder = recorded(new_env, 6, off=["switching", "influence", "refinement", "queries"])
    before, after = (frame.weights for frame in recorder.frames[-2:])
    most = max(after, key=lambda phrase: abs(after[phrase] - before[phrase]))
    verb = "grew" if after[most] > before[most] else "fell"
    assert len(change_sentences(recorder)) == 1
    assert f'interest in "{recorder.phrases.texts[most]}" {verb}' in change_sentences(recorder)[0]


def test_without_drift_nothing_is_said_to_change(new_env: NewEnv) -> None:
    assert change_sentences(recorded(new_env, 6, off=["drift", "queries"])) == []


# --- text


@pytest.mark.parametrize("steps", [0, 1, 30])
def test_text_fits_a_terminal(new_env: NewEnv, acting: dict[str, Any], steps: int) -> None:
    text = as_text(recorded(new_env, steps, off=["churn"], switch_rate=0.5, **acting))
    assert max(map(columns, text.splitlines())) <= 100
    assert f"step {steps} of 30" in text.splitlines()[0]


@pytest.mark.parametrize(("slate_size", "candidates"), [(1, 20), (5, 0), (20, 20)])
def test_text_shows_profile_slate_and_result(
    new_env: NewEnv, slate_size: int, candidates: int
) -> None:
    changes = {"slate_size": slate_size, "candidates": candidates}
    recorder = recorded(new_env, 5, off=["churn"], **changes)
    text, frame = as_text(recorder), recorder.frames[-1]
    slate = text[text.index("SLATE") : text.index("RESULT")].strip().splitlines()[1:]
    assert len(slate) == slate_size
    for phrase in frame.weights:
        assert recorder.phrases.texts[phrase] in text
    assert f"reward {frame.reward:.2f}" in text
    assert f"return {sum(old.reward for old in recorder.frames):.2f}" in text


@pytest.mark.parametrize(("bias", "mark", "outcome"), [(9, "*", "(z = 1)"), (-9, "x", "(z = 0)")])
def test_text_marks_what_was_chosen(new_env: NewEnv, bias: int, mark: str, outcome: str) -> None:
    recorder = recorded(new_env, 4, satisfaction_bias=bias, choice_null=-9, off=["churn"])
    lines = as_text(recorder).splitlines()
    rank = int(recorder.frames[-1].response["choice"]) + 1
    assert [line for line in lines if line.startswith(f"{mark} {rank:>2} ")]
    assert any(line.startswith("RESULT") and outcome in line for line in lines)


def test_text_says_when_nothing_was_chosen(new_env: NewEnv) -> None:
    text = as_text(recorded(new_env, 2, choice_null=20))
    assert "chose nothing" in text


def test_text_says_how_the_session_ended(new_env: NewEnv) -> None:
    assert "the user left" in as_text(recorded(new_env, 30, choice_null=20, patience_start=1))
    assert "session over" in as_text(recorded(new_env, 30, off=["churn"]))


def test_control_characters_and_wide_letters_do_not_break_lines(new_env: NewEnv) -> None:
    recorder = recorded(new_env, 1)
    n = len(recorder.catalog)
    strange = ("\x1b[31m red\nnew line\t" + "深度" * 60,) * n
    recorder.catalog = copy.copy(recorder.catalog)
    object.__setattr__(recorder.catalog, "titles", strange)
    text = as_text(recorder)
    assert "\x1b" not in text
    assert "深度" in text
    assert max(map(columns, text.splitlines())) <= 100
    assert as_image(recorder).shape == (720, 1280, 3)


def test_rendering_before_reset_says_what_to_do(new_simulator) -> None:
    recorder = SessionRecorder(new_simulator())
    for render in (as_text, as_image):
        with pytest.raises(RuntimeError, match=r"call reset\(\) first"):
            render(recorder)


# --- picture


@pytest.mark.parametrize("steps", [0, 1, 30])
def test_picture_of_every_mode(new_env: NewEnv, acting: dict[str, Any], steps: int) -> None:
    env = new_env(render_mode="rgb_array", off=["churn"], **acting)
    rollout(env, steps)
    picture = env.render()
    assert picture.shape == (720, 1280, 3)
    assert picture.dtype == np.uint8
    assert np.array_equal(picture, env.render())
    edge = np.concatenate([picture[:4].ravel(), picture[-4:].ravel(), picture[:, -4:].ravel()])
    assert edge.min() == 255, "something runs over the edge of the page"


def test_picture_of_a_long_slate_from_the_whole_catalogue(new_env: NewEnv) -> None:
    recorder = recorded(new_env, 4, slate_size=20, candidates=0, off=["churn"])
    assert as_image(recorder).std() > 10


def test_picture_of_a_session_longer_than_its_window(new_env: NewEnv) -> None:
    recorder = recorded(new_env, 30, off=["churn"])
    start, last = recorder.frames[0], recorder.frames[-1]
    recorder.frames = [start] * 1000 + recorder.frames
    recorder.frames[-1] = last
    assert as_image(recorder).shape == (720, 1280, 3)


def test_picture_ignores_formulas_in_texts(new_env: NewEnv) -> None:
    recorder = recorded(new_env, 1)
    recorder.catalog = copy.copy(recorder.catalog)
    object.__setattr__(recorder.catalog, "titles", ("$5 \\frac{ $",) * len(recorder.catalog))
    assert as_image(recorder).shape == (720, 1280, 3)


def test_a_missing_matplotlib_is_named(new_env: NewEnv, monkeypatch: pytest.MonkeyPatch) -> None:
    recorder = recorded(new_env, 1)
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(gymnasium.error.DependencyNotInstalled, match=r"llmrec-env\[render\]"):
        as_image(recorder)


def test_active_phrases_have_colours_of_their_own() -> None:
    rng = np.random.default_rng(0)
    active, moments = list(range(6)), []
    for phrase in range(6, 60):
        moments.append(dict.fromkeys(active, 1.0))
        active[rng.integers(6)] = phrase
    colours = figure.colour_numbers(moments)
    for moment in moments:
        assert len({colours[phrase] for phrase in moment}) == 6
    early = figure.colour_numbers(moments[:20])
    assert early == {phrase: colours[phrase] for phrase in early}


def test_labels_keep_apart_and_inside() -> None:
    middles, heights = np.array([100.0, 101.0, 299.0, 102.0]), [20.0, 30.0, 20.0, 20.0]
    centres = figure.spread(middles, heights, (90, 210))
    order = np.argsort(middles)
    edges = [(centres[i] - heights[i] / 2, centres[i] + heights[i] / 2) for i in order]
    assert edges[0][0] >= 90
    assert edges[-1][1] <= 300
    assert all(above[1] <= below[0] + 1e-9 for above, below in itertools.pairwise(edges))


def test_import_does_not_load_matplotlib(run_python) -> None:
    code = "import sys, llmrec_env.envs.single; print('matplotlib' in sys.modules)"
    assert run_python(code) == "False"


def test_pictures_leave_the_settings_of_matplotlib_alone(new_env: NewEnv) -> None:
    import matplotlib

    before = dict(matplotlib.rcParams)
    as_image(recorded(new_env, 2))
    assert dict(matplotlib.rcParams) == before
