"""Tables of triples: what items are linked to in one step or two, and rows that name no item."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from llmrec_env.content.catalogues import CatalogError
from llmrec_env.content.item_graph import Links, read_item_graph
from llmrec_env.content.item_vectors import Places
from llmrec_env.content.table_reader import TableReader

FILMS = Places.of(["alien", "blade", "heat", "ronin"], 4)
HEADER = "head,relation,tail\n"


def read(folder: Path, rows: str, drop: bool = False) -> tuple[Links, list[str]]:
    path = folder / "triples.csv"
    path.write_text(HEADER + rows, "utf-8")
    return read_item_graph(TableReader(path, CatalogError, drop), FILMS)


def together(links: Links) -> np.ndarray:
    matrix = links.matrix(4).toarray()
    return (matrix @ matrix.T > 0) & ~np.eye(4, dtype=bool)


def test_items_share_the_things_that_they_are_linked_to(tmp_path: Path):
    links, told = read(
        tmp_path, "alien,by,Scott\nblade,by,Scott\nheat,by,Mann\nronin,set in,Mann\n"
    )
    assert together(links).nonzero()[0].tolist() == [0, 1]  # the relation is part of the thing
    assert told == []


def test_an_entity_may_come_first_and_an_item_last(tmp_path: Path):
    links, _ = read(tmp_path, "Scott,made,alien\nScott,made,blade\nheat,like,ronin\n")
    assert np.argwhere(together(links)).tolist() == [[0, 1], [1, 0], [2, 3], [3, 2]]


def test_entities_of_entities_are_the_second_step(tmp_path: Path):
    rows = "alien,by,Scott\nheat,by,Mann\nScott,born in,Shields\nMann,born in,Shields\n"
    links, _ = read(tmp_path, rows)
    assert np.argwhere(together(links)).tolist() == [[0, 2], [2, 0]]


def test_a_row_twice_counts_once(tmp_path: Path):
    links, _ = read(tmp_path, "alien,by,Scott\nalien,by,Scott\n")
    assert len(links.items) == 1


BAD = "alien,by,Scott\nalein,by,Cameron\n,by,Mann\nheat,,Mann\nronin,by\nheat,by,Mann\n"


def test_rows_that_cannot_be_used_are_one_error_or_are_counted(tmp_path: Path):
    with pytest.raises(CatalogError, match=r"(?s)2 fields where the header has 3"):
        read(tmp_path, BAD)
    with pytest.raises(CatalogError, match=r"(?s)3 rows.*head is no item.*the head is missing"):
        read(tmp_path, BAD.replace("ronin,by\n", ""))
    with pytest.raises(CatalogError, match=r"line 3: the head is no item.*correct its id") as one:
        read(tmp_path, "alien,by,Scott\nalein,by,Scott\n")
    assert "alein" not in str(one.value)
    links, told = read(tmp_path, BAD, drop=True)
    assert sorted(set(links.items.tolist())) == [0, 2]
    said = "\n".join(told)
    for problem in ("the head is no item", "the head is missing", "the relation is missing"):
        assert f"1 x {problem}" in said
    assert "(line 3)" in said and "(line 6)" in said


def test_a_table_that_is_no_graph_of_the_items_is_refused(tmp_path: Path):
    with pytest.raises(CatalogError, match="no row links an item"):
        read(tmp_path, "a,b,c\n", drop=True)
    path = tmp_path / "other.csv"
    path.write_text("subject,relation,tail\n")
    with pytest.raises(CatalogError, match="none of the 3 columns is called 'head'"):
        read_item_graph(TableReader(path, CatalogError), FILMS)


def test_items_without_names_are_called_by_their_row(tmp_path: Path):
    path = tmp_path / "triples.csv"
    path.write_text(HEADER + "0,by,Scott\n3,by,Scott\n")
    links, _ = read_item_graph(TableReader(path, CatalogError), Places.of(None, 4))
    assert links.items.tolist() == [0, 3]
