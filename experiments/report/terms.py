"""Words of a report that its readers may not know, and what each agent is in one line."""

from __future__ import annotations

import re
from collections.abc import Iterable

from agents import AGENTS

TERMS = {
    "step": "One slate shown, the user's answer to it, and what that changed in the user.",
    "session": "The steps of one user, until the user leaves or 100 steps are over.",
    "return": "The rewards of a session added up; a step pays at most about 1, and 0 if nothing "
    "satisfied. Higher is better.",
    "world": "One drawing of items, users and their past. Agents learn anew in each, and are "
    "judged by users of it that they have not learnt from.",
    "training seed": "What chance in training is drawn from; agents that are trained with several "
    "are averaged over them.",
    "interval": "Where the value would lie in 95 of 100 repetitions with other users. If the "
    "interval of a difference holds zero, one cannot tell who is better.",
    "improvement": "By how much more the agent earns than the one above it, or the one named, "
    "with the same users and the same randomness, in percent.",
    "IQM": "Interquartile mean: the mean without the lowest and the highest quarter of sessions.",
    "normalised": "Return on a scale on which random is 0 % and the planning oracle 100 %.",
    "survival": "Share of the users who stayed to the end of the session.",
    "oracle": "An agent that reads what users hide. No competitor, but a bound: how much there was "
    "to earn.",
    "belief oracle": "Knows how the simulation works, and of a user only what anybody sees: about "
    "the most that can be earned without reading minds.",
    "drift": "Interests change: by themselves, and because of what is shown.",
    "tracking error": "Angle between what users are into and what is believed of it: 0° is known "
    "exactly, 90° is nothing.",
}
"""By the words as texts and columns have them."""
_LINK = re.compile(r":? ?\[[^\]]*\]\([^)]*\)")


def meaning_of(column: str) -> str:
    """Returns what the words in the head of a column mean; nothing where none of them is a term."""
    own = column.lower()
    return " ".join(text for term, text in TERMS.items() if own.startswith(term.lower()))


def described(agents: Iterable[str]) -> dict[str, str]:
    """Returns what each agent does, by its name; those not in the registry are left out."""
    known = [name for name in agents if name in AGENTS]
    return {name: _LINK.sub("", AGENTS[name].summary).replace("`", "") for name in known}
