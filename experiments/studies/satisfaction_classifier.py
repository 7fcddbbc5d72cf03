"""Study of the satisfaction classifier: its learning curve on held-out users, beside references.

References: the base rate, a logistic regression on the cosine of the two texts, and the calibrated
probabilities of `joint`, which knows more than the texts of a pair.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import numpy.typing as npt
from rich.console import Console
from rich.progress import Progress
from scipy.special import expit
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score

from agents.joint.past import columns_of
from agents.joint.recommender import Joint
from agents.joint.satisfaction.classification import ClassificationReport, evaluate
from agents.joint.satisfaction.classifier import TRAIN_CONFIGS, SatisfactionClassifier
from agents.joint.satisfaction.pairs import Pair, check_pairs, pairs_of
from experiments.env_fields import NO_FIELDS, EnvFields
from experiments.report import text_tables
from experiments.report.text_tables import Table, number, print_tables
from experiments.runs.threads import one_thread
from experiments.statistics.resampling import DEFAULT, Interval, draw_counts, percentiles
from experiments.studies import study
from llmrec_env.config import EnvConfig
from llmrec_env.simulation.logging_policy import Logs
from llmrec_env.world import PublicData, World, load_world

_COLUMNS = ("accuracy", "precision", "recall", "f1", "auc", "log_loss", "calibration_error")
_RESAMPLES = 400
_Floats = npt.NDArray[np.float64]
_SPLITS = ("train", "validation", "test")


class Predictions(NamedTuple):
    """P(z = 1) of the test pairs, by what made them."""

    name: str
    probability: _Floats  # (pairs,)
    pairs: int
    """Learnt from."""
    seconds: float
    """Of learning."""


@one_thread()
def run(
    mode: Literal["full", "lora", "frozen"] = "frozen",
    sizes: tuple[int, ...] = (500, 2000, 8000, 32_000),
    test_pairs: int = 4000,
    world: int = 0,
    epochs: int | None = None,
    reading: Literal["bi-encoder", "cross-encoder"] = "bi-encoder",
    browsed: float = 0.0,
    joint: bool = True,
    seed: int = 0,
    env: EnvFields = NO_FIELDS,
    output: Path | None = None,
    log_folder: Path | None = None,
) -> dict[str, Any]:
    """Trains classifiers on more and more pairs of training users, and evaluates on test users.

    Args:
        mode: what learns beside the head: all of the encoder, LoRA changes of it, or nothing.
        sizes: pairs to train on; those of a size are among those of a larger one.
        test_pairs: most pairs to test on; a quarter of it to validate.
        world: seed of the world.
        epochs: passes over the pairs; None: the usual number of the mode.
        reading: both texts in one (`cross-encoder`, as BERT does), or each alone (`bi-encoder`).
        browsed: items shown and not clicked to add as negatives, a click; `joint`, which foresees
            clicks apart, is then left out.
        joint: whether `joint` learns too, from all logs of the training users.
        seed: of the sample of pairs and of training.
        env: fields of the environment: catalog, encoder, num_users (one in ten each validate and
            test).
        output: folder for `satisfaction-MODE-READING.json`; None: nothing is written.
        log_folder: of TensorBoard; None: nothing is written.

    Returns:
        Settings, figures by model, improvements in AUC, and the reliability table of the last size.
    """
    if output is not None:
        output.mkdir(parents=True, exist_ok=True)
    config = EnvConfig.from_kwargs({**env, "world_seed": world})
    settings: dict[str, Any] = {"mode": mode, "reading": reading, "world": world, "seed": seed}
    settings |= {"sizes": sizes, "browsed": browsed, "users": config.num_users}
    settings |= {"catalog": config.catalog, "encoder": config.encoder}
    loaded = load_world(config)
    parts, rows = _parts(loaded, max(sizes), test_pairs, browsed, seed)
    made = _references(loaded, parts)
    if joint and not browsed:
        made.append(_joint(loaded, rows, seed))
    for size in sizes:
        made.append(_classified(parts, size, settings, epochs, log_folder))
    label = [pair.satisfied for pair in parts["test"]]
    reports = {x.name: evaluate(x.probability, label) for x in made}
    record = {
        "settings": settings,
        "pairs": {split: len(pairs) for split, pairs in parts.items()},
        "figures": {name: _figures(report) for name, report in reports.items()},
        "over_cosine": _over(made, made[1], parts["test"]),
        "learnt_from": {x.name: x.pairs for x in made},
        "seconds": {x.name: x.seconds for x in made},
        "reliability": [row._asdict() for row in reports[made[-1].name].reliability],
    }
    tables = _tables(record, reports)
    if output is None:
        print_tables(*tables)
    else:
        study.publish(f"satisfaction-{mode}-{reading}", output, tables, content=record)
    return record


def _parts(
    world: World, most: int, test_pairs: int, browsed: float, seed: int
) -> tuple[dict[str, list[Pair]], npt.NDArray[np.intp]]:
    """Pairs of the users of each split, in random order, and which of all test pairs they are."""
    parts: dict[str, list[Pair]] = {}
    rows = np.zeros(0, np.intp)
    for split, size in zip(_SPLITS, (most, test_pairs // 4, test_pairs), strict=True):
        pairs = pairs_of(public_data(world, split), browsed=browsed, seed=seed)
        rows = np.random.default_rng([seed, 13]).permutation(len(pairs))[:size]
        parts[split] = check_pairs([pairs[row] for row in rows], split)
    return parts, rows


# --- predictions


def _references(world: World, parts: dict[str, list[Pair]]) -> list[Predictions]:
    train, test = parts["train"], parts["test"]
    rate = float(np.mean([pair.satisfied for pair in train]))
    started = time.perf_counter()
    cosine = cosine_probability(world, train, test)
    seconds = time.perf_counter() - started
    return [
        Predictions("base rate", np.full(len(test), rate), len(train), 0.0),
        Predictions("cosine", cosine, len(train), seconds),
    ]


def _joint(world: World, rows: npt.NDArray[np.intp], seed: int) -> Predictions:
    """What `joint` expected of some of the clicks of the test users, before each."""
    started = time.perf_counter()
    agent, data = Joint(seed), world.public()
    agent.learn(data, world.config)
    seconds = time.perf_counter() - started
    steps = columns_of(public_data(world, "test"))
    expected = np.zeros(steps[1].shape)
    agent.after(steps, expected)
    clicked = (steps[1] >= 0) & (steps[0][:, :, 0] >= 0)
    slope, offset = agent.calibration
    chance = expit(slope * expected[clicked][rows] + offset)
    return Predictions("joint", chance, int((data.logs.items >= 0).sum()), seconds)


def _classified(
    parts: dict[str, list[Pair]],
    size: int,
    settings: dict[str, Any],
    epochs: int | None,
    log: Path | None,
) -> Predictions:
    """What a classifier says that has learnt from the first pairs."""
    mode, seed, pairs = settings["mode"], settings["seed"], parts["train"][:size]
    config = TRAIN_CONFIGS[mode]
    config = dataclasses.replace(config, epochs=epochs or config.epochs, seed=seed)
    started = time.perf_counter()
    classifier = SatisfactionClassifier(
        settings["encoder"], mode, reading=settings["reading"], seed=seed
    )
    with progress_bar(f"{mode}, {len(pairs)} pairs", config.epochs * len(pairs)) as advance:
        classifier.learn(pairs, parts["validation"], config, log_folder=log, on_pairs=advance)
    seconds = time.perf_counter() - started
    name = f"{mode}, {len(pairs):,} pairs"
    return Predictions(name, classifier.probability(parts["test"]), len(pairs), seconds)


def public_data(world: World, split: str) -> PublicData:
    """Returns the texts, and the logs of the users of a split."""
    users = world.users_of(split)
    logs = Logs._make(column[users] for column in world.logs)
    return dataclasses.replace(world.public(), logs=logs, users=users)


def cosine_probability(world: World, train: Sequence[Pair], test: Sequence[Pair]) -> _Floats:
    """Returns P(z = 1) of test pairs by a logistic regression on the cosine of the two texts."""
    texts = (*world.phrases.texts, *world.catalog.texts)
    vectors = np.concatenate([world.text.phrase_vectors, world.text_vectors])
    vector = dict(zip(texts, vectors, strict=True))

    def features(pairs: Sequence[Pair]) -> _Floats:
        rows = np.zeros((len(pairs), 3))
        for row, pair in zip(rows, pairs, strict=True):
            mean = sum((vector[text] for text in pair.behaviour), np.zeros(vectors.shape[1]))
            length = float(np.linalg.norm(mean))
            cosine = float(mean @ vector[pair.item]) / length if length else 0.0
            row[:] = 1.0, cosine, length == 0.0
        return rows

    # Almost no penalty: with three features there is nothing to hold back.
    model = LogisticRegression(C=1e3, fit_intercept=False, solver="newton-cholesky", tol=1e-8)
    model.fit(features(train), [pair.satisfied for pair in train])
    return model.predict_proba(features(test))[:, 1]


@contextmanager
def progress_bar(name: str, total: int) -> Iterator[Callable[[int], object]]:
    """A function that advances a bar on stderr, if that is a terminal."""
    console = Console(stderr=True)
    with Progress(console=console, disable=not console.is_terminal) as bar:
        task = bar.add_task(name, total=total)
        yield lambda number: bar.advance(task, number)


# --- figures


def auc_gain(own: _Floats, other: _Floats, test: Sequence[Pair]) -> Interval:
    """Returns AUC - AUC of another on the same pairs, with its bootstrap interval over users."""
    label = np.array([pair.satisfied for pair in test])
    users, row = np.unique([pair.user for pair in test], return_inverse=True)

    def gain(weight: _Floats | None) -> float:
        better, worse = (roc_auc_score(label, p, sample_weight=weight) for p in (own, other))
        return float(better) - float(worse)

    resampling = dataclasses.replace(DEFAULT, resamples=_RESAMPLES)
    drawn = draw_counts(np.zeros(len(users), np.int64), 1, resampling)
    gains = np.array([gain(counts[row]) for block, _ in drawn for counts in block])
    return Interval(gain(None), *percentiles(gains, resampling))


def _over(
    made: Sequence[Predictions], reference: Predictions, test: Sequence[Pair]
) -> dict[str, Interval]:
    return {
        x.name: auc_gain(x.probability, reference.probability, test)
        for x in made
        if x is not reference and np.ptp(x.probability)
    }


def _figures(report: ClassificationReport) -> dict[str, float | None]:
    values = {name: getattr(report, name) for name in ("number", "base_rate", *_COLUMNS)}
    return {name: None if np.isnan(value) else value for name, value in values.items()}


def _tables(
    record: dict[str, Any], reports: dict[str, ClassificationReport]
) -> tuple[Table, Table]:
    gains, seconds = record["over_cosine"], record["seconds"]
    figures = [
        [
            name,
            f"{record['learnt_from'][name]:,}",
            *(number(getattr(report, column), decimals=3) for column in _COLUMNS),
            number(*gains[name], decimals=3) if name in gains else text_tables.improvement(None),
            number(seconds[name], decimals=0),
        ]
        for name, report in reports.items()
    ]
    bins = [
        [number(x["predicted"], decimals=3), number(x["observed"], decimals=3), str(x["number"])]
        for x in record["reliability"]
    ]
    columns = ["", "pairs learnt from", *(column.replace("_", " ") for column in _COLUMNS)]
    columns += ["AUC over cosine [95 %]", "learning, s"]
    return (
        Table(columns, figures, f"{record['pairs']['test']:,} pairs of test users"),
        Table(["predicted", "observed", "pairs"], bins, "reliability, last row", labels=0),
    )
