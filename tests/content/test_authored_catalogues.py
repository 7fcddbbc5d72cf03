"""The authored catalogues beside `video`: their texts, and worlds made of them."""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from functools import lru_cache
from itertools import chain

import numpy as np
import pytest

import llmrec_env
from llmrec_env.content.catalog import Catalog, catalog_of
from llmrec_env.content.catalogues import Columns, generator

NAMES = tuple(name for name in generator.DEFAULT_ITEMS if name != "video")
MARKS = {  # what every text of the domain shows
    "ecommerce": r"price|[A-Z]{4}|!",
    "finance": r"[a-z]",
    "news": r"[a-z]",
    "social": r"^@\w+.*#\w+",
    "support": r"[?!]",
}


@lru_cache
def items(name: str, num_items: int | None = None) -> Columns:
    return generator.make_items(name, num_items)


@pytest.fixture(scope="module", params=NAMES)
def name(request: pytest.FixtureRequest) -> str:
    return request.param


def topics(name: str) -> list[dict]:
    return list(generator._topics(name))


def facets(name: str) -> list[dict]:
    return [facet for topic in topics(name) for facet in topic["facets"]]


def test_there_are_enough_topics_facets_and_texts(name: str):
    catalog = catalog_of(name, items(name))
    assert len(catalog) == len(set(catalog.texts)) == generator.DEFAULT_ITEMS[name] >= 2000
    assert len(catalog.topic_names) == len(topics(name)) >= 24
    assert min(Counter(topic["topic"] for topic in topics(name)).values()) == 1
    assert all(len(topic["facets"]) >= 4 for topic in topics(name))
    assert set(np.bincount(catalog.facets)) == {25}


def test_every_subject_has_its_own_detail_and_no_phrase_is_written_twice(name: str):
    for facet in facets(name):
        assert len(facet["subjects"]) == len(facet["details"]) == 8, facet["name"]
        assert len(facet["interests"]) == 3, facet["name"]
        assert all(detail[-1] in ".?" for detail in facet["details"]), facet["name"]
    for key in ("interests", "subjects"):
        counts = Counter(chain.from_iterable(facet[key] for facet in facets(name)))
        assert [text for text, count in counts.items() if count > 1] == []


def test_texts_of_the_largest_catalogue_are_distinct_and_readable(name: str):
    texts = items(name, generator.most_items(name)).texts
    assert len(set(texts)) == len(texts) == generator.most_items(name)
    words = [len(text.split()) for text in texts]
    assert 9 <= min(words) and max(words) <= 45 and 20 <= np.mean(words) <= 28
    for text in texts:
        assert not re.search(
            r"[{}\n]|  |\.\.|\bthe the\b| ,|\?\.|!\.|\b[Aa] [aeio](?!ne-)\w", text
        ), text
        assert not text[0].islower(), text
        assert re.search(MARKS[name], text), text


def test_all_wording_says_what_an_item_is_about(name: str):
    kinds = {topic.get("kind", "") for topic in topics(name)}
    for kind in kinds:
        levels = generator._levels(name, kind)
        assert [level.substance for level in levels] == [-1.0, -0.5, 0.0, 0.5, 1.0]
        assert sum(level.share for level in levels) == pytest.approx(1.0)
        for level in levels:
            assert len(set(level.titles)) == len(level.titles) >= 20 * level.share
            assert len(set(level.sentences)) == len(level.sentences) >= 4
            assert all("{subject}" in title for title in level.titles)
            assert all("{interest}" in sentence for sentence in level.sentences)
            # Clickbait and small talk tell no detail; what has substance does.
            told = ["{detail}" in sentence for sentence in level.sentences]
            assert all(told) if level.substance >= 0 else not any(told)


def test_wording_for_a_kind_is_used_by_a_topic_of_that_kind(name: str):
    kinds = {topic.get("kind") for topic in topics(name)} | {None}
    plain = {"substance", "share", "titles", "sentences"}
    for level in generator._toml(name, "wording.toml")["levels"]:
        assert set(level) - plain <= kinds


def test_no_topic_of_grief_or_war_is_laughed_at():
    jokes = re.compile("silly|memes|giggle|just for fun", re.IGNORECASE)
    for name, kind in (("news", "hard"), ("social", "tender")):
        for level in generator._levels(name, kind):
            assert not [line for line in (*level.titles, *level.sentences) if jokes.search(line)]


def test_levels_keep_their_shares_and_subjects_their_range(name: str):
    substance = items(name).substance
    assert substance is not None
    for level in generator._levels(name, ""):
        share = np.mean(np.array(substance) == level.substance)
        assert share == pytest.approx(level.share, abs=0.02)


@pytest.mark.parametrize(
    ("subject", "interests"),
    [
        ("inflatable tent for six", ["tents for camping and trekking"]),
        ("stunt kite", ["outdoor toys and learning kits", "balance bikes, kites and swings"]),
    ],
)
def test_an_item_is_filed_under_the_widest_phrase_and_those_that_fit(subject, interests):
    subjects = generator._subjects("ecommerce", 2400)
    assert [list(s.fitting) for s in subjects if s.text == subject] == [interests]


def test_every_phrase_stands_in_some_text(name: str):
    columns = items(name)
    assert columns.interests is not None
    everything = " ".join(columns.texts).lower()
    said = [text.lower() in everything for texts in columns.interests.values() for text in texts]
    assert np.mean(said) > 0.95


def test_the_same_arguments_give_the_same_texts_in_every_process(run_python):
    code = (
        "import hashlib; from llmrec_env.content.catalogues.generator import make_items; "
        "print(hashlib.sha256(chr(10).join(make_items('social').texts).encode()).hexdigest())"
    )
    here = hashlib.sha256("\n".join(items("social").texts).encode()).hexdigest()
    assert run_python(code, PYTHONHASHSEED="1") == here
    assert generator.make_items("social", seed=1).texts != items("social").texts


def test_a_small_catalogue_is_a_part_of_the_default_one(name: str):
    catalog = Catalog.load(name, 200)
    assert set(catalog.texts) < set(items(name).texts)
    assert len(catalog.topic_names) == len(topics(name))


def test_every_domain_has_a_task(name: str):
    task = llmrec_env.TASKS[f"llmrec/{name.capitalize()}-v1"]
    assert task["catalog"] == name and len(task) > 1
