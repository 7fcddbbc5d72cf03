"""BOUNDARY: `observation="text"`, a public history and the candidates as a prompt.

The prompt is made of what everybody may know: what was shown, taken and typed, and the candidates'
titles. It is a function of these alone, so that equal sessions have equal prompts.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from gymnasium import spaces

from llmrec_env.config import ConfigError, EnvConfig
from llmrec_env.interface.history import EMPTY
from llmrec_env.interface.instructions import WORDINGS, instruction_text

PROMPT_VERSION = 1
"""Raised when the wording or the layout of a prompt changes."""

_MARKS = (". ", "- ", "+ ")  # by feedback + 1
_SHORTEST_TITLE, _LONGEST_TITLE = 12, 200  # characters; a text without title is its own
_WHOLE_STEPS = 5  # the newest, of which also what was passed over is told
_CANDIDATES_SHARE = 0.75  # of the budget, at most, while there is a history to tell
_NOTHING = "(none)"
_USERS = {
    "logit": "The user takes one of them or none",
    "cascade": "The user looks at them in order and takes any number",
    "llm": "The user takes one of them or none",
}


class Prompt(NamedTuple):
    """A prompt, and what the budget left out of it."""

    text: str
    cut_steps: int = 0
    """Steps of the history that are not told, the oldest ones."""
    cut_items: int = 0
    """Items passed over in the newest steps."""
    cut_titles: int = 0
    """Candidates whose title is shortened."""


class PromptWriter:
    """Writes prompts of at most `budget` characters.

    What does not fit is left out in this order: items passed over, oldest first; steps, oldest
    first; the ends of titles, when candidates would take more than three quarters.

    Attributes:
        titles: what items are called, by their id.
    """

    def __init__(
        self, config: EnvConfig, titles: Sequence[str], phrases: Sequence[str], budget: int
    ) -> None:
        """Takes the titles by item id, and the phrases that users type by their id.

        Raises:
            ConfigError: the budget cannot hold the shortest titles of all candidates.
        """
        self._instructed = "! told you; " if config.instructs() else ""
        self.budget, self._size = budget, config.candidates or len(titles)
        self.titles = [shortened(one_line(title), _LONGEST_TITLE) for title in titles]
        self._phrases = [one_line(phrase) for phrase in phrases]
        self._head = (
            f"llmrec prompt {PROMPT_VERSION}\n"
            f"Choose this user's next slate: {config.slate_size} of the candidates, best first. "
            f"{_USERS[config.response]}, is satisfied or not, and leaves when too little "
            "satisfies.\n\nEarlier slates, newest first (+ taken, satisfied; - taken, not "
            f"satisfied; ? typed; {self._instructed}of the last {_WHOLE_STEPS}: . passed over):\n"
        )
        self._middle = "\n\nCandidates:\n"
        several = f"{config.slate_size} different numbers of candidates, separated by commas"
        asked = "the number of one candidate" if config.slate_size == 1 else several
        self._tail = f"\n\nAnswer with {asked}.\nAnswer:"
        self._room = budget - len(self._head + self._middle + self._tail + _NOTHING)
        shortest = sum(len(f"{number}. \n") for number in range(1, self._size + 1))
        missing = shortest + self._size * _SHORTEST_TITLE - self._room
        if missing > 0:
            raise ConfigError(
                f"text_budget={budget} characters cannot list {self._size} candidates; set "
                f"text_budget={budget + missing} or more, or fewer candidates."
            )

    def space(self) -> spaces.Text:
        """Returns the space of prompts."""
        words = "".join([*self.titles, *self._phrases, self._head, self._middle, self._tail])
        if self._instructed:
            words += "".join(wording for kind in WORDINGS for wording in kind)
        used = frozenset(words + "0123456789|…" + _NOTHING)
        return spaces.Text(self.budget, charset=used)

    def write(
        self,
        candidates: npt.NDArray[np.int32],
        slates: npt.NDArray[np.int32],
        feedback: npt.NDArray[np.int32],
        queries: npt.NDArray[np.int32],
        instructions: npt.NDArray[np.int32] | None = None,
    ) -> Prompt:
        """Returns the prompt of one session.

        Args:
            candidates: item ids, (c,); -1 where there is none. Number j stands for candidates[j-1].
            slates: of the newest steps, newest first, (32, k); -1 where there is none.
            feedback: of each slot, (32, k).
            queries: ids of phrases typed, (32,).
            instructions: kind, phrase and wording of each step, (32, 3); None: none was typed.
        """
        offered, cut_titles = self._candidates(candidates, slates[0, 0] >= 0)
        room = self._room + len(_NOTHING) - len(offered)
        history, cut_steps, cut_items = self.history(slates, feedback, queries, room, instructions)
        text = self._head + (history or _NOTHING) + self._middle + offered + self._tail
        return Prompt(text, cut_steps, cut_items, cut_titles)

    def history(
        self,
        slates: npt.NDArray[np.int32],
        feedback: npt.NDArray[np.int32],
        queries: npt.NDArray[np.int32],
        room: int,
        instructions: npt.NDArray[np.int32] | None = None,
    ) -> tuple[str, int, int]:
        """Returns the steps as lines, newest first, the steps and the items that are left out."""
        if instructions is None or not len(instructions):
            instructions = np.full((len(queries), 3), -1, np.int32)
        typed = [self._typed(*step) for step in zip(queries, instructions, strict=True)]
        count = int(np.argmin(np.append(slates[:, 0], -1) >= 0))
        lines: list[str] = []
        room += 1  # no line follows the last one
        for step in range(count):
            line = self._line(slates[step], feedback[step], typed[step], False)
            if len(line) + 1 > room:
                break
            room -= len(line) + 1
            lines.append(line)
        passed_over = 0
        for step, short in enumerate(lines[:_WHOLE_STEPS]):
            whole = self._line(slates[step], feedback[step], typed[step], True)
            added = len(whole) - len(short)
            if passed_over == 0 and added <= room:
                lines[step], room = whole, room - added
            else:
                passed_over += int((feedback[step] == EMPTY).sum())
        return "\n".join(line for line in lines if line), count - len(lines), passed_over

    def _typed(self, query: int, instruction: Any) -> list[str]:
        parts = [f"? {self._phrases[query]}"] if query >= 0 else []
        if instruction[0] >= 0:
            parts.append(f"! {instruction_text(instruction.tolist(), self._phrases)}")
        return parts

    def _line(self, slate: Any, feedback: Any, typed: list[str], passed_over: bool) -> str:
        slots = zip(slate.tolist(), feedback.tolist(), strict=True)
        told = [(item, kind) for item, kind in slots if passed_over or kind != EMPTY]
        parts = [_MARKS[kind + 1] + self.titles[item] for item, kind in told]
        return " | ".join([*parts, *typed])

    def _candidates(self, candidates: npt.NDArray[np.int32], has_past: bool) -> tuple[str, int]:
        """The numbered titles, as long as they may be, and how many are shortened."""
        rows = [(j + 1, self.titles[item]) for j, item in enumerate(candidates) if item >= 0]
        fixed = sum(len(f"{number}. \n") for number, _ in rows)
        share = _CANDIDATES_SHARE if has_past else 1.0
        room = max(int(share * self._room) - fixed, _SHORTEST_TITLE * len(rows))
        width = _fair_width([len(title) for _, title in rows], room)
        lines = [f"{number}. {shortened(title, width)}" for number, title in rows]
        return "\n".join(lines), sum(len(title) > width for _, title in rows)


def one_line(text: str) -> str:
    """Returns a text as one line without control characters."""
    return " ".join("".join(c if c.isprintable() else " " for c in text).split())


def shortened(text: str, width: int) -> str:
    """Returns a text of at most `width` characters."""
    return text if len(text) <= width else text[: width - 1] + "…"


def _fair_width(lengths: Sequence[int], room: int) -> int:
    """The greatest width at which texts cut to it fit into the room together."""
    low, high = _SHORTEST_TITLE, max(lengths, default=0)
    while low < high:
        width = (low + high + 1) // 2
        fits = sum(min(length, width) for length in lengths) <= room
        low, high = (width, high) if fits else (low, width - 1)
    return max(low, _SHORTEST_TITLE)
