"""Published formats become own tables: tiny files made in each, and what is wrong with them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from experiments.cli import main
from llmrec_env.config import ConfigError
from llmrec_env.content.catalogues import CatalogError
from llmrec_env.content.catalogues.saved import read_columns
from llmrec_env.datasets import RecordsError, load_records, make_world
from llmrec_env.datasets.formats import FORMATS

SECRET = "anna-secret"
ITEMS, USERS = 30, 12
NOUNS = "harbour violin glacier market lantern orchard engine pepper castle falcon".split()
KINDS = ("Comedy", "Drama", "Horror")
TIMES = 1_000_000_000


def title_of(item: int) -> str:
    return f"{NOUNS[item % 10].title()} and {NOUNS[(3 * item + 1) % 10]} part {item}"


def interactions() -> list[tuple[int, int, int, int]]:
    """User, item, stars and time."""
    rng = np.random.default_rng(0)
    return [
        (user, item, int(rng.integers(1, 6)), TIMES + 60 * k)
        for user in range(USERS)
        for k, item in enumerate(rng.permutation(ITEMS)[:8].tolist())
    ]


def lines(folder: Path, name: str, rows: list[str], encoding: str = "utf-8") -> Path:
    (folder / name).write_bytes(("\n".join(rows) + "\n").encode(encoding))
    return folder / name


def movielens_100k(folder: Path) -> tuple[Path, Path]:
    places = {"Comedy": 5, "Drama": 8, "Horror": 11}  # among the 19 genres
    rows = []
    for item in range(ITEMS):
        flag = ["0"] * 19
        flag[places[KINDS[item % 3]]] = "1"
        rows.append("|".join([str(item), f"Café {title_of(item)} (1995)", "", "", "", *flag]))
    ratings = ["\t".join(map(str, row)) for row in interactions()]
    return lines(folder, "u.item", rows, "latin-1"), lines(folder, "u.data", ratings)


def movielens_dat(folder: Path, encoding: str = "latin-1") -> tuple[Path, Path]:
    rows = [f"{i}::Café {title_of(i)} (1995)::{KINDS[i % 3]}|War" for i in range(ITEMS)]
    ratings = ["::".join(map(str, row)) for row in interactions()]
    return lines(folder, "movies.dat", rows, encoding), lines(folder, "ratings.dat", ratings)


def movielens_csv(folder: Path) -> tuple[Path, Path]:
    rows = [f'{i},"Café {title_of(i)}, The (1995)",{KINDS[i % 3]}|War' for i in range(ITEMS)]
    ratings = [f"{user},{item},{stars - 0.5},{time}" for user, item, stars, time in interactions()]
    return (
        lines(folder, "movies.csv", ["movieId,title,genres", *rows]),
        lines(folder, "ratings.csv", ["userId,movieId,rating,timestamp", *ratings]),
    )


def mind(folder: Path) -> tuple[Path, Path]:
    rows = [
        f'N{i}\t{KINDS[i % 3]}\tsub\tThe "{title_of(i)}"\t{f"All of {i}." * (i % 2)}\turl\t[]\t[]'
        for i in range(ITEMS)
    ]
    shown = {}
    for user, item, stars, _ in interactions():
        shown.setdefault(user, []).append(f"N{item}-{int(stars > 3)}")
    logs = [
        f"{user}\tU{user}\t11/11/2019 9:{user:02d}:58 AM\tN1 N2\t{' '.join(impressions)}"
        for user, impressions in shown.items()
    ]
    return lines(folder, "news.tsv", rows), lines(folder, "behaviors.tsv", logs)


def amazon(folder: Path) -> tuple[Path, Path]:
    rows = [
        {
            "parent_asin": f"B{i}",
            "title": title_of(i),
            "features": ["sturdy", "light"] if i % 2 else [],
            "description": ["word " * 400] if i == 3 else [],
            "main_category": "Tools" if i else None,
            "categories": ["Tools", KINDS[i % 3]] if i else [],
            "price": None,
        }
        for i in range(ITEMS)
    ]
    reviews = [
        {
            "user_id": f"A{user}",
            "parent_asin": f"B{item}",
            "asin": "variant",
            "rating": float(stars),
            "timestamp": 1000 * time,
            "title": SECRET,
            "text": SECRET,
        }
        for user, item, stars, time in interactions()
    ]
    return (
        lines(folder, "meta.jsonl", [json.dumps(row) for row in rows]),
        lines(folder, "reviews.jsonl", [json.dumps(row) for row in reviews]),
    )


def kuairec(folder: Path) -> tuple[Path, Path]:
    head = (
        "video_id,manual_cover_text,caption,topic_tag,first_level_category_id,"
        "first_level_category_name,second_level_category_name,third_level_category_name"
    )
    rows = [
        f'{i},UNKNOWN,"{title_of(i)} 今天","[{NOUNS[i % 10]},x]",{i % 3},{KINDS[i % 3]},UNKNOWN,'
        for i in range(ITEMS)
    ]
    logs = [
        f"{user},{item},9000,5000,2020-07-05 05:27:48,20200705,{time}.5,{stars / 2}"
        for user, item, stars, time in interactions()
    ]
    names = "user_id,video_id,play_duration,video_duration,time,date,timestamp,watch_ratio"
    return (
        lines(folder, "captions.csv", [head, *rows]),
        lines(folder, "big_matrix.csv", [names, *logs]),
    )


MADE: dict[str, Any] = {
    "movielens-100k": movielens_100k,
    "movielens-1m": movielens_dat,
    "movielens-10m": lambda folder: movielens_dat(folder, "utf-8"),
    "movielens-20m": movielens_csv,
    "movielens-25m": movielens_csv,
    "movielens-32m": movielens_csv,
    "movielens-latest": movielens_csv,
    "mind": mind,
    "amazon-2023": amazon,
    "kuairec": kuairec,
}


def make(folder: Path, name: str, **changes: Any) -> Any:
    items, logs = MADE[name](folder)
    options = {"output": folder / "world", "encoder": "hashing", "format": name} | changes
    return make_world(items, logs, **options)


@pytest.mark.parametrize("name", list(FORMATS))
def test_every_format_becomes_a_world_with_all_of_its_records(name, tmp_path):
    world = make(tmp_path, name)
    records, columns = load_records(world.path), read_columns(world.path)
    assert len(records) == len(interactions())
    assert len(records.user_ids) == USERS and len(columns.texts) == ITEMS
    assert records.timestamp is not None and np.isfinite(records.timestamp).all()
    if name not in ("mind", "kuairec"):
        user, item, stars, time = map(np.array, zip(*interactions(), strict=True))
        half = 0.5 * (records.rating_range[0] == 0.5 and name != "movielens-10m")
        np.testing.assert_array_equal(records.value, stars - half)
        np.testing.assert_array_equal(records.timestamp, time)
        np.testing.assert_array_equal(records.item, item)
        assert len(np.unique(user)) == USERS
    assert not any(SECRET.encode() in file.read_bytes() for file in world.path.iterdir())


def test_films_are_called_as_one_says_them_and_remakes_keep_their_year(tmp_path):
    rows = ['1,"Hangover, The (2009)",Comedy|Crime', "2,Alien (1979),(no genres listed)"]
    rows += ['3,"Hangover, The (1920)",Comedy|Crime']
    rows += [f"{i},{title_of(i)} (1995),{KINDS[i % 3]}" for i in range(4, 30)]
    items = lines(tmp_path, "movies.csv", ["movieId,title,genres", *rows])
    world = make_world(items, output=tmp_path / "world", encoder="hashing", format="movielens-25m")
    texts, titles = read_columns(world.path).texts, read_columns(world.path).titles
    assert texts[:3] == (
        "The Hangover. Comedy, crime.",
        "Alien. No genre.",
        "The Hangover (1920). Comedy, crime.",
    )
    assert titles is not None and titles[:2] == ("The Hangover", "Alien")


def test_an_impression_is_shown_or_clicked_and_histories_are_told_of(tmp_path):
    world = make(tmp_path, "mind")
    records = load_records(world.path)
    stars = np.array([row[2] for row in interactions()])
    np.testing.assert_array_equal(records.event == 1, stars > 3)
    assert "  note: the column of histories, clicks without times, is not read" in world.report
    assert "popularity includes" not in str(world)  # these logs say what was shown
    assert read_columns(world.path).texts[1].startswith('The "Violin and')


def test_a_video_satisfies_who_watches_it_twice(tmp_path):
    records = load_records(make(tmp_path, "kuairec").path)
    stars = np.array([row[2] for row in interactions()])
    np.testing.assert_array_equal(records.value, stars / 2 >= 2.0)
    assert read_columns(tmp_path / "world").texts[0] == f"{title_of(0)} 今天 harbour x Comedy"


def test_long_texts_are_cut_and_topics_that_lack_are_other(tmp_path):
    make(tmp_path, "amazon-2023")
    columns = read_columns(tmp_path / "world")
    assert len(columns.texts[3]) <= 1000 and columns.texts[3].endswith("word")
    assert columns.texts[1] == f"{title_of(1)}. sturdy light"
    assert columns.topics is not None and columns.topics[0] == "other"


def test_the_command_line_takes_a_format(tmp_path, capsys):
    items, logs = movielens_csv(tmp_path)
    options = ["--format", "movielens-25m", "--items", str(items), "--logs", str(logs)]
    options += ["--encoder", "hashing", "--output", str(tmp_path / "world")]
    assert main(["world", *options]) == 0
    assert f"{len(interactions())} of {len(interactions())} records" in capsys.readouterr().out
    assert main(["world", *options, "--time-unit", "ms"]) == 1
    assert "leave out time_unit" in capsys.readouterr().err


# --- bad input


@pytest.mark.parametrize(
    ("name", "file", "line", "said"),
    [
        ("movielens-100k", "u.data", f"1\t2\t{SECRET}\t7", "a rating whose value is no number"),
        ("movielens-1m", "ratings.dat", f"{SECRET}::2::3", "3 fields where the header has 4"),
        ("movielens-25m", "ratings.csv", f"{SECRET},99,3,{TIMES}", "an item that is not among"),
        ("mind", "behaviors.tsv", f"1\t{SECRET}\t2019\t\tN1-0", "a time that is not MM/DD/YYYY"),
        (
            "mind",
            "behaviors.tsv",
            f"1\t{SECRET}\t11/11/2019 9:05:58 AM\t\tN1",
            "an impression that is not ITEM-0 or ITEM-1; use labelled logs",
        ),
        ("amazon-2023", "reviews.jsonl", f'{{"user_id": "{SECRET}"', "not JSON"),
        ("kuairec", "big_matrix.csv", f"{SECRET},1,1,1,,,,2", "no time that is a number"),
        ("kuairec", "big_matrix.csv", f"1,1,1,1,,,{TIMES},{SECRET}", "a watch_ratio that is no"),
    ],
)
def test_a_broken_row_is_named_by_its_line_or_dropped_and_counted(name, file, line, said, tmp_path):
    items, logs = MADE[name](tmp_path)
    path = tmp_path / file
    before = path.read_bytes()
    number = before.count(b"\n") + 1
    path.write_bytes(before + line.encode() + b"\n")
    options = {"output": tmp_path / "world", "encoder": "hashing", "format": name}
    with pytest.raises(RecordsError, match=said) as caught:
        make_world(items, logs, **options)
    assert f"line {number}" in str(caught.value) and SECRET not in str(caught.value)
    assert not (tmp_path / "world").exists()
    world = make_world(items, logs, on_error="drop", **options)
    assert any(said in told and f"line {number}" in told for told in world.report)
    assert SECRET not in str(world) and len(load_records(world.path)) == len(interactions())


@pytest.mark.parametrize("name", ["movielens-25m", "kuairec", "movielens-1m"])
def test_files_given_the_wrong_way_round_are_refused(name, tmp_path):
    items, logs = MADE[name](tmp_path)
    with pytest.raises(CatalogError):
        make_world(logs, items, output=tmp_path / "world", encoder="hashing", format=name)


def test_a_missing_column_names_those_of_the_format(tmp_path):
    items, logs = movielens_csv(tmp_path)
    lines(tmp_path, "ratings.csv", [f"{SECRET},movieId,rating,timestamp"])
    with pytest.raises(RecordsError, match="lacks some of the columns userId, movieId, rating"):
        make_world(items, logs, output=tmp_path / "w", encoder="hashing", format="movielens-25m")


def test_a_format_says_all_itself(tmp_path):
    with pytest.raises(ConfigError, match="Did you mean 'movielens-1m'"):
        make_world("x", output=tmp_path / "w", format="movielens-1")
    with pytest.raises(ConfigError, match="leave out rename, time_unit"):
        make_world("x", output=tmp_path / "w", format="mind", rename={"a": "user"}, time_unit="s")
