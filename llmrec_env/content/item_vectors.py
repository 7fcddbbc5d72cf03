"""Item vectors: an image, audio or other vector of each item, read from a file and checked."""

from __future__ import annotations

import io
import os
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from llmrec_env.content.catalogues import CatalogError
from llmrec_env.content.table_problems import Problems
from llmrec_env.saved_world import read_file, read_manifest

ITEM_VECTORS = "item_vectors.npy"
"""The file of a saved world."""
MAX_LENGTH = 4096
_WRITE = (
    "write it with numpy.save(file, vectors), or numpy.savez(file, ids=ids, vectors=vectors) for "
    "items by their identifiers"
)
Rows = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Places:
    """Where items stand in the table that they were read from."""

    ids: Sequence[str] | None
    """What they are called, (N,); None: by their row, from 0."""
    rows: Sequence[int]
    """Their rows, from 0, (N,)."""
    count: int
    """Rows of the table, those left out included."""

    @classmethod
    def of(cls, ids: Sequence[str] | None, count: int) -> Places:
        """Returns the places of the items of a table of which no row was left out."""
        return cls(ids, range(count), count)


def read_item_vectors(
    path: str | os.PathLike[str], places: Places, drop: bool = False
) -> tuple[Rows, list[str]]:
    """Returns a vector of each item, (N, D), NaN where there is none, and what was left out.

    Args:
        path: .npy, a row for each row of the table of items; or .npz with `vectors` and `ids`.
        places: of the items.
        drop: leave out vectors that cannot be used, instead of raising.

    Raises:
        CatalogError: the file, or a vector in it, cannot be used.
    """
    vectors, ids = _loaded(Path(path))
    problems = Problems()
    for row in np.flatnonzero(~np.isfinite(vectors).all(axis=1)).tolist():
        problems.add(row, "the vector holds NaN or infinity; correct it, or leave out the item")
    if ids is None:
        if len(vectors) != places.count:
            raise CatalogError(
                f"{path}: {len(vectors):,} vectors for {places.count:,} items; write one for each "
                "row of the items, in their order, or an .npz with ids."
            )
        found = vectors[list(places.rows)]
    else:
        found = _by_id(vectors, ids, places, problems)
    if problems and not drop:
        raise CatalogError(problems.message(str(path), "row"))
    found[~np.isfinite(found).all(axis=1)] = np.nan
    known = found[np.isfinite(found[:, 0])]
    if len(np.unique(known, axis=0)) < 2:
        raise CatalogError(f"{path}: the vectors of the items are all alike; nothing can be read.")
    return found, problems.table("row")


def to_bytes(rows: Rows) -> bytes:
    """Returns the content of `ITEM_VECTORS`."""
    content = io.BytesIO()
    np.save(content, rows)
    return content.getvalue()


def saved_item_vectors(folder: str | os.PathLike[str]) -> Rows | None:
    """Returns the item vectors of a saved world, (N, D), or None.

    Raises:
        SavedWorldError: the file is damaged.
    """
    if ITEM_VECTORS not in read_manifest(folder)["files"]:
        return None
    return np.load(io.BytesIO(read_file(folder, ITEM_VECTORS)), allow_pickle=False)


def _loaded(path: Path) -> tuple[Rows, list[str] | None]:
    """The vectors, (n, D), and their ids if the file has such."""
    if not path.is_file():
        raise CatalogError(f"item_vectors={str(path)!r}: there is no such file; check the path.")
    try:
        content = np.load(io.BytesIO(path.read_bytes()), allow_pickle=False)
        arrays = {"vectors": content} if isinstance(content, np.ndarray) else dict(content)
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
        kind = type(error).__name__
        raise CatalogError(f"{path} is no .npy or .npz of numbers ({kind}); {_WRITE}.") from None
    if "vectors" not in arrays or not {*arrays} <= {"vectors", "ids"}:
        raise CatalogError(f"{path} must hold the arrays 'vectors' and 'ids'; {_WRITE}.")
    vectors = arrays["vectors"]
    if vectors.ndim != 2 or vectors.dtype.kind not in "fiu" or not vectors.size:
        raise CatalogError(
            f"{path}: the vectors have shape {vectors.shape} and type {vectors.dtype}; write "
            "numbers of shape (items, length)."
        )
    if vectors.shape[1] > MAX_LENGTH:
        raise CatalogError(
            f"{path}: vectors of length {vectors.shape[1]:,}; at most {MAX_LENGTH:,} are read: "
            "keep their leading principal components."
        )
    with np.errstate(over="ignore"):  # what is too large becomes infinite, and is told of
        rows = vectors.astype(np.float32)
    return rows, _ids_of(path, arrays.get("ids"), len(vectors))


def _ids_of(path: Path, ids: Any, count: int) -> list[str] | None:
    if ids is None:
        return None
    if ids.shape != (count,) or ids.dtype.kind not in "Uiu":
        raise CatalogError(
            f"{path}: ids have shape {ids.shape} and type {ids.dtype}; write one string or whole "
            f"number for each of the {count:,} vectors."
        )
    return [str(name) for name in ids.tolist()]


def _by_id(vectors: Rows, ids: list[str], places: Places, problems: Problems) -> Rows:
    """A vector of each item by its id, NaN where there is none."""
    names = [str(row) for row in places.rows] if places.ids is None else places.ids
    missing = "" if places.ids else ", here its row from 0: the items have no column 'item'"
    index = {name: i for i, name in enumerate(names)}
    found = np.full((len(names), vectors.shape[1]), np.nan, np.float32)
    taken: set[str] = set()
    for row, name in enumerate(ids):
        if name not in index:
            problems.add(row, f"an id that no item has{missing}; correct it, or leave it out")
        elif name in taken:
            problems.add(row, "an id for the second time; leave one of the two out")
        else:
            taken.add(name)
            found[index[name]] = vectors[row]
    return found
