"""A world of own items and logs: messy tables in, an environment out."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest

from llmrec_env.config import ConfigError, EnvConfig
from llmrec_env.content.catalog import Catalog
from llmrec_env.content.catalogues import CatalogError
from llmrec_env.datasets import RecordsError, load_records, make_world
from llmrec_env.saved_world import MANIFEST, SavedWorldError
from llmrec_env.world import SubstanceWarning, load_world

SECRET = "anna-secret"
"""Stands in every damaged row: no message, report or saved file may repeat it."""

SHELVES = {
    "tea": "green white smoky rolled spiced roasted leaf pot whisk cup".split(),
    "bikes": "tyre chain saddle frame light brake pedal spoke bell rack".split(),
    "garden": "seed shears compost barrel lavender hotel spade hose trellis mulch".split(),
    "games": "island train bluff tower clock tile dice card puzzle meeple".split(),
}
RENAME = {
    "productId": "item",
    "description": "text",
    "shelf": "topic",
    "userId": "user",
    "stars": "value",
    "when": "timestamp",
}


def item_rows(count: int = 120) -> list[tuple[str, str, str]]:
    rng = np.random.default_rng(0)
    kinds = [*SHELVES]
    rows = []
    for i in range(count):
        words = rng.choice(SHELVES[kinds[i % 4]], 3, replace=False)
        rows.append((f"p{i}", f"A {' '.join(words)} for {kinds[i % 4]}, article {i}", kinds[i % 4]))
    return rows


def log_rows(items: list[tuple[str, str, str]], users: int = 40) -> list[tuple[Any, ...]]:
    rng = np.random.default_rng(1)
    rows = []
    for user in range(users):
        for k in range(15):
            liked = rng.random() < 0.7
            pool = [i for i, row in enumerate(items) if not liked or row[2] == "tea"]
            item = int(pool[int(len(pool) * rng.random() ** 2)])
            rows.append((f"{SECRET} {user}", items[item][0], 5 if liked else 2, 1_700_000_000 + k))
    return rows


def write_messy(folder: Path) -> tuple[Path, Path]:
    """Two tables as people have them: BOM, semicolons, tabs, gzip, and broken rows."""
    items = item_rows()
    lines = ["productId;description;shelf", *(";".join(row) for row in items)]
    lines[5:5] = [f"q1;{items[0][1]};tea", "q2;;tea", f"q3;{SECRET}", f'q4;"{SECRET}"x;tea']
    lines += [f"q5;{SECRET}{'x' * 10_001};tea", f"p7;{SECRET} again;tea"]
    (folder / "items.csv").write_bytes(b"\xef\xbb\xbf" + "\r\n".join(lines).encode())
    logs = ["userId\tproductId\tstars\twhen"]
    logs += ["\t".join(map(str, row)) for row in log_rows(items)]
    logs[9:9] = [f"{SECRET}\tnone\t4\t1700000000", f"{SECRET}\tp1\tmany\t1700000000"]
    logs[9:9] = ["\tp1\t4\t1700000000", f"{SECRET}\tp1\t4\tsoon", f"{SECRET}\tp1\t9\t1700000000"]
    logs += [logs[-1], f"{SECRET} 0\tq1\t4\t1700000000"]
    (folder / "logs.tsv.gz").write_bytes(gzip.compress("\n".join(logs).encode()))
    return folder / "items.csv", folder / "logs.tsv.gz"


@pytest.fixture(scope="module")
def messy(tmp_path_factory: pytest.TempPathFactory) -> Any:
    folder = tmp_path_factory.mktemp("messy")
    items, logs = write_messy(folder)
    return make_world(
        items,
        logs,
        output=folder / "w",
        rename=RENAME,
        on_error="drop",
        encoder="hashing",
    )


def frames() -> tuple[Any, Any]:
    pandas = pytest.importorskip("pandas")
    items = pandas.DataFrame(item_rows(), columns=["item", "text", "topic"])
    logs = pandas.DataFrame(log_rows(item_rows()), columns=["user", "item", "value", "timestamp"])
    return items, logs


def test_every_row_is_kept_or_told_of(messy: Any):
    said = "\n".join(messy.report)
    assert "items.csv: 120 items of 126 rows" in said
    for problem in (
        "1 x the text is that of line 2; delete one of the two rows (line 6)",
        "1 x the text is missing or empty; write one, or delete the row (line 7)",
        "1 x 2 fields where the header has 3",
        "close every quote",
        "characters; shorten it to 10000",
        "1 x the item is that of line 13; delete one of the two rows (line 127)",
        "logs.tsv.gz: 601 of 607 records, 40 users",
        "1 x no user; write one, or delete the row (line 10)",
        "1 x no time that is a number",
        "2 x a rating whose value is no number from 1 to 5",
        "1 x an item that is not among the items; add it to them (line 13)",
        "1 x duplicate",
        "no column of events: each record is a rating",
        "no goodwill and no lure of clickbait: substance has 0 labels",
    ):
        assert problem in said, problem


def test_no_name_of_a_user_and_no_damaged_cell_is_kept(messy: Any):
    for file in messy.path.iterdir():
        assert SECRET.encode() not in file.read_bytes(), file.name
    assert SECRET not in str(messy)


def test_all_problems_are_one_error_each_file(tmp_path: Path):
    items, logs = write_messy(tmp_path)
    how: dict[str, Any] = {"output": tmp_path / "w", "rename": RENAME, "encoder": "hashing"}
    with pytest.raises(CatalogError) as error:
        make_world(items, logs, **how)
    assert str(error.value).count("\n  1 x ") == 6 and "--on-error drop" in str(error.value)
    assert SECRET not in str(error.value)
    clean = tmp_path / "clean.jsonl"
    names = ("productId", "description", "shelf")
    rows = [json.dumps(dict(zip(names, row, strict=True))) for row in item_rows()]
    clean.write_text("\n".join(rows))
    with pytest.raises(RecordsError) as error:
        make_world(clean, logs, **how)
    head, *kinds, hint = str(error.value).splitlines()
    assert head.endswith("logs.tsv.gz: 6 rows cannot be used:") and len(kinds) == 4
    assert "2 x an item that is not among the items" in str(error.value)  # q1 is none any more
    assert "on_error='drop'" in hint and SECRET not in str(error.value)
    assert not (tmp_path / "w").exists()


def test_the_environment_is_that_of_the_items_and_the_estimates(messy: Any):
    env = gymnasium.make("llmrec/Drift-v1", catalog=str(messy.path))
    config = env.unwrapped.config  # type: ignore[attr-defined]
    for name, value in messy.parameters.items():
        assert getattr(config, name) == value, name
    assert config.num_users == 40 and config.encoder == "hashing"
    observation, _ = env.reset(seed=0)
    for _ in range(5):
        observation, reward, *_ = env.step(env.action_space.sample())
        assert env.observation_space.contains(observation) and np.isfinite(reward)
    world = load_world(config)
    assert len(world.catalog) == 120
    assert not world.traits["substance"].any() and not world.items.substance.any()
    shares = dict(zip(world.catalog.topic_names, world.catalog.topic_share, strict=True))
    assert max(shares, key=lambda topic: shares[topic]) == "tea"
    counts = np.bincount(load_records(messy.path).item, minlength=120)
    assert np.corrcoef(world.traits["quality"], np.log1p(counts))[0, 1] > 0.9
    public = world.public().catalog
    assert public.quality is public.topic_share is public.substance is None


def test_a_field_of_ones_own_wins_over_the_saved_one(messy: Any):
    config = EnvConfig.from_kwargs({"catalog": str(messy.path), "horizon": 5, "dim": 16})
    assert (config.horizon, config.dim) == (5, 16)
    assert load_world(config).items.vectors.shape == (120, 16)
    with pytest.raises(ConfigError, match=r"num_items=30, but the saved world .* has 120"):
        Catalog.load(messy.path, num_items=30)


def test_saved_logs_are_read_back(messy: Any):
    records = load_records(messy.path)
    assert len(records) == 601 and len(records.item_ids) == 120
    assert records.item_ids[3] == "p3" and records.item_texts == Catalog.load(messy.path).texts
    assert set(records.user_ids) <= set(map(str, range(41)))
    assert records.item[-1] in range(120) and records.timestamp is not None


def test_the_same_tables_make_the_same_files(messy: Any, tmp_path: Path):
    again = make_world(
        *write_messy(tmp_path),
        output=tmp_path / "w",
        rename=RENAME,
        on_error="drop",
        encoder="hashing",
    )
    assert again.parameters == messy.parameters
    for file in messy.path.iterdir():
        assert (again.path / file.name).read_bytes() == file.read_bytes(), file.name


def test_data_frames_and_parquet_are_tables(tmp_path: Path):
    items, logs = frames()
    one = make_world(items, logs, output=tmp_path / "frames", encoder="hashing")
    assert one.report[0] == "DataFrame: 120 items of 120 rows"
    pytest.importorskip("pyarrow")
    items.to_parquet(tmp_path / "items.parquet")
    logs.to_parquet(tmp_path / "logs.parquet")
    tables = tmp_path / "items.parquet", tmp_path / "logs.parquet"
    two = make_world(*tables, output=tmp_path / "parquet", encoder="hashing")
    for name in ("items.csv", "logs.npz", "phrases.csv", "topics.csv"):
        assert (one.path / name).read_bytes() == (two.path / name).read_bytes()


def test_a_labelled_part_trains_the_probe(tmp_path: Path):
    pandas = pytest.importorskip("pandas")
    items = [
        (f"{text}, {'careful' if i % 2 else 'shocking'}")
        for i, (_, text, _) in enumerate(item_rows())
    ]
    labels = [(1.0 if i % 2 else -1.0) if i < 80 else None for i in range(120)]
    frame = pandas.DataFrame({"text": items, "substance": labels})
    made = make_world(frame, output=tmp_path / "w", encoder="hashing")
    assert "substance: 80 labels train a probe" in "\n".join(made.report)
    catalog = Catalog.load(made.path)
    assert catalog.substance is not None and catalog.probe is not None
    assert catalog.substance[:80].tolist() == labels[:80]
    sign = np.where(np.arange(120) % 2, 1, -1)
    assert (np.sign(catalog.substance[80:]) == sign[80:]).mean() > 0.9
    world = load_world(EnvConfig.from_kwargs({"catalog": str(made.path), "num_users": 20}))
    assert np.corrcoef(world.items.substance, sign)[0, 1] > 0.8
    few = frame.assign(substance=[*labels[:19], *[None] * 101])
    made = make_world(few, output=tmp_path / "few", encoder="hashing")
    assert "substance has 19 labels, at least 20" in "\n".join(made.report)


def test_a_table_without_labels_says_that_goodwill_is_off(tmp_path: Path):
    path = tmp_path / "items.csv"
    path.write_text("\n".join(["text", *(f'"{text}"' for _, text, _ in item_rows())]))
    fields: dict[str, Any] = {
        "catalog": str(path),
        "encoder": "hashing",
        "dim": 16,
        "num_users": 20,
    }
    fields |= {"horizon": 10, "candidates": 20, "impression_cap": 2, "warmup_slates": 5}
    with pytest.warns(SubstanceWarning, match="goodwill and the lure of clickbait are off"):
        world = load_world(EnvConfig(**fields))
    assert not world.traits["substance"].any()
    load_world(EnvConfig(**fields, off=("goodwill",)))  # says nothing


@pytest.mark.parametrize("count", [20, 21, 35, 60, 150])
@pytest.mark.parametrize("task", ["llmrec/Drift-v1", "llmrec/Item-v1"])
def test_small_catalogues_work(tmp_path: Path, count: int, task: str):
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame({"text": [text for _, text, _ in item_rows(count)]})
    made = make_world(frame, output=tmp_path / "w", encoder="hashing")
    changes = {"warmup_slates": 2} if task == "llmrec/Item-v1" else {}
    env = gymnasium.make(task, catalog=str(made.path), num_users=20, **changes)
    env.reset(seed=0)
    ended = False
    while not ended:
        observation, _, terminated, truncated, _ = env.step(env.action_space.sample())
        ended = terminated or truncated
    assert env.observation_space.contains(observation)


def test_the_least_number_of_items_is_told(tmp_path: Path):
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame({"text": [text for _, text, _ in item_rows(19)] + [""]})
    how: dict[str, Any] = {"output": tmp_path / "w", "encoder": "hashing"}
    with pytest.raises(
        CatalogError, match=r"19 items; a world needs 20; add items\.\n  left out: 1 x"
    ):
        make_world(frame, on_error="drop", **how)
    alike = pandas.DataFrame({"text": [f"{'tea ' * k}".strip() for k in range(1, 26)]})
    with pytest.raises(CatalogError, match=r"differ in . directions only"):
        make_world(alike, **how)
    assert list(tmp_path.iterdir()) == []


LANGUAGES = {
    "ru": ["чайник", "заварка", "велосипед", "цепь", "грядка", "лопата", "игра", "кубик"],
    "zh": ["绿茶", "茶壶", "自行车", "车灯", "花园", "种子", "棋盘", "骰子"],
    "hi": ["चायदानी", "हरी", "साइकिल", "घंटी", "बगीचा", "बीज", "खेल", "पासा"],
    "ar": ["شاي", "إبريق", "دراجة", "سلسلة", "حديقة", "بذور", "لعبة", "نرد"],
    "th": ["ชาเขียว", "กาน้ำ", "จักรยาน", "กระดิ่ง", "สวน", "เมล็ด", "เกม", "ลูกเต๋า"],
}


@pytest.mark.parametrize("language", LANGUAGES)
def test_items_of_any_script_get_topics_named_by_their_own_words(tmp_path: Path, language: str):
    words, rng = LANGUAGES[language], np.random.default_rng(0)
    gap = "" if language in ("zh", "th") else " "
    rows = []
    for i in range(80):
        pair = words[2 * (i % 4) : 2 * (i % 4) + 2]
        rows.append(gap.join(rng.permutation([*pair, *rng.choice(words, 1)])) + f" {i}")
    path = tmp_path / "items.jsonl"
    path.write_text("\n".join(json.dumps({"text": row}) for row in rows), "utf-8")
    made = make_world(path, output=tmp_path / "w", encoder="hashing")
    catalog = Catalog.load(made.path)
    for name in catalog.topic_names:
        assert any(part in text for part in name.split(", ") for text in rows)
        assert not any(letter.isascii() and letter.isalpha() for letter in name)
    gymnasium.make("llmrec/Drift-v1", catalog=str(made.path), num_users=20).reset(seed=0)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"rename": {"userID": "user"}}, "no table has a column 'userID'. Did you mean 'user'"),
        ({"rename": {"item": "itm"}}, "role in rename item= 'itm'. Did you mean 'item'"),
        ({"rename": {"text": "title", "topic": "title"}}, "two columns of one table"),
        ({"on_error": "skip"}, "Unknown on_error 'skip'. .*Allowed: drop, raise"),
        ({"time_unit": "min"}, "Unknown time_unit"),
        ({"delimiter": ", "}, "delimiter=', ' is not one character"),
        ({"rating_range": (5, 1)}, r"rating_range=\(5, 1\) is no range"),
        ({"encoder": "hash"}, "hashing"),
    ],
)
def test_arguments_out_of_range_are_refused(tmp_path: Path, wrong: dict[str, Any], message: str):
    how = {"output": tmp_path / "w", "encoder": "hashing"} | wrong
    with pytest.raises(ValueError, match=message):
        make_world(*frames(), **how)
    assert list(tmp_path.iterdir()) == []


def test_an_unknown_argument_is_refused(tmp_path: Path):
    with pytest.raises(TypeError, match="unexpected keyword argument 'on_eror'"):
        make_world(*frames(), output=tmp_path / "w", on_eror="drop")


def test_nothing_is_read_for_a_folder_that_is_taken(tmp_path: Path):
    (tmp_path / "w").mkdir()
    (tmp_path / "w" / "notes.txt").write_text("x")
    with pytest.raises(SavedWorldError, match="there is something of that name"):
        make_world(tmp_path / "none.csv", output=tmp_path / "w")


def test_queries_are_counted_and_not_kept(tmp_path: Path):
    items, logs = frames()
    logs = logs.assign(event=["query" if i % 10 == 0 else "rating" for i in range(len(logs))])
    made = make_world(items, logs, output=tmp_path / "w", encoder="hashing")
    assert "left out: 60 x query: what users typed is not kept" in "\n".join(made.report)
    with pytest.raises(RecordsError, match="no record is left"):
        make_world(items, logs.assign(event="query"), output=tmp_path / "v", encoder="hashing")


def test_items_of_one_title_and_facets_of_one_phrase_are_saved(tmp_path: Path):
    pandas = pytest.importorskip("pandas")
    texts = [f"{'abc'[i % 3]} {i}" for i in range(160)]  # no word is long enough to name a facet
    frame = pandas.DataFrame({"text": texts, "title": "Same", "topic": "all"})
    with pytest.raises(CatalogError, match="make one interest phrase only"):
        make_world(frame, output=tmp_path / "w", encoder="hashing")
    frame["topic"] = ["one", "two"] * 80
    made = make_world(frame, output=tmp_path / "w", encoder="hashing")
    catalog = Catalog.load(made.path)
    assert catalog.interests is not None and () in catalog.interests
    assert sum(map(len, catalog.interests)) > 0


def test_a_world_without_logs_has_none(tmp_path: Path):
    made = make_world(frames()[0], output=tmp_path / "w", encoder="hashing")
    assert "num_users" not in made.parameters
    with pytest.raises(RecordsError, match="made without logs"):
        load_records(made.path)
    assert sorted(file.name for file in made.path.iterdir()) == [
        "items.csv",
        "phrases.csv",
        MANIFEST,
    ]


def test_item_vectors_are_saved_with_the_world(tmp_path: Path):
    items, logs = write_messy(tmp_path)
    rows = np.random.default_rng(2).normal(size=(126, 5)).astype(np.float32)  # bad rows included
    np.save(tmp_path / "covers.npy", rows)
    how: dict[str, Any] = {"rename": RENAME, "on_error": "drop", "encoder": "hashing"}
    made = make_world(
        items, logs, output=tmp_path / "w", item_vectors=tmp_path / "covers.npy", **how
    )
    assert "covers.npy: vectors of 5 numbers for 120 items" in made.report
    kept = Catalog.load(str(made.path)).item_vectors
    np.testing.assert_array_equal(kept, np.delete(rows, [4, 5, 6, 7, 124, 125], axis=0))
    (tmp_path / "covers.npy").unlink()  # the folder has all that it needs
    worlds = [
        load_world(EnvConfig.from_kwargs({"catalog": str(made.path), "fusion": fusion}))
        for fusion in ("concatenation", "text-alone")
    ]
    assert not np.array_equal(worlds[0].items.vectors, worlds[1].items.vectors)
    np.testing.assert_array_equal(worlds[0].text_vectors, worlds[1].items.vectors)


def test_item_vectors_by_id_are_left_out_and_counted_or_refused(tmp_path: Path):
    items = tmp_path / "items.csv"
    items.write_text(
        "\n".join(
            [
                "item,text,topic",
                *(",".join(row[:1]) + f',"{row[1]}",{row[2]}' for row in item_rows()),
            ]
        )
    )
    ids = np.array([*(f"p{i}" for i in range(100)), SECRET])
    np.savez(tmp_path / "covers.npz", ids=ids, vectors=np.eye(101, 8) + np.eye(101, 3, -4).sum())
    how: dict[str, Any] = {"item_vectors": tmp_path / "covers.npz", "encoder": "hashing"}
    with pytest.raises(CatalogError, match="row 100: an id that no item has") as error:
        make_world(items, output=tmp_path / "w", **how)
    assert SECRET not in str(error.value) and not (tmp_path / "w").exists()
    made = make_world(items, output=tmp_path / "w", on_error="drop", **how)
    said = "\n".join(made.report)
    assert "covers.npz: vectors of 8 numbers for 100 items; 20 are read by their texts" in said
    assert "left out: 1 x an id that no item has; correct it, or leave it out (row 100)" in said


def test_an_item_graph_is_saved_as_numbers_or_refused_with_its_lines(tmp_path: Path):
    items = tmp_path / "items.csv"
    rows = [f'{name},"{text}",{topic}' for name, text, topic in item_rows()]
    items.write_text("\n".join(["item,text,topic", *rows]))
    graph = [f"p{i},made by,m{i % 7}" for i in range(120)]
    graph[3:3] = [f"{SECRET},made by,m1", "p5,made by,"]
    (tmp_path / "triples.csv").write_text("\n".join(["head,relation,tail", *graph]))
    how: dict[str, Any] = {"item_graph": tmp_path / "triples.csv", "encoder": "hashing"}
    with pytest.raises(
        CatalogError, match=r"(?s)2 rows.*\(line 5\).*\(line 6\).*on-error"
    ) as error:
        make_world(items, output=tmp_path / "w", **how)
    assert SECRET not in str(error.value) and not (tmp_path / "w").exists()
    made = make_world(items, output=tmp_path / "w", on_error="drop", **how)
    assert "triples.csv: 120 items are linked to 7 things" in made.report
    assert sum("left out: 1 x the" in line for line in made.report) == 2
    (tmp_path / "triples.csv").unlink()
    world = load_world(EnvConfig.from_kwargs({"catalog": str(made.path)}))
    links = world.public().links
    assert links is not None and len(links.items) == 120
    assert not np.array_equal(world.items.vectors, world.text_vectors)
