"""Sessions of a report that a reader steps through: two agents, the same user and randomness.

The page holds ids and each text once; `explorer.js` puts them together and writes them as text,
never as markup.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from experiments.report.run_results import (
    NO_INSTRUCTION,
    Session,
    Texts,
    feedback_of,
    phrases_in,
)
from llmrec_env.interface.instructions import WORDINGS


class Explorer(NamedTuple):
    """What `explorer.html` shows."""

    data: dict[str, Any] | None
    """What `explorer.js` reads; None: there is no session to show."""
    missing: Mapping[str, str]
    """By task, why its sessions are not shown."""


def explorer_data(
    sessions: Sequence[Session], texts: Mapping[str, Texts], missing: Mapping[str, str]
) -> Explorer:
    """Returns the sessions by task and user, and each text once.

    Args:
        sessions: of all tasks.
        texts: of tasks whose sessions are shown.
        missing: why the sessions of other tasks are not.
    """
    shown = [session for session in sessions if session["label"] in texts]
    if not shown:
        return Explorer(None, missing)
    titles, phrases = _UniqueTexts(), _UniqueTexts()
    tasks: dict[str, dict[str, list[dict[str, Any]]]] = {}
    for session in shown:
        own, steps = texts[session["label"]], session["steps"]
        named = phrases.indices(own.phrases, (id for step in steps for id in phrases_in(step)))
        items = titles.indices(own.items, (id for step in steps for id in step["slate"]))
        user = f"user {session['user']} of world {session['world']}"
        packed = {name: session[name] for name in ("agent", "seed", "survived")}
        packed["steps"] = [_packed(step, own, items, named) for step in steps]
        tasks.setdefault(session["label"], {}).setdefault(user, []).append(packed)
    every_step = [step for session in shown for step in session["steps"]]
    data = {
        "titles": titles.texts,
        "phrases": phrases.texts,
        "patience": max(1.0, *(step["patience"] for step in every_step)),
        "goodwill": max(0.01, *(abs(step["goodwill"]) for step in every_step)),
        "tasks": [
            {"name": task, "users": [{"name": name, "sessions": x} for name, x in users.items()]}
            for task, users in tasks.items()
        ],
    }
    return Explorer(data, missing)


class _UniqueTexts:
    """Texts in the order in which they are first asked for."""

    def __init__(self) -> None:
        self.texts: list[str] = []
        self._indices: dict[str, int] = {}

    def indices(self, texts: Sequence[str], ids: Iterable[int]) -> dict[int, int]:
        """Returns the index of the text of each id."""
        indices = {}
        for id in ids:
            indices[id] = self._indices.setdefault(texts[id], len(self.texts))
            if indices[id] == len(self.texts):
                self.texts.append(texts[id])
        return indices


def _packed(
    step: Mapping[str, Any], texts: Texts, items: Mapping[int, int], named: Mapping[int, int]
) -> list[Any]:
    """A step as a short list; the order is that of `read` in `explorer.js`."""
    total = sum(weight for _, weight in step["interests"]) or 1.0
    shares = [(named[id], round(100 * weight / total)) for id, weight in step["interests"]]
    return [
        [number for pair in shares for number in pair],
        [items[id] for id in step["slate"]],
        feedback_of(step),
        round(step["reward"], 3),
        round(step["patience"], 2),
        round(step["goodwill"], 2),
        *(_rounded(step[name]) for name in ("tracking_error", "belief_error")),
        named.get(step["query"], -1),
        [[kind, *(named[id] for id in ids)] for kind, *ids in step["events"]],
        _reasons(step, texts, named),
        _instruction(step, named),
    ]


def _instruction(step: Mapping[str, Any], named: Mapping[int, int]) -> list[Any]:
    """The wording of what was typed with {} for a phrase, and the phrase; [] if nothing was."""
    kind, about, wording = step.get("instruction", NO_INSTRUCTION)
    return [] if kind < 0 else [WORDINGS[kind][wording], named.get(about, -1)]


def _reasons(
    step: Mapping[str, Any], texts: Texts, named: Mapping[int, int]
) -> list[tuple[int, int, int]]:
    """Of each slot that was chosen the interest that speaks most for it, and 100 times its cosine.

    Most speaks the interest whose weight times its cosine with the text of the item is greatest.
    """
    ids = [id for id, _ in step["interests"]]
    weights = np.array([weight for _, weight in step["interests"]])
    reasons = []
    for slot, z in enumerate(feedback_of(step)):
        if z >= 0 and ids:
            cosines = texts.phrase_vectors[ids] @ texts.item_vectors[step["slate"][slot]]
            best = int(np.argmax(weights * cosines))
            reasons.append((slot, named[ids[best]], round(100 * float(cosines[best]))))
    return reasons


def _rounded(error: float | None) -> int | None:
    return None if error is None else round(error)
