"""Item graph: what items are linked to in a knowledge graph, read from a table of triples.

A thing is what items may share: the other end of a triple with its relation, or the tail of one
that an entity of the item heads.
"""

from __future__ import annotations

import io
import os
from collections import defaultdict
from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from scipy import sparse

from llmrec_env.content.catalogues import CatalogError
from llmrec_env.content.cells import MalformedError, identifier_of
from llmrec_env.content.item_vectors import Places
from llmrec_env.content.table_reader import TableReader
from llmrec_env.saved_world import read_file, read_manifest

ITEM_GRAPH = "item_graph.npy"
"""The file of a saved world."""
COLUMNS = ("head", "relation", "tail")
_UNREACHED = (
    "the head is no item, and no item leads to it; correct its id, turn the row round, or delete it"
)
Triple = tuple[str, str, str]


class Links(NamedTuple):
    """Pairs of an item and a thing that it is linked to, each once."""

    items: npt.NDArray[np.int64]  # (m,)
    things: npt.NDArray[np.int64]  # (m,)

    def matrix(self, num_items: int) -> sparse.csr_matrix:
        """Returns 1 where an item is linked to a thing, (num_items, things)."""
        shape = (num_items, int(self.things.max()) + 1)
        return sparse.csr_matrix((np.ones(len(self.items)), (self.items, self.things)), shape)


def read_item_graph(reader: TableReader, places: Places) -> tuple[Links, list[str]]:
    """Returns what items are linked to, and what was left out.

    Args:
        reader: of a table with the columns head, relation and tail. An end that is the id of an
            item is that item; any other is the name of an entity, which some item leads to.
        places: of the items.

    Raises:
        CatalogError: the table cannot be used, or some rows, which the reader does not count.
    """
    triples: dict[int, Triple] = {}  # by line
    malformed: dict[int, str] = {}  # refused with the unknown ids, so that one error tells all
    for line, cells in reader.rows(dict(zip(COLUMNS, COLUMNS, strict=True)), COLUMNS):
        try:
            triples[line] = _triple(cells)
        except MalformedError as error:
            malformed[line] = str(error)
    names = [str(row) for row in places.rows] if places.ids is None else places.ids
    item_of = {name: item for item, name in enumerate(names)}
    reached = _reached([*triples.values()], item_of)
    malformed |= {line: _UNREACHED for line, x in triples.items() if x[0] not in reached}
    for line in sorted(malformed):
        reader.refuse(line, malformed[line])
    reader.finish()
    links = _links([x for x in triples.values() if x[0] in reached], item_of)
    if len(links.items) == 0:
        raise CatalogError(f"{reader.path}: no row links an item; an end must be an item's id.")
    return links, reader.problems.table(reader.unit)


def to_bytes(links: Links) -> bytes:
    """Returns the content of `ITEM_GRAPH`."""
    content = io.BytesIO()
    np.save(content, np.stack(links))
    return content.getvalue()


def saved_item_graph(folder: str | os.PathLike[str]) -> Links | None:
    """Returns the links of a saved world, or None.

    Raises:
        SavedWorldError: the file is damaged.
    """
    if ITEM_GRAPH not in read_manifest(folder)["files"]:
        return None
    return Links(*np.load(io.BytesIO(read_file(folder, ITEM_GRAPH)), allow_pickle=False))


def _triple(cells: tuple[object, ...]) -> Triple:
    head, relation, tail = (identifier_of(cell) for cell in cells)
    for role, name in zip(COLUMNS, (head, relation, tail), strict=True):
        if not name:
            raise MalformedError(f"the {role} is missing; write one, or delete the row")
    return head, relation, tail


def _reached(triples: list[Triple], items: Iterable[str]) -> set[str]:
    """Items, entities that have an item as tail, and all that is met on from there to the tails."""
    tails_of: defaultdict[str, list[str]] = defaultdict(list)
    for head, _, tail in triples:
        tails_of[head].append(tail)
    reached = set(items)
    reached |= {head for head, _, tail in triples if tail in reached}
    waiting = list(reached)
    while waiting:
        new = [tail for tail in tails_of.pop(waiting.pop(), ()) if tail not in reached]
        reached.update(new)
        waiting += new
    return reached


def _links(triples: list[Triple], item_of: dict[str, int]) -> Links:
    found: dict[tuple[int, Triple], None] = {}  # in the order of the table
    items_at: defaultdict[str, set[int]] = defaultdict(set)
    for head, relation, tail in triples:
        if head in item_of:
            found[item_of[head], (">", relation, tail)] = None
            items_at[tail].add(item_of[head])
            if tail in item_of:  # who is linked to an item is linked to what it is, too
                found[item_of[tail], (">", relation, tail)] = None
        elif tail in item_of:
            found[item_of[tail], ("<", relation, head)] = None
            items_at[head].add(item_of[tail])
    for head, relation, tail in triples:
        if head not in item_of and tail not in item_of:
            found |= {(item, (">>", relation, tail)): None for item in sorted(items_at[head])}
    number_of: dict[Triple, int] = {}
    numbers = [number_of.setdefault(thing, len(number_of)) for _, thing in found]
    return Links(np.array([item for item, _ in found], np.int64), np.array(numbers, np.int64))
