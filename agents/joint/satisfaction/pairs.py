"""Pairs of behaviour and item as texts, from logs, and their augmentation in training."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import numpy as np

from agents.dataset import Dataset
from llmrec_env.content.encoders.protocol import normalize_texts
from llmrec_env.world import PublicData

_WORD = re.compile(r"\w+(?:[-']\w+)*")
_TABLE = Path(__file__).with_name("synonyms.toml")


class Pair(NamedTuple):
    """An item that a user met, what the user had liked before, and whether the item satisfied."""

    behaviour: tuple[str, ...]
    """Texts that satisfied or were typed, newest first."""
    item: str
    satisfied: int
    """1 or 0."""
    user: int


def pairs_of(
    data: PublicData, size: int = 4, browsed: float = 0.0, ratings: bool = False, seed: int = 0
) -> list[Pair]:
    """Returns a pair for every logged click, in order of user and time.

    Args:
        data: logs, and what their ids mean.
        size: most behaviour texts of a pair; those before the click, newest first.
        browsed: how many items that were shown with it and not clicked are added to a click, as
            unsatisfied; 0.5 adds one to half of the clicks. They make `satisfied` mean "would be
            clicked and satisfy", which is rarer than to satisfy once clicked.
        ratings: take 4 and 5 as satisfied and 1 to 3 as not, of rated clicks alone.
        seed: draws the browsed items.

    Raises:
        ValueError: an argument is out of range.
    """
    if size < 1 or not 0.0 <= browsed <= data.logs.slates.shape[2] - 1:
        most = data.logs.slates.shape[2] - 1
        raise ValueError(f"size={size}, browsed={browsed}: use 1 or more, and 0 to {most}.")
    rng = np.random.default_rng([seed, 11])
    dataset, texts = Dataset.from_logs(data), data.catalog.texts
    past: dict[int, list[str]] = {row: [] for row in range(dataset.num_users)}
    pairs: list[Pair] = []
    for step, row in enumerate(dataset.users):
        liked, user = past[row], int(data.users[row])
        slate, feedback = dataset.slates[step].tolist(), dataset.feedback[step].tolist()
        others = [item for item, z in zip(slate, feedback, strict=True) if z < 0]
        for item, satisfied in zip(slate, feedback, strict=True):
            if satisfied < 0:
                continue
            behaviour = tuple(liked[: -size - 1 : -1])
            rating = int(dataset.ratings[step]) if item == dataset.items[step] else 0
            if not ratings:
                pairs.append(Pair(behaviour, texts[item], satisfied, user))
            elif rating:
                pairs.append(Pair(behaviour, texts[item], int(rating >= 4), user))
            count = int(browsed + rng.random())
            shown = rng.permutation(others)[:count].tolist()
            pairs += [Pair(behaviour, texts[other], 0, user) for other in shown]
            if satisfied:
                liked.append(texts[item])
        if dataset.queries[step] >= 0:
            liked.append(data.phrases.texts[dataset.queries[step]])
    return pairs


def check_pairs(pairs: Sequence[Pair], what: str) -> list[Pair]:
    """Returns the pairs with their texts normalised, if a classifier can learn from them.

    Args:
        pairs: `Pair`s or plain tuples of the same four parts.
        what: whose they are, for errors, which give indices and never texts.

    Raises:
        TypeError: a text is not a string.
        ValueError: a label is neither 0 nor 1, or all are the same.
    """
    checked: list[Pair] = []
    for index, (behaviour, item, satisfied, user) in enumerate(pairs):
        if satisfied not in (0, 1):
            raise ValueError(
                f"{what} pair {index}: satisfied={satisfied!r} is no label; use 0 or 1."
            )
        try:
            *texts, item = normalize_texts([*behaviour, item])
        except (TypeError, ValueError) as error:
            raise type(error)(f"{what} pair {index}, behaviour then item: {error}") from None
        checked.append(Pair(tuple(texts), item, int(satisfied), int(user)))
    positives = sum(pair.satisfied for pair in checked)
    if positives in (0, len(checked)):
        label = "satisfied" if positives else "not satisfied"
        labels = f"all {len(checked)} are labelled {label}" if checked else "there are none"
        raise ValueError(
            f"{what} pairs: {labels}. From one class a classifier learns to repeat it, and neither "
            "AUC nor calibration exists; add clicks that did not satisfy, low ratings, or items "
            "shown and not clicked (browsed=1)."
        )
    return checked


def split_pairs(
    pairs: Sequence[Pair], shares: Sequence[float] = (0.8, 0.1, 0.1), seed: int = 0
) -> list[list[Pair]]:
    """Returns the pairs in parts that share no user: train, validation and test by default.

    Raises:
        ValueError: the shares are not positive.
    """
    if not shares or min(shares) <= 0:
        raise ValueError(f"shares={tuple(shares)!r} must be positive numbers.")
    users = np.unique([pair[3] for pair in pairs])
    users = np.random.default_rng([seed, 12]).permutation(users)
    ends = np.rint(np.cumsum(shares) / np.sum(shares) * len(users)).astype(int)
    part_of = {
        int(user): int(np.searchsorted(ends, index, "right")) for index, user in enumerate(users)
    }
    parts: list[list[Pair]] = [[] for _ in shares]
    for pair in pairs:
        parts[part_of[int(pair[3])]].append(Pair(*pair))
    return parts


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

    def pair(self, pair: Pair, rng: np.random.Generator) -> Pair:
        """Returns the pair with all of its texts changed."""
        behaviour = tuple(self.behaviour(pair.behaviour, rng))
        return pair._replace(behaviour=behaviour, item=self.text(pair.item, rng))


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
