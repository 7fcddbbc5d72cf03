"""World of own items and logs, saved: `python -m experiments world --items items.csv ...`."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from llmrec_env.config import ConfigError
from llmrec_env.datasets import OwnWorld, make_world


def run(
    items: Path,
    output: Path,
    logs: Path | None = None,
    item_vectors: Path | None = None,
    item_graph: Path | None = None,
    format: str | None = None,
    rename: tuple[str, ...] = (),
    on_error: Literal["raise", "drop"] = "raise",
    encoder: str = "minilm",
    device: str = "auto",
    events: tuple[str, ...] = (),
    default_event: str | None = None,
    time_unit: str | None = None,
    rating_range: tuple[float, float] | None = None,
    delimiter: str | None = None,
    encoding: str | None = None,
    overwrite: bool = False,
) -> OwnWorld:
    """Saves a world of your own items, and of what your logs tell, as a folder.

    The folder is then the `catalog` of the environment, for every command and gymnasium.make.

    Args:
        items: table (.csv, .tsv, .jsonl, .parquet, .gz) of text and, if there are, item, topic,
            title and substance (-1 to 1).
        output: the folder.
        logs: table of user, item and, if there are, event, value and timestamp.
        item_vectors: an image, audio or other vector of each item: .npy, a row for each row of the
            items, or .npz with `vectors` and `ids`.
        item_graph: table of triples of items (by identifier) and entities: head, relation, tail.
        format: of published logs, instead of the options on columns, events and times:
            movielens-100k, -1m, -10m, -20m, -25m, -32m, -latest, mind, amazon-2023, kuairec.
        rename: COLUMN=ROLE of columns that have another name, userId=user movieId=item.
        on_error: end with all problems of a file, or drop the rows and report them.
        encoder: that reads the texts: minilm, hashing, or the directory of a transformer.
        device: where it runs.
        events: THEIRS=OURS of events, view=click; ours are browse, click, rating and query.
        default_event: of records that name none.
        time_unit: of times that are numbers: s (the default), ms, us or ns.
        rating_range: least and greatest rating; by default 1 5.
        delimiter: of CSV; by default as the header says.
        encoding: of CSV and JSON Lines; by default UTF-8.
        overwrite: replace a saved world of that name.

    Raises:
        ValueError: a table, a column or an argument cannot be used; says all that is wrong.
    """
    world = make_world(
        items,
        logs,
        output=output,
        item_vectors=item_vectors,
        item_graph=item_graph,
        encoder=encoder,
        device=device,
        overwrite=overwrite,
        format=format,
        rename=pairs("rename", rename),
        on_error=on_error,
        events=pairs("events", events),
        default_event=default_event,
        time_unit=time_unit,
        rating_range=rating_range,
        delimiter={"\\t": "\t", "tab": "\t"}.get(delimiter or "", delimiter),
        encoding=encoding,
    )
    print(world)
    print(f"python -m experiments train ppo --env.catalog {output}")
    return world


def pairs(option: str, words: tuple[str, ...]) -> dict[str, str]:
    """Returns what the words THEIRS=OURS of an option say.

    Raises:
        ConfigError: a word is not of this form.
    """
    named: dict[str, str] = {}
    for word in words:
        theirs, sign, ours = word.rpartition("=")
        if not sign or not theirs or not ours or theirs in named:
            raise ConfigError(
                f"--{option} {word!r} is not THEIRS=OURS with a new name; write userId=user."
            )
        named[theirs] = ours
    return named
