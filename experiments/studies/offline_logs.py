"""Recommenders on real logs, ranked by what users like later in records held out by time."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import numpy.typing as npt
from sklearn.metrics import roc_auc_score

from agents.dataset import UNSATISFIED_WEIGHT, Dataset
from agents.joint.model import batch_of
from agents.joint.recommender import Joint, observed_steps
from agents.neural.next_item import TwoTower
from agents.neural.sasrec import SelfAttentive
from agents.own_logs import own_data
from agents.rankers.als import alternating_least_squares, solve_factors
from agents.rankers.item_models import Ease, ItemNeighbours
from agents.rankers.ranker import HistoryRanker
from experiments.report.text_tables import Table, number, print_tables
from experiments.runs.threads import one_thread
from llmrec_env import metrics
from llmrec_env.config import EnvConfig, unknown
from llmrec_env.datasets import (
    CLICK,
    RATING,
    Records,
    RecordsError,
    clean,
    load_records,
    movielens_records,
    split_by_time,
)
from llmrec_env.world import PublicData, TextSpace, load_text_space

Floats = npt.NDArray[np.float64]
K = 10
_HISTORY = 128  # items of a user that rankers by history see


@dataclass(frozen=True)
class Trained:
    """What recommenders learn from."""

    interactions: Dataset
    data: PublicData
    config: EnvConfig
    seed: int


def _popular(trained: Trained) -> Floats:
    scores = trained.interactions.popularity().astype(np.float64)
    return np.tile(scores, (trained.interactions.num_users, 1))


def _factorised(trained: Trained) -> Floats:
    data = trained.interactions
    shape = (data.num_users, data.num_items)
    entries = (data.users, data.items, data.weights.astype(np.float64))
    options: dict[str, Any] = {"regularisation": 3.0, "confidence": 8.0}
    items = alternating_least_squares(*entries, shape, rank=24, **options, seed=trained.seed)
    users = solve_factors(items, *entries, data.num_users, **options)
    return users @ items.T


def _implicit(trained: Trained) -> Floats:
    """The ALS of the library `implicit`, to check ours against."""
    from implicit.als import AlternatingLeastSquares
    from scipy import sparse

    data = trained.interactions
    shape = (data.num_users, data.num_items)
    matrix = sparse.csr_matrix((8.0 * data.weights, (data.users, data.items)), shape)
    model: Any = AlternatingLeastSquares(
        factors=24, regularization=3.0, iterations=6, num_threads=1, random_state=trained.seed
    )
    model.fit(matrix, show_progress=False)
    return model.user_factors @ model.item_factors.T


def _by_history(kind: type[HistoryRanker]) -> Callable[[Trained], Floats]:
    def scores(trained: Trained) -> Floats:
        agent = kind(trained.seed)
        agent.learn(trained.interactions, trained.data.items.vectors)
        return agent.score_items(*trained.interactions.histories(_HISTORY)).astype(np.float64)

    return scores


def _joint(trained: Trained) -> Floats:
    # Such logs do not say what was shown: what is chosen at all tells more than what satisfied.
    agent = Joint(trained.seed, ranking="choice", shrinkage=0.3, substance=0.0, skipped=0.0)
    agent.learn(trained.data, trained.config)
    logs = trained.data.logs  # one step more, before which all of the past is known
    more = [np.concatenate([column, column[:, -1:]], axis=1) for column in logs]
    data = dataclasses.replace(trained.data, logs=logs._make(more))
    last = observed_steps(data, trained.config, first=logs.items.shape[1])
    scores = np.zeros((len(logs.items), len(agent.alpha)))
    scores[last.users] = agent.v(batch_of(last, np.arange(len(last)))) @ agent.alpha.T
    return scores


SCORERS: dict[str, Callable[[Trained], Floats]] = {
    "popular": _popular,
    "item-knn": _by_history(ItemNeighbours),
    "ease": _by_history(Ease),
    "collaborative": _factorised,
    "implicit-als": _implicit,
    "two-tower": _by_history(TwoTower),
    "sasrec": _by_history(SelfAttentive),
    "joint": _joint,
}
"""Recommenders by name: from what there is to learn, scores of all users and items."""


@one_thread()
def run(
    logs: str = "movielens",
    agents: tuple[str, ...] = tuple(SCORERS),
    seeds: int = 3,
    test_share: float = 0.2,
    threshold: float = 4.0,
    min_ratings: int = 5,
    encoder: str = "minilm",
    dim: int = 128,
) -> dict[str, dict[str, float]]:
    """Trains recommenders on earlier records and ranks the catalogue for each user's later ones.

    The latest records of each user are the test; what is liked there and was not met before is
    relevant. Every item that the user has not met is a candidate.

    Args:
        logs: `movielens` (extra `data`), or a CSV, JSONL or Parquet file with the columns user,
            item, event, value, timestamp, text.
        agents: names of SCORERS.
        seeds: training seeds; metrics are their means.
        test_share: of each user's records, the latest.
        threshold: ratings from there on are liked.
        min_ratings: users and items with fewer are left out, until none is left.
        encoder: of the texts.
        dim: of the encodings.

    Raises:
        ValueError: an unknown agent, or records that cannot be used.
    """
    for name in agents:
        if name not in SCORERS:
            raise ValueError(unknown("agent", name, list(SCORERS)))
    records, texts = _read(logs, min_ratings, encoder, dim)
    split = split_by_time(records, test_share, 0.0, unseen="drop")
    print(f"{len(split.train):,} records to learn from, {len(split.test):,} to find")
    results = {}
    for name in agents:
        started, values = time.perf_counter(), []
        for seed in range(seeds if name != "popular" else 1):
            data, config = own_data(
                split.train,
                texts,
                slate_size=20,
                threshold=threshold,
                seed=seed,
            )
            trained = Trained(_interactions(split.train, threshold), data, config, seed)
            values.append(
                ranking_metrics(SCORERS[name](trained), split.train, split.test, threshold)
            )
        means = {metric: float(np.mean([x[metric] for x in values])) for metric in values[0]}
        results[name] = means | {"seconds": (time.perf_counter() - started) / len(values)}
    print_tables(_table(results))
    return results


def ranking_metrics(
    scores: Floats, train: Records, test: Records, threshold: float
) -> dict[str, float]:
    """Returns NDCG@10, Recall@10 and AUC, means over the users who like something in the test."""
    relevant = np.zeros(scores.shape, np.bool_)
    user, item, satisfied = test.clicks(threshold)
    relevant[user[satisfied == 1], item[satisfied == 1]] = True
    met = np.zeros(scores.shape, np.bool_)
    met[train.user, train.item] = True
    relevant &= ~met
    ranked = np.where(met, -np.inf, scores)
    some = relevant.any(axis=1)
    ndcg = metrics.ndcg_at_k(ranked[some], relevant[some], K)
    recall = metrics.recall_at_k(ranked[some], relevant[some], K)
    areas = [
        float(roc_auc_score(relevant[row, ~met[row]], scores[row, ~met[row]]))
        for row in np.flatnonzero(some)
    ]
    return {
        f"ndcg@{K}": float(ndcg.mean()),
        f"recall@{K}": float(recall.mean()),
        "auc": float(np.mean(areas)),
        "users": float(some.sum()),
    }


def _read(logs: str, least: int, encoder: str, dim: int) -> tuple[Records, TextSpace]:
    """Clean records whose items are numbered as in a catalogue that is encoded."""
    if logs == "movielens":
        records, report = clean(movielens_records(), min_user=least, min_item=least)
        print(report)
        texts = load_text_space("movielens", None, encoder, dim, "auto")
        numbers = np.array([int(name) for name in records.item_ids])
        return _renumbered(records, numbers, len(texts.catalog)), texts
    raw, report = clean(load_records(logs))
    print(report)
    records, report = clean(raw.take(_usable(raw)), min_user=least, min_item=least)
    print(report)
    with TemporaryDirectory() as folder:
        path = Path(folder) / "items.csv"
        first = records.write_catalog(path)  # the first item with each text
        texts = load_text_space(str(path), None, encoder, dim, "auto")
    assert records.item_texts is not None  # there would be no catalogue
    row = {records.item_texts[item]: index for index, item in enumerate(first.tolist())}
    numbers = np.array([row[words] for words in records.item_texts])
    return _renumbered(records, numbers, len(texts.catalog)), texts


def _usable(records: Records) -> npt.NDArray[np.bool_]:
    """Which records say that an item that has a text was consumed, (M,)."""
    if records.item_texts is None:
        raise RecordsError("the records hold no texts of items; add a column called text.")
    consumed = (records.event == CLICK) | (records.event == RATING)
    has_text = np.array([bool(words) for words in records.item_texts])
    return consumed & has_text[np.where(consumed, records.item, 0)]


def _renumbered(records: Records, numbers: npt.NDArray[np.int64], num_items: int) -> Records:
    return Records(
        user=records.user,
        item=numbers[records.item],
        event=records.event,
        value=records.value,
        timestamp=records.timestamp,
        user_ids=records.user_ids,
        item_ids=tuple(map(str, range(num_items))),
        rating_range=records.rating_range,
    )


def _interactions(records: Records, threshold: float) -> Dataset:
    assert records.timestamp is not None  # split_by_time needs it
    order = np.lexsort((records.timestamp, records.user))
    user, item, satisfied = records.take(order).clicks(threshold)
    weights = np.where(satisfied == 1, 1.0, UNSATISFIED_WEIGHT)
    data = Dataset.from_columns(user, item, weights, np.arange(len(user)), len(records.item_ids))
    if data.num_users != len(records.user_ids):
        raise ValueError("some users have no record to learn from; lower test_share.")
    return data


def _table(results: Mapping[str, Mapping[str, float]]) -> Table:
    columns = ["agent", *next(iter(results.values()))]
    rows = [
        [
            agent,
            *(
                number(x, decimals=0 if name in ("users", "seconds") else 4)
                for name, x in values.items()
            ),
        ]
        for agent, values in results.items()
    ]
    return Table(columns, rows, "liked later, among all items not met before")
