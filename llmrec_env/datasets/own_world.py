"""World of own items and logs: read, checked, encoded and saved, in one call."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from llmrec_env.config import EnvConfig
from llmrec_env.content.catalog import Catalog, catalog_of
from llmrec_env.content.catalogues import CatalogError, Columns
from llmrec_env.content.catalogues.item_table import ItemTable
from llmrec_env.content.catalogues.saved import to_files
from llmrec_env.content.embedding_space import Axes, Space
from llmrec_env.content.encoders import load_encoder
from llmrec_env.content.item_graph import ITEM_GRAPH, read_item_graph
from llmrec_env.content.item_graph import to_bytes as graph_bytes
from llmrec_env.content.item_vectors import ITEM_VECTORS, Places, read_item_vectors, to_bytes
from llmrec_env.content.phrases import Phrases, phrases_of
from llmrec_env.content.table_reader import Table
from llmrec_env.datasets.estimation import Estimates, estimate
from llmrec_env.datasets.own_tables import Reading, read_own_items, read_own_logs
from llmrec_env.datasets.saved_logs import LOGS, logs_file
from llmrec_env.datasets.trained_probe import LEAST_LABELS, train_probe
from llmrec_env.saved_world import check_free, write_folder
from llmrec_env.world_size import fitting_sizes

_LEAST_DIM = 4


@dataclass(frozen=True)
class OwnWorld:
    """A world that was saved, and what its making reported."""

    path: Path
    """The folder, which `gym.make(id, catalog=path)` takes."""
    parameters: dict[str, Any]
    """Fields of `EnvConfig` that environments with it have unless they say otherwise."""
    report: list[str]
    """Lines of text: what was read, left out, estimated, and what is off."""

    def __str__(self) -> str:
        """The report, then the parameters."""
        fields = ", ".join(f"{name}={value!r}" for name, value in self.parameters.items())
        return "\n".join([*self.report, f"parameters: {fields}", f"saved in {self.path}"])


def make_world(
    items: Table,
    logs: Table = None,
    *,
    output: str | os.PathLike[str],
    item_vectors: str | os.PathLike[str] | None = None,
    item_graph: Table = None,
    encoder: str = "minilm",
    device: str = "auto",
    overwrite: bool = False,
    **reading: Any,
) -> OwnWorld:
    """Saves a world of own items, and of what own logs tell, as a folder that `gym.make` takes.

    Args:
        items: table of text and, where there are such, item, topic, title and substance (-1 to 1).
        logs: table of user, item and, where there are such, event, value and timestamp; None: none.
        output: the folder.
        item_vectors: an image, audio or other vector of each item: .npy, a row for each row of
            `items`, or .npz with `vectors` and `ids`; None: items are their texts alone.
        item_graph: table of triples of items and entities, head, relation and tail; None: none.
        encoder: that reads the texts: `minilm`, `hashing`, or the directory of a transformer.
        device: where it runs.
        overwrite: replace a saved world of that name.
        reading: of both tables. format: of published logs, a name in `formats.FORMATS`, instead of
            all of these but on_error. rename: roles by the columns that have another name,
            {"userId": "user"}. on_error: `raise` for rows that cannot be used, all in one error, or
            `drop` and report them. events, default_event, time_unit: see `load_records`; without a
            column `event` all are ratings, or clicks if there is no column `value`. rating_range:
            least and greatest rating; from three quarters of it on one is satisfied. delimiter,
            encoding: of CSV, None: as the header says, and UTF-8.

    Raises:
        CatalogError: the table of items, item_vectors or item_graph cannot be used.
        RecordsError: the table of logs cannot be used.
        ConfigError: an argument is none of those allowed, or a renamed column is in no table.
        SavedWorldError: the folder is taken.
    """
    how = Reading.of(**reading)
    check_free(Path(output), overwrite)
    headers = how.headers(items, logs)
    table, report = read_own_items(items, headers[0], how, needs_names=logs is not None)
    beside, told = _beside(item_vectors, item_graph, table, how)
    report += told
    records = None
    if logs is not None:
        records, told = read_own_logs(logs, headers[1], how, table)
        report += told
    catalog, phrases, vectors, dim = _encoded(table.columns, encoder, device)
    report.append(
        f"{len(catalog.topic_names)} topics, {int(catalog.facets.max()) + 1} facets, "
        f"{len(phrases)} interest phrases"
        + ("" if table.columns.topics else "; topics are clusters, named by their own words")
    )
    columns = _with_labels(table.columns, catalog, phrases)
    columns, told = _with_substance(columns, vectors)
    report += told
    parameters: dict[str, Any] = {"encoder": encoder, "dim": dim}
    parameters |= _sizes(len(catalog), len(phrases), report)
    if records is not None:
        estimates = estimate(records, catalog.topics, threshold=records.satisfying_rating)
        columns = _with_estimates(columns, catalog.topic_names, estimates)
        parameters |= _within(estimates.parameters, parameters)
        report += [f"estimated: {', '.join(estimates.parameters)}, quality, topic shares"]
        report += [f"  {note}" for note in estimates.notes]
    EnvConfig(**parameters)  # refuses what no environment could be made of
    files = to_files(columns) | ({} if records is None else {LOGS: logs_file(records)}) | beside
    about = {"items": len(catalog), "parameters": parameters, "report": report}
    path = write_folder(output, files, about, overwrite)
    return OwnWorld(path, parameters, report)


def _beside(
    item_vectors: Any, item_graph: Table, table: ItemTable, how: Reading
) -> tuple[dict[str, bytes], list[str]]:
    """The files of what items carry beside their texts, and what to tell of them."""
    places = Places(table.columns.ids, table.places, table.rows)
    files: dict[str, bytes] = {}
    report: list[str] = []
    if item_vectors is not None:
        files[ITEM_VECTORS], told = _vectors(item_vectors, places, how)
        report += told
    if item_graph is not None:
        reader = how.plain_reader(item_graph)
        links, problems = read_item_graph(reader, places)
        files[ITEM_GRAPH] = graph_bytes(links)
        linked, things = len(np.unique(links.items)), int(links.things.max()) + 1
        told = f"{reader.path.name}: {linked:,} items are linked to {things:,} things"
        report += [told, *(f"  left out: {x}" for x in problems)]
    return files, report


def _vectors(path: Any, places: Places, how: Reading) -> tuple[bytes, list[str]]:
    vectors, problems = read_item_vectors(path, places, how.on_error == "drop")
    known = int(np.isfinite(vectors[:, 0]).sum())
    told = f"{Path(path).name}: vectors of {vectors.shape[1]:,} numbers for {known:,} items"
    if known < len(vectors):
        told += f"; {len(vectors) - known:,} are read by their texts alone"
    return to_bytes(vectors), [told, *(f"  left out: {x}" for x in problems)]


def _encoded(columns: Columns, encoder: str, device: str) -> tuple[Catalog, Phrases, Any, int]:
    """The catalogue with topics and facets, its phrases, item vectors (N, d), and d."""
    reader = load_encoder(encoder, device=device, progress=True)
    plain = dataclasses.replace(columns, substance=None)
    raw = reader.encode(columns.texts)
    catalog, phrases = phrases_of(catalog_of("own", plain), raw)
    if len(phrases) < 2:
        raise CatalogError(
            "the items make one interest phrase only; give them titles or topics that differ."
        )
    raw_phrases = reader.encode(phrases.texts)
    axes = Axes.fit(raw, raw_phrases)
    dim = min(EnvConfig().dim, axes.components.shape[1])
    if dim < _LEAST_DIM:
        raise CatalogError(
            f"the {len(catalog)} texts differ in {dim} directions only, as encoder={encoder!r} "
            f"reads them; a world needs {_LEAST_DIM}: add items, or use another encoder."
        )
    space = Space.fit(raw, raw_phrases, dim, axes)
    space.project_phrases(raw_phrases)
    return catalog, phrases, space.project_items(raw), dim


def _with_labels(columns: Columns, catalog: Catalog, phrases: Phrases) -> Columns:
    """The columns with the topics, facets and phrases that were found."""
    topics = [catalog.topic_names[topic] for topic in catalog.topics]
    facets = [str(facet) for facet in catalog.facets]
    interests: dict[tuple[str, str], tuple[str, ...]] = {
        pair: () for pair in zip(topics, facets, strict=True)
    }
    for text, topic, facet in zip(phrases.texts, phrases.topics, phrases.facets, strict=True):
        interests[catalog.topic_names[topic], str(facet)] += (text,)
    return dataclasses.replace(columns, topics=topics, facets=facets, interests=interests)


def _with_substance(columns: Columns, vectors: Any) -> tuple[Columns, list[str]]:
    labels = np.full(len(columns.texts), np.nan)
    if columns.substance is not None:
        labels = np.array(columns.substance, np.float64)
    known = int(np.isfinite(labels).sum())
    trained = train_probe(vectors, labels)
    if trained is None:
        zeros = [0.0] * len(labels)
        reason = f"{known} labels, at least {LEAST_LABELS} that differ are needed"
        said = f"no goodwill and no lure of clickbait: substance has {reason}"
        return dataclasses.replace(columns, substance=zeros, probe=zeros), [said]
    substance, probe, correlation = trained
    said = f"substance: {known:,} labels train a probe, correlation on held-out labels"
    said += f" {correlation:.2f}; it reads the other {len(labels) - known:,} items"
    changed: dict[str, Any] = {"substance": substance.tolist(), "probe": probe.tolist()}
    return dataclasses.replace(columns, **changed), [said]


def _sizes(num_items: int, num_phrases: int, report: list[str]) -> dict[str, int]:
    """The fields of a small catalogue."""
    sizes = fitting_sizes(num_items)
    slots = min(EnvConfig().interest_slots, num_phrases)
    if slots < EnvConfig().interest_slots:
        sizes |= {"interest_slots": slots, "active_max": min(EnvConfig().active_max, slots)}
        sizes["active_min"] = min(EnvConfig().active_min, sizes["active_max"])
    if sizes:
        report.append(f"few items, so: {', '.join(f'{x}={y}' for x, y in sizes.items())}")
    return sizes


def _with_estimates(
    columns: Columns, topic_names: tuple[str, ...], estimates: Estimates
) -> Columns:
    shares = dict(zip(topic_names, estimates.topic_share.tolist(), strict=True))
    return dataclasses.replace(columns, quality=estimates.quality.tolist(), topic_share=shares)


def _within(estimated: Mapping[str, float], sizes: Mapping[str, Any]) -> dict[str, float]:
    """The estimates, with no more active interests than a user has slots for."""
    slots = sizes.get("interest_slots", EnvConfig().interest_slots)
    return {
        name: min(value, slots) if name.startswith("active") else value
        for name, value in estimated.items()
    }
