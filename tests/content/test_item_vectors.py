"""Files of item vectors: read in the items' order or by their ids, or refused with the fix."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from llmrec_env.content.catalogues import CatalogError
from llmrec_env.content.item_vectors import Places, read_item_vectors

NAMES = ["tea", "bike", "seed", "game"]
ROWS = np.arange(12, dtype=np.float32).reshape(4, 3)


def saved(folder: Path, **arrays: Any) -> Path:
    path = folder / "covers.npz"
    np.savez(path, **arrays)
    return path


def test_rows_are_in_the_order_of_the_items(tmp_path: Path):
    np.save(tmp_path / "covers.npy", ROWS.astype(np.uint8))
    found, told = read_item_vectors(tmp_path / "covers.npy", Places.of(NAMES, 4))
    np.testing.assert_array_equal(found, ROWS)
    assert told == []


def test_rows_that_the_table_lost_are_not_anothers(tmp_path: Path):
    np.save(tmp_path / "covers.npy", ROWS)
    found, _ = read_item_vectors(tmp_path / "covers.npy", Places(["tea", "game"], [0, 3], 4))
    np.testing.assert_array_equal(found, ROWS[[0, 3]])


def test_ids_name_the_items_and_one_without_a_vector_has_none(tmp_path: Path):
    path = saved(tmp_path, ids=np.array(["game", "tea", "bike"]), vectors=ROWS[:3])
    found, _ = read_item_vectors(path, Places.of(NAMES, 4))
    np.testing.assert_array_equal(found[[3, 0, 1]], ROWS[:3])
    assert np.isnan(found[2]).all()


def test_items_without_names_are_called_by_their_row(tmp_path: Path):
    path = saved(tmp_path, ids=np.array([3, 1]), vectors=ROWS[:2])
    found, _ = read_item_vectors(path, Places.of(None, 4))
    np.testing.assert_array_equal(found[[3, 1]], ROWS[:2])


def with_nan() -> Any:
    rows = ROWS.copy()
    rows[2, 1] = np.nan
    return rows


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"vectors": ROWS[:3]}, "3 vectors for 4 items; write one for each row"),
        ({"vectors": ROWS[0]}, r"shape \(3,\) and type float32; write numbers of shape"),
        ({"vectors": ROWS[:0]}, r"shape \(0, 3\)"),
        ({"vectors": ROWS.astype(str)}, "type <U"),
        ({"vectors": np.ones((4, 5000))}, "length 5,000; at most 4,096 are read"),
        ({"vectors": np.ones((4, 3))}, "all alike"),
        ({"vectors": with_nan()}, "row 2: the vector holds NaN or infinity; correct it"),
        ({"images": ROWS}, "must hold the arrays 'vectors' and 'ids'; write it with numpy.save"),
        ({"vectors": ROWS, "ids": np.arange(3)}, "one string or whole number for each of the 4"),
        ({"vectors": ROWS, "ids": np.arange(4.0)}, "type float64"),
        (
            {"vectors": ROWS, "ids": np.array(["tea", "tea", "sea", "see"])},
            "(?s)3 rows cannot be used.*2 x an id that no item has; .*rows 2, 3.*second time",
        ),
    ],
)
def test_what_cannot_be_used_is_refused_with_the_fix(tmp_path: Path, arrays: Any, message: str):
    with pytest.raises(CatalogError, match=message):
        read_item_vectors(saved(tmp_path, **arrays), Places.of(NAMES, 4))


def test_what_cannot_be_used_is_left_out_and_told(tmp_path: Path):
    ids = np.array(["bike", "sea", "seed", "game"])
    found, told = read_item_vectors(
        saved(tmp_path, ids=ids, vectors=with_nan()), Places.of(NAMES, 4), drop=True
    )
    assert np.isnan(found[:, 0]).tolist() == [True, False, True, False]
    assert [line.split(";")[0] for line in told] == [
        "1 x the vector holds NaN or infinity",
        "1 x an id that no item has",
    ]


@pytest.mark.parametrize("content", [b"", b"a,b\n1,2\n", b"\x93NUMPY\x01\x00", b"PK\x03\x04"])
def test_a_file_that_is_none_is_refused(tmp_path: Path, content: bytes):
    path = tmp_path / "covers.npy"
    path.write_bytes(content)
    with pytest.raises(CatalogError, match=r"no \.npy or \.npz of numbers .*numpy\.save"):
        read_item_vectors(path, Places.of(NAMES, 4))
    with pytest.raises(CatalogError, match=r"item_vectors='.*none\.npy': there is no such file"):
        read_item_vectors(tmp_path / "none.npy", Places.of(NAMES, 4))
