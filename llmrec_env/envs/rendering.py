"""Rendering of one session as text for a terminal or as a picture, with what agents never see.

A rendering names a user's interests on purpose: it is for people who study the simulation.
"""

from __future__ import annotations

import textwrap
import unicodedata
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from llmrec_env.envs import figure
from llmrec_env.envs.description import event_sentences, quoted
from llmrec_env.interface.text_prompt import one_line
from llmrec_env.metrics import tracking_error
from llmrec_env.simulation.interests import interest_vector
from llmrec_env.simulation.records import compiled_view
from llmrec_env.simulation.simulator import Simulator
from llmrec_env.simulation.user_record import USER

_WIDTH = 100  # columns of a terminal
_BAR = 20
_VISIBLE = 0.005  # a smaller change of weight does not show in two decimals
_ARRIVED, _LEFT = ("born", "woken", "refined_to"), ("died", "slept", "refined_from")
_LANES = {
    "switched": "died",
    "woke": "woken",
    "fell asleep": "slept",
    "refined": "refined_to",
    "typed a query": "query",
}
_WINDOW = 400  # steps of a picture; more would be narrower than a pixel


@dataclass(frozen=True, eq=False)
class Frame:
    """A session at one moment: at its start, or after a step."""

    step: int
    weights: dict[int, float]  # omega of active interests by phrase id, summed if held twice
    response: np.void  # of the step, see `response_dtype`; all -1 at the start
    relevance: npt.NDArray[np.float32]  # (k,), f(u, y) of the slate with u as when it was shown
    reward: float
    goodwill: float
    patience: float
    tracking_error: float  # between u and the long pooled history [degrees]; nan where that is zero
    recent_tracking_error: float  # between u and the recent pooled history [degrees]


class SessionRecorder:
    """Copies of what happens in one session of a simulator, which it only reads.

    Attributes:
        frames: the session so far, its start first; empty before `restart`.
        user_id: whose session it is.
        profile: the interests at the start, as a text.
        session: its index in the simulator.
    """

    def __init__(self, simulator: Simulator, session: int = 0) -> None:
        """Watches a session."""
        self.session, self.config = session, simulator.config
        self.world = simulator.world
        self.catalog, self.phrases = self.world.catalog, self.world.phrases
        self.frames: list[Frame] = []
        self.user_id, self.profile = -1, ""
        self._simulator = simulator
        self._interest = np.zeros(simulator.config.dim, np.float32)

    def restart(self) -> None:
        """Forgets what was recorded and begins with the session as it stands, after a reset."""
        self.user_id = int(self._simulator.users["user_id"][self.session])
        self.frames = [self._frame(0, np.zeros(0, np.float32), 0.0)]
        texts = [one_line(self.phrases.texts[phrase]) for phrase, _ in _strongest(self.frames[0])]
        self.profile = "into " + "; ".join(texts)

    def record(self, reward: float) -> None:
        """Adds the latest step; call after each step."""
        world, slate = self._simulator.world, self._simulator.responses["slate"][self.session]
        taste = self._simulator.users["taste"][self.session]
        relevance = world.relevance(self._interest, taste, slate)
        self.frames.append(self._frame(len(self.frames), relevance.astype(np.float32), reward))

    def _frame(self, step: int, relevance: npt.NDArray[np.float32], reward: float) -> Frame:
        simulator = self._simulator
        user, history = simulator.users[self.session], simulator.histories[self.session]
        omega = np.empty(len(user["weight"]), np.float32)
        compiled = compiled_view(simulator.users, USER)[self.session]
        interest_vector(compiled, simulator.world.interests.vectors, omega, self._interest)
        weights: dict[int, float] = {}
        for phrase, weight in zip(user["phrase"].tolist(), omega.tolist(), strict=True):
            if weight > 0.0:
                weights[phrase] = weights.get(phrase, 0.0) + weight
        phrases = simulator.world.item_space.phrase_vectors
        as_read = np.sum([weight * phrases[p] for p, weight in weights.items()], axis=0)
        return Frame(
            step=step,
            weights=weights,
            response=simulator.responses[self.session].copy(),
            relevance=relevance,
            reward=reward,
            goodwill=float(user["goodwill"]),
            patience=float(user["patience"]),
            tracking_error=float(tracking_error(as_read, history["interest"])),
            recent_tracking_error=float(tracking_error(as_read, history["recent"])),
        )


def as_text(recorder: SessionRecorder) -> str:
    """Returns the last step of the session in lines of at most 100 columns.

    Raises:
        RuntimeError: before the first reset.
    """
    frame = _last(recorder)
    lines = [f"User {recorder.user_id} · {_status(recorder)}", "", *_profile_lines(recorder), ""]
    if frame.step == 0:
        return "\n".join([*lines, "SLATE     none shown yet"])
    changes = change_sentences(recorder) or ["nothing that shows"]
    lines += [*_slate_lines(recorder), "", f"RESULT    {_result(recorder)}", "", "WHAT CHANGED"]
    for sentence in changes:
        lines += textwrap.wrap(sentence, _WIDTH, initial_indent="  - ", subsequent_indent="    ")
    return "\n".join(lines)


def as_image(recorder: SessionRecorder) -> npt.NDArray[np.uint8]:
    """Returns the session so far as a picture, (720, 1280, 3).

    Raises:
        RuntimeError: before the first reset.
        DependencyNotInstalled: matplotlib is not installed.
    """
    frame = _last(recorder)
    shown = recorder.frames[-_WINDOW - 1 :]
    colours = figure.colour_numbers([old.weights for old in recorder.frames])
    phrases = [phrase for phrase in colours if any(phrase in old.weights for old in shown)]
    returns = np.cumsum([old.reward for old in recorder.frames])
    story = figure.Story(
        title=f"User {recorder.user_id}",
        status=_status(recorder),
        steps=np.array([old.step for old in shown]),
        weights=np.array([[old.weights.get(phrase, 0.0) for old in shown] for phrase in phrases]),
        labels=[one_line(recorder.phrases.texts[phrase]) for phrase in phrases],
        colours=[colours[phrase] for phrase in phrases],
        events={
            lane: [old.step for old in shown if old.response[name] >= 0]
            for lane, name in (_LANES | _told(recorder)).items()
        },
        tracking_errors=np.array(
            [[old.tracking_error, old.recent_tracking_error] for old in shown]
        ).T,
        returns=returns[-len(shown) :],
        slate=_rows(recorder),
        feedback=frame.response["feedback"].tolist(),
        slate_title=f"Slate of step {frame.step}" if frame.step else "No slate shown yet",
        result=_result(recorder) if frame.step else "",
        notes_title="What changed" if frame.step else "Profile at the start",
        notes=_notes(recorder) if frame.step else [recorder.profile],
    )
    return figure.draw(story)


def _told(recorder: SessionRecorder) -> dict[str, str]:
    return {"typed an instruction": "instruction"} if recorder.config.instructs() else {}


def change_sentences(recorder: SessionRecorder) -> list[str]:
    """Returns what the last step changed: events, and the weight that changed most."""
    if len(recorder.frames) < 2:
        return []
    before, after = (frame.weights for frame in recorder.frames[-2:])
    frame, phrases = recorder.frames[-1], recorder.phrases
    named = {int(frame.response[name]) for name in (*_ARRIVED, *_LEFT)}
    sentences = event_sentences(frame.response, recorder.world, frame.step)
    # A burst switches several interests at once, of which the response names one pair.
    left, came = sorted(before.keys() - after - named), sorted(after.keys() - before - named)
    sentences += [f"no longer into {quoted(phrase, phrases)}" for phrase in left]
    sentences += [f"now into {quoted(phrase, phrases)}" for phrase in came]
    changes = {p: after[p] - before[p] for p in after if p in before and p not in named}
    if changes:
        most = max(changes, key=lambda p: abs(changes[p]))
        verb = "grew" if changes[most] > 0 else "fell"
        if abs(changes[most]) >= _VISIBLE:
            amount = f"by {abs(changes[most]):.2f}"
            sentences.append(f"interest in {quoted(most, phrases)} {verb} {amount}")
    return sentences


def _last(recorder: SessionRecorder) -> Frame:
    if not recorder.frames:
        raise RuntimeError("render() was called before reset(); call reset() first.")
    return recorder.frames[-1]


def _strongest(frame: Frame) -> list[tuple[int, float]]:
    return sorted(frame.weights.items(), key=lambda entry: (-entry[1], entry[0]))


def _status(recorder: SessionRecorder) -> str:
    frame, config = _last(recorder), recorder.config
    left = f"patience {max(frame.patience, 0.0):.1f} of {config.patience_max:g}"
    return f"step {frame.step} of {config.horizon} · {left} · goodwill {frame.goodwill:.2f}"


def _profile_lines(recorder: SessionRecorder) -> list[str]:
    frame, before = _last(recorder), recorder.frames[-2:][0].weights
    long, recent = _rounded(frame.tracking_error), _rounded(frame.recent_tracking_error)
    lines = [f"PROFILE   tracking error of the pooled history: long {long}, recent {recent}"]
    for phrase, weight in _strongest(frame):
        change = weight - before.get(phrase, 0.0)
        sign = f"{change:+.2f}" if abs(change) >= _VISIBLE else ""
        bar = ("█" * round(_BAR * min(weight, 1.0))).ljust(_BAR, "·")
        text = _fitted(recorder.phrases.texts[phrase], _WIDTH - _BAR - 16).rstrip()
        lines.append(f"  {bar} {weight:.2f} {sign:>5}  {text}")
    return lines


def _slate_lines(recorder: SessionRecorder) -> list[str]:
    feedback = _last(recorder).response["feedback"].tolist()
    lines = ["SLATE     f: relevance when shown; *: chosen and satisfied; x: chosen, not satisfied"]
    for rank, (text, topic, relevance) in enumerate(_rows(recorder)):
        sign = " x*"[feedback[rank] + 1]
        line = f"{sign} {rank + 1:>2}  {relevance:5.2f}  {_fitted(text, 54)}  {_fitted(topic, 30)}"
        lines.append(line.rstrip())
    return lines


def _result(recorder: SessionRecorder) -> str:
    frame = _last(recorder)
    choice, satisfied = int(frame.response["choice"]), frame.response["satisfied"]
    count = np.count_nonzero(frame.response["feedback"] >= 0)
    chosen = "chose nothing" if choice < 0 else f"chose {choice + 1}"
    if count == 1:
        chosen += ", satisfied (z = 1)" if satisfied else ", not satisfied (z = 0)"
    elif count > 1:
        satisfying = np.count_nonzero(frame.response["feedback"] == 1)
        chosen = f"chose {count} items, {satisfying} satisfied (z = 1)"
    total = sum(old.reward for old in recorder.frames)
    end = " · the user left" if frame.response["terminated"] else ""
    end += " · session over" if frame.response["truncated"] and not end else ""
    return f"{chosen} · reward {frame.reward:.2f} · return {total:.2f}{end}"


def _rows(recorder: SessionRecorder) -> list[tuple[str, str, float]]:
    frame, catalog = _last(recorder), recorder.catalog
    if frame.step == 0:
        return []
    names, rows = catalog.titles or catalog.texts, []
    for rank, item in enumerate(frame.response["slate"].tolist()):
        topic = catalog.topic_names[catalog.topics[item]] if catalog.topic_names else ""
        rows.append((one_line(names[item]), one_line(topic), float(frame.relevance[rank])))
    return rows


def _notes(recorder: SessionRecorder) -> list[str]:
    """What the last step changed, then earlier events, newest first."""
    notes = change_sentences(recorder) or ["nothing that shows"]
    for frame in recorder.frames[-2:-_WINDOW:-1]:
        events = event_sentences(frame.response, recorder.world, frame.step)
        notes += [f"step {frame.step}: {sentence}" for sentence in events]
    return notes


def _rounded(degrees: float) -> str:
    return "unknown" if np.isnan(degrees) else f"{degrees:.0f}°"


def _fitted(text: str, width: int) -> str:
    """A text of exactly `width` columns, filled with blanks or cut; wide letters take two."""
    text = one_line(text)
    ends = np.cumsum([0] + [1 + (unicodedata.east_asian_width(c) in "WF") for c in text])
    if ends[-1] > width:
        count = np.count_nonzero(ends <= width - 1) - 1
        text, ends = f"{text[:count]}…", [ends[count] + 1]
    return text + " " * (width - int(ends[-1]))
