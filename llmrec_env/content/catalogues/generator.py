"""Video catalogue generator: authored subjects in authored wording, always the same way.

`README.md` beside this file describes how.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator
from functools import lru_cache
from importlib.resources import files
from typing import Any, NamedTuple

import numpy as np

from llmrec_env.config import ConfigError
from llmrec_env.content.catalogues import Columns

DEFAULT_ITEMS = 4000
MAX_ITEMS = 102_400  # 32 topics x 20 facets x 8 subjects, each in 20 wordings

_ITEMS_PER_FACET = 25
_MOST_FACETS = 20  # a topic
_GOLDEN = (5**0.5 - 1) / 2


class Level(NamedTuple):
    """A degree of substance and the ways to word it."""

    substance: float
    share: float  # of all items
    titles: tuple[str, ...]
    sentences: tuple[str, ...]


class Subject(NamedTuple):
    """What a video is about."""

    topic: str
    facet: str
    text: str
    interests: tuple[str, ...]


class Video(NamedTuple):
    """A subject in one wording."""

    subject: Subject
    title: str
    sentence: str
    substance: float


def make_videos(num_items: int, seed: int = 0) -> Columns:
    """Returns the items of the video catalogue, the same for the same arguments.

    A catalogue smaller than the default one is a part of it, so that its texts come encoded too.

    Args:
        num_items: number of items, at most `MAX_ITEMS`.
        seed: draws the wording and the order of the items.

    Raises:
        ConfigError: more items are asked for than can be made.
    """
    if num_items > MAX_ITEMS:
        raise ConfigError(
            f"num_items={num_items} is more than catalog='video' can make: "
            f"its most is {MAX_ITEMS}; ask for fewer or bring a table of your own."
        )
    videos = _videos(max(num_items, DEFAULT_ITEMS), seed)[:num_items]
    order = np.random.default_rng([seed, num_items]).permutation(num_items)
    videos = [videos[index] for index in order]
    return Columns(
        texts=[_text(video) for video in videos],
        topics=[video.subject.topic for video in videos],
        facets=[video.subject.facet for video in videos],
        substance=[video.substance for video in videos],
        titles=[video.title for video in videos],
        interests=_interests(),
    )


def _videos(count: int, seed: int) -> list[Video]:
    """The first videos on all subjects, then the second ones, and so on."""
    rng = np.random.default_rng([seed, count, 1])
    subjects, levels = _subjects(count), _wording()
    repeats = -(-count // len(subjects))
    variants = [list(_variants(subject, repeats, levels, rng)) for subject in subjects]
    return [videos[repeat] for repeat in range(repeats) for videos in variants][:count]


def _subjects(num_items: int) -> list[Subject]:
    """Subjects in use; any first n of them spread over as many topics and facets as n allows."""
    topics = _topics()
    in_use = min(round(num_items / (len(topics) * _ITEMS_PER_FACET)), _MOST_FACETS)
    ranked = [
        (
            rank,
            number,
            Subject(topic["topic"], facet["name"], text, tuple(map(_label, facet["interests"]))),
        )
        for topic in topics
        for number, facet in enumerate(topic["facets"][:in_use])
        for rank, text in enumerate(facet["subjects"])
    ]
    return [subject for *_, subject in sorted(ranked, key=lambda entry: entry[:2])]


def _variants(
    subject: Subject, count: int, levels: tuple[Level, ...], rng: np.random.Generator
) -> Iterator[Video]:
    """Videos on the subject, never two under one title.

    The golden-ratio sequence spreads even three or four of them over the levels, and gives every
    level its share over all subjects.
    """
    ends = np.cumsum([level.share for level in levels])
    start = rng.random()
    title = [int(rng.integers(len(level.titles))) for level in levels]
    sentence = [int(rng.integers(len(level.sentences))) for level in levels]
    for repeat in range(count):
        position = (start + repeat * _GOLDEN) % 1.0 * ends[-1]
        number = int(np.searchsorted(ends[:-1], position, side="right"))
        level = levels[number]
        wording = level.titles[title[number] % len(level.titles)]
        ending = level.sentences[sentence[number] % len(level.sentences)]
        title[number] += 1
        sentence[number] += 1
        interest = subject.interests[repeat % len(subject.interests)]
        yield Video(
            subject,
            _capitalized(wording.format(facet=_label(subject.facet), subject=subject.text)),
            _capitalized(ending.format(interest=interest)),
            level.substance,
        )


def _text(video: Video) -> str:
    stop = "" if video.title[-1] in ".?!" else "."
    return f"{video.title}{stop} {video.sentence}"


def _capitalized(text: str) -> str:
    return text[0].upper() + text[1:]


@lru_cache(maxsize=1)
def _topics() -> tuple[dict[str, Any], ...]:
    folder = files("llmrec_env").joinpath("content", "catalogues", "video")
    names = sorted(entry.name for entry in folder.iterdir() if entry.name.endswith(".toml"))
    names.remove("wording.toml")
    return tuple(_toml(name) for name in names)


@lru_cache(maxsize=1)
def _wording() -> tuple[Level, ...]:
    return tuple(
        Level(level["substance"], level["share"], tuple(level["titles"]), tuple(level["sentences"]))
        for level in _toml("wording.toml")["levels"]
    )


def _interests() -> dict[tuple[str, str], tuple[str, ...]]:
    return {
        (topic["topic"], facet["name"]): tuple(map(_label, facet["interests"]))
        for topic in _topics()
        for facet in topic["facets"]
    }


@lru_cache(maxsize=4096)
def _label(name: str) -> str:
    """A facet's name or interest with the capitals that its words have in a sentence."""
    name = name.removeprefix("the ")  # so that `an insane {facet} clip` holds for every label
    pattern, written = _proper_names()
    return pattern.sub(lambda match: written[match[0].lower()], name)


@lru_cache(maxsize=1)
def _proper_names() -> tuple[re.Pattern[str], dict[str, str]]:
    """A pattern of the words with capitals, and how each is written, by its small letters."""
    # Longer entries first, so that "American Civil War" is not taken for "American".
    words = sorted(_toml("wording.toml")["proper"], key=len, reverse=True)
    pattern = rf"(?<![\w-])(?:{'|'.join(map(re.escape, words))})(?![\w-])"
    return re.compile(pattern, re.IGNORECASE), {word.lower(): word for word in words}


@lru_cache(maxsize=64)
def _toml(name: str) -> dict[str, Any]:
    path = files("llmrec_env").joinpath("content", "catalogues", "video", name)
    return tomllib.loads(path.read_text(encoding="utf-8"))
