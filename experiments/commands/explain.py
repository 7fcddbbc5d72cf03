"""What moved an agent's scores: the texts of a user's past, and their tokens: `explain`."""

from __future__ import annotations

import textwrap
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from agents import Agent
from agents.attribution import AttributingAgent, Attribution
from agents.rollout import session_seeds
from experiments.env_fields import NO_FIELDS, EnvFields, given_fields
from experiments.report.figures.attribution_map import attribution_map
from experiments.report.figures.style import save
from experiments.report.text_tables import Table, number, print_tables
from experiments.runs.evaluation import EVALUATION_SEED
from experiments.runs.resolve import load, resolve, task_of
from experiments.runs.spec import RunSpec, task_config
from experiments.runs.threads import one_thread
from llmrec_env.content.encoders import TransformerEncoder, load_encoder
from llmrec_env.content.encoders.token_attribution import (
    TokenAttribution,
    attention_of,
    attribute_tokens,
    import_captum,
)
from llmrec_env.envs.vector import RecVectorEnv
from llmrec_env.interface.history import EMPTY, QUERY, SATISFIED, UNSATISFIED
from llmrec_env.world import PublicData

_KINDS = {SATISFIED: "satisfied", UNSATISFIED: "did not satisfy", QUERY: "typed"}
_WIDTH = 60  # letters of a text that are shown


class Row(NamedTuple):
    """A text of the past, or what no single text moved, and what it adds to each item shown."""

    name: str
    kind: str
    amounts: npt.NDArray[np.float64]  # (k,)


@one_thread()
def run(
    agent: str = "joint",
    user: int = 9,
    step: int = 20,
    texts: int = 8,
    tokens: bool = False,
    output: Path = Path("runs/explain"),
    world: int | None = None,
    task: str | None = None,
    transfer: bool = False,
    env: EnvFields = NO_FIELDS,
) -> Attribution:
    """Prints what each text of the past adds to the scores of the slate that an agent shows.

    The parts add up to the score: of `joint`, relevance before it bends at 0. A heat map is written
    into `output`. Both show texts of the user's past; nothing else is written.

    Args:
        agent: folder of a saved agent, or the name of one that needs no training.
        user: id; those ending in 9 are test users.
        step: of the session that `evaluate` plays, before which the slate is made; the last one if
            the session ends earlier.
        texts: rows of the table, those that moved most.
        tokens: also draw what the tokens of the item shown first add to its likeness to the text
            that moved it most, and where the encoder attends (extra `explain`).
        output: folder of the heat map, as PNG, SVG and PDF.
        world: which world; by default the one that the agent was trained in.
        task: a registered id; by default the agent's own task.
        transfer: let a saved agent act in a world that it does not know: see `evaluate`.
        env: fields of the environment that override the task's.

    Raises:
        ValueError: there is no such agent or user, or the agent cannot tell what moved it.
        ImportError: tokens are asked for and the extra is not installed.
    """
    source = resolve(agent)
    name, changes = task_of(source, task, given_fields(env))
    trained_in = source.saved.config.world_seed if source.saved else 0
    spec = RunSpec(name, source.name, trained_in if world is None else world, env=changes)
    _check(task_config(name, changes).num_users, user, step, texts)
    if tokens:
        import_captum()
    loaded, batch = load(source, spec, 1, "all", transfer)
    if not isinstance(loaded, AttributingAgent) or loaded.observation != "dict":
        raise ValueError(
            f"agent={agent!r} cannot tell which texts moved it; use one that ranks linearly by "
            "texts: content, content-recency, drift-aware, ease, ease-text or joint."
        )
    observation, slots = moment(loaded, batch, user, step)
    parts, data = loaded.attribute(observation, slots), batch.public_data()
    rows = rows_of(parts, observation, data, texts)
    items = observation["candidates"][0, slots]
    print_tables(_table(rows, parts, items, data))
    found = _tokens_of(batch, data, observation, parts, items[0]) if tokens else None
    names = [f"{_short(row.name, 40)} ({row.kind})" if row.kind else row.name for row in rows]
    amounts = np.stack([row.amounts for row in rows])
    figure = attribution_map(names, [_name(data, item) for item in items], amounts, found)
    files = save(figure, output / f"{loaded.name}-user-{user}-step-{step}")
    print(f"heat map in {files[0]}")
    return parts


def moment(
    agent: Agent, env: RecVectorEnv, user: int, step: int
) -> tuple[Any, npt.NDArray[np.integer]]:
    """Returns the observation before a step of a user's session, a batch of one, and the slate."""
    users = np.array([user])
    seeds = session_seeds(EVALUATION_SEED, users)
    observation, _ = env.reset(seed=seeds, options={"user_id": users})
    starts = np.ones(1, np.bool_)
    for _ in range(step):
        following, _, terminated, truncated, _ = env.step(agent.act(observation, starts))
        if terminated[0] or truncated[0]:
            break
        observation, starts = following, np.zeros(1, np.bool_)
    return observation, np.asarray(agent.act(observation, starts)[0], np.int64)


def rows_of(parts: Attribution, observation: Any, data: PublicData, texts: int) -> list[Row]:
    """Returns the texts that moved the slate most, their sum over the rest, and the others."""
    kinds, ids = observation["history_feedback"][0], observation["history"][0]
    known = np.flatnonzero(kinds != EMPTY)
    order = known[np.argsort(-np.abs(parts.entries[:, known]).sum(axis=0), kind="stable")]
    rows = []
    for entry in order[:texts]:
        kind, number_of = int(kinds[entry]), int(ids[entry])
        name = data.phrases.texts[number_of] if kind == QUERY else _name(data, number_of)
        rows.append(Row(name, f"{_KINDS[kind]}, {entry + 1} ago", parts.entries[:, entry]))
    if len(order) > texts:
        rest = parts.entries[:, order[texts:]].sum(axis=1)
        rows.append(Row(f"{len(order) - texts} more texts", "", rest))
    return rows + [Row(name, "", amounts) for name, amounts in parts.others.items()]


def _tokens_of(
    batch: RecVectorEnv, data: PublicData, observation: Any, parts: Attribution, item: int
) -> tuple[TokenAttribution, npt.NDArray[np.float64]]:
    """What the tokens of an item add to its likeness to the text that moved it most."""
    import torch

    encoder = load_encoder(batch.config.encoder, cache=False, device=batch.config.device)
    if not isinstance(encoder, TransformerEncoder):
        raise ValueError(f"tokens need a transformer, not encoder={batch.config.encoder!r}.")
    entry = int(np.abs(parts.entries[0]).argmax())
    is_phrase = observation["history_feedback"][0, entry] == QUERY
    past = (data.phrase_vectors if is_phrase else data.items.vectors)[
        observation["history"][0, entry]
    ]
    mean, basis = torch.from_numpy(data.space.item_mean), torch.from_numpy(data.space.components)
    direction = torch.tensor(past)

    def likeness(vectors: Any) -> Any:
        inside = (vectors.cpu() - mean) @ basis
        return torch.nn.functional.normalize(inside, dim=1) @ direction

    text = data.catalog.texts[item]
    return attribute_tokens(encoder, text, likeness), attention_of(encoder, text)[1]


def _table(rows: list[Row], parts: Attribution, items: Any, data: PublicData) -> Table:
    def cells(amounts: npt.NDArray[np.float64]) -> list[Any]:
        return [number(float(x), signed=True) for x in amounts]

    lines = [[_short(row.name, _WIDTH), row.kind, *cells(row.amounts)] for row in rows]
    lines.append(["score", "", *cells(parts.total())])
    shown = "; ".join(f"{k + 1}: {_name(data, item)}" for k, item in enumerate(items))
    columns = ["what moved the scores", "", *(f"item {k + 1}" for k in range(len(items)))]
    return Table(columns, lines, shown, labels=2)


def _name(data: PublicData, item: int) -> str:
    titles = data.catalog.titles
    return data.catalog.texts[item] if titles is None else titles[item]


def _short(text: str, width: int) -> str:
    return textwrap.shorten(text, width, placeholder=" ...")


def _check(num_users: int, user: int, step: int, texts: int) -> None:
    if not 0 <= user < num_users:
        raise ValueError(f"user={user} does not exist; allowed: 0 to {num_users - 1}.")
    if step < 0 or texts < 1:
        raise ValueError(f"step={step}, texts={texts}: allowed are 0 or more, and 1 or more.")
