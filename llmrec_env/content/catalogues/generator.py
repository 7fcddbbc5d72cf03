"""Generator of the authored catalogues: subjects in wording, always the same way.

`README.md` beside this file describes how.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from importlib.resources import files
from typing import Any, NamedTuple

import numpy as np

from llmrec_env.config import ConfigError
from llmrec_env.content.catalogues import Columns

DEFAULT_ITEMS = {
    "video": 4000,
    "ecommerce": 2400,
    "finance": 2600,
    "news": 2400,
    "social": 2500,
    "support": 2800,
}
"""The authored catalogues, and the items that each comes with."""

_ITEMS_PER_FACET = 25
_MOST_FACETS = 20  # a topic
_MOST_TELLINGS = 20  # of a subject
_GOLDEN = (5**0.5 - 1) / 2
_WORDING = "wording.toml"
_COMMON = set("with what from that does when where thei your thing other their peopl".split())
"""Stems of words that say nothing of a subject."""


class Level(NamedTuple):
    """A degree of substance and the ways to word it."""

    substance: float
    share: float  # of all items
    titles: tuple[str, ...]
    sentences: tuple[str, ...]


class Subject(NamedTuple):
    """What an item is about."""

    topic: str
    facet: str
    kind: str  # of the wording that fits it
    text: str
    detail: str  # a sentence about it
    interests: tuple[str, ...]
    fitting: tuple[str, ...]  # those of them that it may be filed under
    slots: Mapping[str, Sequence[str]]  # what else wording may name, as a brand


class Item(NamedTuple):
    """A subject in one wording."""

    subject: Subject
    title: str
    sentence: str
    substance: float
    creator: str  # whom the title names; empty: nobody


def make_items(name: str, num_items: int | None = None, seed: int = 0) -> Columns:
    """Returns the items of an authored catalogue, the same for the same arguments.

    A catalogue smaller than the default one is a part of it, so that its texts come encoded too.

    Args:
        name: one of `DEFAULT_ITEMS`.
        num_items: number of items, at most `most_items(name)`; None: the default.
        seed: draws the wording and the order of the items.

    Raises:
        ConfigError: more items are asked for than can be made.
    """
    default = DEFAULT_ITEMS[name]
    num_items = default if num_items is None else num_items
    if num_items > most_items(name):
        raise ConfigError(
            f"num_items={num_items} is more than catalog={name!r} can make: "
            f"its most is {most_items(name)}; ask for fewer or bring a table of your own."
        )
    items = _items(name, max(num_items, default), seed)[:num_items]
    order = np.random.default_rng([seed, num_items]).permutation(num_items)
    items = [items[index] for index in order]
    return Columns(
        texts=[_text(item) for item in items],
        topics=[item.subject.topic for item in items],
        facets=[item.subject.facet for item in items],
        substance=[item.substance for item in items],
        titles=[item.title for item in items],
        creators=[item.creator for item in items] if items[0].creator else None,
        interests={
            (topic["topic"], facet["name"]): _interests(name, facet)
            for topic in _topics(name)
            for facet in topic["facets"]
        },
    )


@lru_cache(maxsize=8)
def most_items(name: str) -> int:
    """Returns how many items an authored catalogue can make."""
    facets = [facet for topic in _topics(name) for facet in topic["facets"][:_MOST_FACETS]]
    return _MOST_TELLINGS * sum(len(facet["subjects"]) for facet in facets)


def _items(name: str, count: int, seed: int) -> list[Item]:
    """The first items on all subjects, then the second ones, and so on."""
    rng = np.random.default_rng([seed, count, 1])
    subjects = _subjects(name, count)
    repeats = -(-count // len(subjects))
    variants = [list(_variants(name, subject, repeats, rng)) for subject in subjects]
    return [items[repeat] for repeat in range(repeats) for items in variants][:count]


def _subjects(name: str, num_items: int) -> list[Subject]:
    """Subjects in use; any first n of them spread over as many topics and facets as n allows."""
    topics = _topics(name)
    in_use = min(round(num_items / (len(topics) * _ITEMS_PER_FACET)), _MOST_FACETS)
    common = _toml(name, _WORDING).get("slots", {})
    ranked = [
        (
            rank,
            number,
            Subject(
                topic["topic"],
                facet["name"],
                topic.get("kind", ""),
                text,
                facet["details"][rank] if "details" in facet else "",
                _interests(name, facet),
                _fitting(name, facet, rank),
                common | topic.get("slots", {}),
            ),
        )
        for topic in topics
        for number, facet in enumerate(topic["facets"][:in_use])
        for rank, text in enumerate(facet["subjects"])
    ]
    return [subject for *_, subject in sorted(ranked, key=lambda entry: entry[:2])]


def _variants(name: str, subject: Subject, count: int, rng: np.random.Generator) -> Iterator[Item]:
    """Items on the subject, never two under one title.

    The golden-ratio sequence spreads even three or four of them over the levels, and gives every
    level its share over all subjects.
    """
    levels = _levels(name, subject.kind)
    ends = np.cumsum([level.share for level in levels])
    start = rng.random()
    title = [int(rng.integers(len(level.titles))) for level in levels]
    sentence = [int(rng.integers(len(level.sentences))) for level in levels]
    first = {slot: int(rng.integers(len(choices))) for slot, choices in subject.slots.items()}
    facet = _label(name, subject.facet)
    for repeat in range(count):
        position = (start + repeat * _GOLDEN) % 1.0 * ends[-1]
        number = int(np.searchsorted(ends[:-1], position, side="right"))
        level = levels[number]
        wording = level.titles[title[number] % len(level.titles)]
        ending = level.sentences[sentence[number] % len(level.sentences)]
        title[number] += 1
        sentence[number] += 1
        words = {
            slot: choices[(first[slot] + repeat) % len(choices)]
            for slot, choices in subject.slots.items()
        }
        # What has no substance speaks to all who like the field.
        interests = subject.interests if level.substance < 0 else subject.fitting
        words |= {
            "facet": facet,
            "subject": subject.text,
            "detail": subject.detail,
            "interest": interests[repeat % len(interests)],
        }
        yield Item(
            subject,
            _capitalized(wording.format(**words)),
            _capitalized(ending.format(**words)),
            level.substance,
            words.get("creator", ""),
        )


def _text(item: Item) -> str:
    stop = "" if item.title[-1] in ".?!" else "."
    return f"{item.title}{stop} {item.sentence}"


def _capitalized(text: str) -> str:
    return text[0].upper() + text[1:]


@lru_cache(maxsize=8)
def _topics(name: str) -> tuple[dict[str, Any], ...]:
    """The topics of a catalogue; a file holds one, or a list of them."""
    folder = files("llmrec_env").joinpath("content", "catalogues", name)
    names = sorted(entry.name for entry in folder.iterdir() if entry.name.endswith(".toml"))
    names.remove(_WORDING)
    contents = [_toml(name, file) for file in names]
    return tuple(topic for content in contents for topic in content.get("topics", [content]))


@lru_cache(maxsize=32)
def _levels(name: str, kind: str) -> tuple[Level, ...]:
    """The wording of every level that fits subjects of a kind."""

    def lines(level: dict[str, Any], part: str) -> tuple[str, ...]:
        return (*level[part], *level.get(kind, {}).get(part, ()))

    return tuple(
        Level(level["substance"], level["share"], lines(level, "titles"), lines(level, "sentences"))
        for level in _toml(name, _WORDING)["levels"]
    )


def _interests(name: str, facet: dict[str, Any]) -> tuple[str, ...]:
    return tuple(_label(name, interest) for interest in facet["interests"])


def _fitting(name: str, facet: dict[str, Any], rank: int) -> tuple[str, ...]:
    """The interests that a subject may be filed under.

    Where subjects have details these are the first, which is the widest, and those that share a
    word with the subject which the first does not have; in `video` all.
    """
    widest, *others = interests = _interests(name, facet)
    if "details" not in facet:
        return interests
    said = _stems(f"{facet['subjects'][rank]} {facet['details'][rank]}") - _stems(widest)
    return (widest, *(other for other in others if said & _stems(other)))


def _stems(text: str) -> set[str]:
    """Beginnings of the longer words, so that `kite` and `kites` are one."""
    return {word[:5].rstrip("s") for word in re.findall(r"\w{4,}", text.lower())} - _COMMON


@lru_cache(maxsize=8192)
def _label(name: str, label: str) -> str:
    """A facet's name or interest with the capitals that its words have in a sentence."""
    label = label.removeprefix("the ")  # so that `an insane {facet} clip` holds for every label
    pattern, written = _proper_names(name)
    return pattern.sub(lambda match: written[match[0].lower()], label)


@lru_cache(maxsize=8)
def _proper_names(name: str) -> tuple[re.Pattern[str], dict[str, str]]:
    """A pattern of the words with capitals, and how each is written, by its small letters."""
    # Longer entries first, so that "American Civil War" is not taken for "American".
    words = sorted(_toml(name, _WORDING).get("proper", ()), key=len, reverse=True)
    any_word = "|".join(map(re.escape, words)) or "(?!)"  # without words nothing matches
    pattern = rf"(?<![\w-])(?:{any_word})(?![\w-])"
    return re.compile(pattern, re.IGNORECASE), {word.lower(): word for word in words}


@lru_cache(maxsize=64)
def _toml(name: str, file: str) -> dict[str, Any]:
    path = files("llmrec_env").joinpath("content", "catalogues", name, file)
    return tomllib.loads(path.read_text(encoding="utf-8"))
