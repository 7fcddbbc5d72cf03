"""Text augmentation: dropped words, synonyms and another order of a user's texts."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np

_WORD = re.compile(r"\w+(?:[-']\w+)*")
_TABLE = Path(__file__).with_name("synonyms.toml")


@dataclass(frozen=True)
class Augmentation:
    """Word dropout, synonyms and another order of a user's texts, each with its probability.

    What comes out depends on the texts and the generator alone. Grammar may suffer: an article
    does not follow the word behind it.
    """

    dropout: float = 0.1
    """Probability that a word is left out; a text keeps at least one."""
    synonym: float = 0.1
    """Probability that a word of the table is replaced."""
    shuffle: float = 0.5
    """Probability that a user's behaviour texts come in a random order."""

    def __post_init__(self) -> None:
        """Raises ValueError for what is not a probability."""
        for name in ("dropout", "synonym", "shuffle"):
            value = getattr(self, name)
            if not 0.0 <= value <= 1.0:
                raise ValueError(f"{name}={value!r} is out of range; allowed: 0.0 to 1.0.")

    def text(self, text: str, rng: np.random.Generator) -> str:
        """Returns the text with words left out and replaced."""
        words = list(_WORD.finditer(text))
        if not words:
            return text
        remains = rng.random(len(words)) >= self.dropout
        replaced = rng.random(len(words)) < self.synonym
        choice = rng.random(len(words))
        remains[rng.integers(len(words))] = True
        parts, end = [], 0
        for index, word in enumerate(words):
            parts.append(text[end : word.start()])
            end = word.end()
            if remains[index]:
                parts.append(_synonym(word[0], choice[index]) if replaced[index] else word[0])
        return re.sub(r"\s+", " ", "".join([*parts, text[end:]])).strip()

    def behaviour(self, texts: Sequence[str], rng: np.random.Generator) -> list[str]:
        """Returns a user's texts, newest first, each changed, and perhaps in another order."""
        changed = [self.text(text, rng) for text in texts]
        if rng.random() < self.shuffle:
            changed = [changed[index] for index in rng.permutation(len(changed))]
        return changed


NONE = Augmentation(dropout=0.0, synonym=0.0, shuffle=0.0)
"""Leaves words and order as they are."""


@lru_cache(maxsize=1)
def synonyms() -> Mapping[str, list[str]]:
    """Returns the bundled table: a word in lower case, and what can stand in its place."""
    return tomllib.loads(_TABLE.read_text(encoding="utf-8"))


def _synonym(word: str, choice: float) -> str:
    """A synonym in the capitals of the word, or the word where the table has none."""
    others = synonyms().get(word.lower())
    if not others:
        return word
    other = others[int(choice * len(others))]
    if word.isupper() and len(word) > 1:
        return other.upper()
    return other[0].upper() + other[1:] if word[0].isupper() else other
