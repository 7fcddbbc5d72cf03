"""Profile of a user at one moment, in words by which a language model can judge an item.

Levels take the place of numbers: a model reads words better, and a profile stays the same text for
several steps, so that what a model said of it and an item can be kept.
"""

from __future__ import annotations

from typing import NamedTuple

PROFILE_VERSION = 1
"""Of the words below: change it with any of them."""
INTERESTED = ("A little interested in", "Fairly interested in", "Very interested in")
TIRED = ("Tired of", "Very tired of")
TRUST = {
    -2: "Often let down by clickbait of late.",
    -1: "Somewhat let down by clickbait of late.",
    0: "",
    1: "Somewhat pleased by the depth of recommendations of late.",
    2: "Very pleased by the depth of recommendations of late.",
}


class Profile(NamedTuple):
    """What decides whether an item satisfies, as far as words tell it."""

    interests: tuple[tuple[int, str], ...]
    """Level in INTERESTED and phrase, strongest first."""
    tired: tuple[tuple[int, str], ...] = ()
    """Level in TIRED and topic, most tired first."""
    trust: int = 0
    """Key of TRUST."""

    @property
    def text(self) -> str:
        """The profile as plain sentences."""
        sentences = [_listed(words, self.interests, i) for i, words in _falling(INTERESTED)]
        sentences += [_listed(words, self.tired, i) for i, words in _falling(TIRED)]
        return " ".join(sentence for sentence in (*sentences, TRUST[self.trust]) if sentence)


def _falling(words: tuple[str, ...]) -> list[tuple[int, str]]:
    return list(enumerate(words))[::-1]


def _listed(words: str, entries: tuple[tuple[int, str], ...], level: int) -> str:
    """A sentence on the entries of a level; nothing if there is none."""
    named = [f'"{text}"' for own, text in entries if own == level]
    if not named:
        return ""
    return f"{words} {' and '.join([', '.join(named[:-1]), named[-1]] if named[1:] else named)}."
