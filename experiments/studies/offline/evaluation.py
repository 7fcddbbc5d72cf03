"""Recommenders on real logs, ranked by what users like later in records held out by time.

Settings are chosen on validation records: the latest of the training records, and those before
them. Cold users and cold items are judged apart, by training without some users and some items.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from experiments.report.text_tables import Cell, Table, number, print_tables
from experiments.runs.threads import one_thread
from experiments.statistics.intervals import Scores, bootstrap_interval, paired_difference
from experiments.studies.offline.metrics import METRICS, Values, user_values
from experiments.studies.offline.records import read_logs
from experiments.studies.offline.scorers import (
    DETERMINISTIC,
    GRIDS,
    SCORERS,
    Learnt,
    of_users,
)
from llmrec_env.config import unknown
from llmrec_env.datasets import Records, split_by_time
from llmrec_env.text_space import TextSpace

WARM, COLD_ITEMS = "all users", "cold items"
KNOWN = (1, 5, 20)
"""Records of a cold user that are known."""
_COLD_SHARE = 0.1
_FOLD = 0.2


class Part(NamedTuple):
    """Records to learn from, and later ones of the same users."""

    train: Records
    test: Records


@dataclass(frozen=True)
class Protocol:
    """How recommenders learn and are judged."""

    texts: TextSpace
    threshold: float

    def learnt(self, records: Records, seed: int) -> Learnt:
        """Returns what a recommender learns from."""
        return Learnt(records, self.texts, self.threshold, seed)


@one_thread()
def run(
    logs: str = "movielens",
    agents: tuple[str, ...] = tuple(SCORERS),
    against: tuple[str, ...] = ("ease", "implicit-als"),
    seeds: int = 3,
    folds: int = 2,
    cold: bool = True,
    test_share: float = 0.2,
    threshold: float | None = None,
    min_ratings: int = 5,
    encoder: str | None = None,
    dim: int | None = None,
) -> dict[str, dict[str, float]]:
    """Trains recommenders on earlier records and ranks the catalogue for each user's later ones.

    The latest records of each user are the test; what is liked there and was not met before is
    relevant. Every item that the user has not met is a candidate. Intervals are over users and
    seeds, paired where agents are compared.

    Args:
        logs: `movielens` (extra `data`), the folder of a saved world, or a CSV, JSONL or Parquet
            file with the columns user, item, event, value, timestamp, text.
        agents: names of SCORERS.
        against: those of them that every other one is compared with.
        seeds: training seeds; cold users and items are drawn anew with each.
        folds: validation parts that settings are chosen on, each a fifth of what lies before the
            one after it; 0: the agents' own defaults.
        cold: whether cold users and items are judged too, which trains once more with each seed;
            what fewer than two of the users like something of is left out.
        test_share: of each user's records, the latest.
        threshold: ratings from there on are liked; None: three quarters of the way up their range.
        min_ratings: users and items with fewer are left out, until none is left.
        encoder: of the texts; None: the world's own, else `minilm`.
        dim: of the encodings; None: the world's own, else 128.

    Raises:
        ValueError: an unknown agent, or records that cannot be used.
    """
    for name in (*agents, *against):
        if name not in SCORERS:
            raise ValueError(unknown("agent", name, list(SCORERS)))
    if "implicit-als" in agents and find_spec("implicit") is None:
        print("implicit-als is left out: the library implicit is not installed (extra `dev`)")
        agents = tuple(name for name in agents if name != "implicit-als")
    records, texts = read_logs(logs, min_ratings, encoder, dim)
    liked = records.satisfying_rating if threshold is None else threshold
    protocol, part = Protocol(texts, liked), _latest(records, test_share)
    print(f"{len(part.train):,} records to learn from, {len(part.test):,} to find")
    results: dict[str, dict[str, Scores]] = {}
    means: dict[str, dict[str, float]] = {}
    for name in agents:
        settings = chosen(name, protocol, part.train, folds)
        started, own = time.perf_counter(), range(1 if name in DETERMINISTIC else seeds)
        learnt = [protocol.learnt(part.train, seed) for seed in own]
        warm = [_warm(name, settings, x, part) for x in learnt]
        seconds = (time.perf_counter() - started) / len(own)
        found = {f"{WARM}, {x}": _scores(warm, x) for x in METRICS}
        draws = [_cold(name, settings, protocol, part, x) for x in range(seeds if cold else 0)]
        found |= _pooled(draws, METRICS[0])
        results[name] = found
        means[name] = {
            k.removeprefix(f"{WARM}, "): float(x.values.mean()) for k, x in found.items()
        }
        means[name] |= {"users": float(len(warm[0]["user"])), "seconds": seconds}
        print(f"{name}: {settings or 'as it is'}, {means[name][METRICS[0]]:.4f}, {seconds:.0f} s")
    print_tables(*_tables(results, [x for x in against if x in results]))
    return means


# --- protocols


def _latest(records: Records, share: float) -> Part:
    split = split_by_time(records, share, 0.0, unseen="drop")
    return Part(split.train, split.test)


def chosen(name: str, protocol: Protocol, train: Records, folds: int) -> dict[str, Any]:
    """Returns the settings with the highest NDCG on validation records, one tried after the other.

    Args:
        name: of SCORERS.
        protocol: how it learns.
        train: the training records; nothing else is looked at.
        folds: validation parts.
    """
    parts = []
    for _ in range(folds):
        parts.append(_latest(parts[-1].train if parts else train, _FOLD))
    learnt = [protocol.learnt(x.train, 0) for x in parts]
    settings: dict[str, Any] = {}
    better, best, known = settings, -1.0, dict[tuple[tuple[str, Any], ...], float]()
    for setting, values in GRIDS.get(name, {}).items() if parts else ():
        for value in values:
            tried = settings | {setting: value}
            key = tuple(sorted(tried.items()))
            if key not in known:
                both = zip(learnt, parts, strict=True)
                found = [_warm(name, tried, *x, METRICS[:1])[METRICS[0]].mean() for x in both]
                known[key] = float(np.mean(found))
            if known[key] > best:
                best, better = known[key], tried
        settings = better
    return settings


def _warm(
    name: str,
    settings: Mapping[str, Any],
    learnt: Learnt,
    part: Part,
    wanted: Sequence[str] = METRICS,
) -> Values:
    scores = SCORERS[name](learnt, **settings)(part.train)
    return user_values(scores, part.train, part.test, learnt.threshold, None, wanted)


def _cold(
    name: str, settings: Mapping[str, Any], protocol: Protocol, part: Part, seed: int
) -> dict[str, Values]:
    """NDCG for users whose records, and on items whose records, were not learnt from."""
    rng = np.random.default_rng([seed, 7])
    new_users = _drawn(len(part.train.user_ids), rng)
    new_items = _drawn(len(part.train.item_ids), rng)
    old = part.train.take(~new_items[part.train.item])
    everyone = np.unique(old.user)
    warm, cold = everyone[~new_users[everyone]], everyone[new_users[everyone]]
    learnt = of_users(old, warm)
    scorer = SCORERS[name](protocol.learnt(learnt, seed), **settings)
    consumed = np.bincount(learnt.item, minlength=len(new_items)) > 0

    def judge(users: npt.NDArray[np.int64], known: Records, among: Any) -> Values:
        train, test = of_users(part.train, users), of_users(part.test, users)
        options = (protocol.threshold, among, METRICS[:1])
        return user_values(scorer(known), train, test, *options)

    found = {COLD_ITEMS: judge(warm, learnt, new_items)}
    for count in KNOWN:
        known = _newest(of_users(old, cold), count)
        found[f"cold users, {count} known"] = judge(cold, known, consumed)
    return found


def _drawn(count: int, rng: np.random.Generator) -> npt.NDArray[np.bool_]:
    """A tenth, at least two, (count,)."""
    mask = np.zeros(count, np.bool_)
    mask[rng.permutation(count)[: max(2, round(_COLD_SHARE * count))]] = True
    return mask


def _newest(records: Records, count: int) -> Records:
    assert records.timestamp is not None
    order = np.lexsort((records.timestamp, records.user))
    ends = np.cumsum(np.bincount(records.user, minlength=len(records.user_ids)))
    age = ends[records.user[order]] - 1 - np.arange(len(order))
    return records.take(order[age < count])


# --- tables


def _scores(values: Sequence[Values], metric: str) -> Scores:
    """Of the same users with each seed."""
    users = np.concatenate([x["user"] for x in values])
    seeds = np.repeat(np.arange(len(values)), [len(x["user"]) for x in values])
    return Scores.of(np.concatenate([x[metric] for x in values]), None, users, seeds)


def _pooled(draws: Sequence[Mapping[str, Values]], metric: str) -> dict[str, Scores]:
    """Of other users, or other items, with each seed: each draw of a user is one of its own.

    What fewer than two users like something of has no interval and is left out.
    """
    pooled = {}
    for kind in draws[0] if draws else ():
        values = [x[kind] for x in draws]
        users = np.concatenate([1_000_000 * seed + x["user"] for seed, x in enumerate(values)])
        if len(users) > 1:
            pooled[kind] = Scores.of(np.concatenate([x[metric] for x in values]), None, users)
    return pooled


def _tables(results: Mapping[str, Mapping[str, Scores]], against: Sequence[str]) -> list[Table]:
    protocols = [x for x in next(iter(results.values())) if not x.startswith(WARM)]
    groups = [("liked later, among all items not met before", [f"{WARM}, {x}" for x in METRICS])]
    if protocols:
        groups.append((f"{METRICS[0]}: what was not learnt from", protocols))
    tables = []
    for title, columns in groups:
        heads = ["agent", *(x.removeprefix(f"{WARM}, ") for x in columns)]
        rows = [[name, *(_cell(x[c]) for c in columns)] for name, x in results.items()]
        tables.append(Table(heads, rows, title))
        for other in against:
            compared = [
                [name, *(_difference(x[c], results[other][c]) for c in columns)]
                for name, x in results.items()
                if name != other
            ]
            tables.append(Table(heads, compared, f"the same, minus {other}"))
    return tables


def _cell(scores: Scores) -> Cell:
    return number(*bootstrap_interval(scores), decimals=4)


def _difference(a: Scores, b: Scores) -> Cell:
    interval = paired_difference(a, b)
    return number(*interval, decimals=4, signed=True)._replace(clear=interval.is_clear)
