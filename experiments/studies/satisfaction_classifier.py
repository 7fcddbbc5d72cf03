"""Study of the satisfaction classifier: held-out users, beside the base rate and a cosine."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt
from rich.console import Console
from rich.progress import Progress
from scipy.special import expit
from sklearn.linear_model import LogisticRegression

from agents.joint.satisfaction.classification import ClassificationReport, evaluate
from agents.joint.satisfaction.pairs import Pair, check_pairs, pairs_of
from experiments.env_fields import NO_FIELDS, EnvFields
from experiments.report.text_tables import Table, number, print_tables
from experiments.runs.threads import one_thread
from experiments.studies import study
from llmrec_env.config import EnvConfig
from llmrec_env.simulation.logging_policy import Logs
from llmrec_env.world import PublicData, World, load_world

if TYPE_CHECKING:
    from agents.joint.satisfaction.classifier import SatisfactionClassifier

_COLUMNS = ("accuracy", "precision", "recall", "f1", "auc", "log_loss", "calibration_error")
_Floats = npt.NDArray[np.float64]


@one_thread()
def run(
    mode: Literal["full", "lora", "frozen"] = "full",
    world: int = 0,
    max_pairs: int = 4000,
    epochs: int | None = None,
    reading: Literal["bi-encoder", "cross-encoder"] = "bi-encoder",
    browsed: float = 0.0,
    seed: int = 0,
    env: EnvFields = NO_FIELDS,
    output: Path | None = None,
    log_folder: Path | None = None,
) -> dict[str, Any]:
    """Trains a classifier on training users and evaluates it on test users.

    Args:
        mode: what learns beside the head: all of the encoder, LoRA changes of it, or nothing.
        world: seed of the world.
        max_pairs: most pairs to train on, and to test on; a quarter of it to validate.
        epochs: passes over the pairs; None: the usual number of the mode.
        reading: both texts in one (`cross-encoder`, as BERT does), or each alone (`bi-encoder`).
        browsed: items shown and not clicked to add as negatives, a click.
        seed: of the sample of pairs and of training.
        env: fields of the environment: catalog, encoder, num_users (one in ten each validate and
            test).
        output: folder for `satisfaction-MODE.json`; None: nothing is written.
        log_folder: of TensorBoard; None: nothing is written.

    Returns:
        Settings, figures by model, the reliability table, and seconds.
    """
    config = EnvConfig.from_kwargs({**env, "world_seed": world})
    settings = {
        "mode": mode,
        "world": world,
        "catalog": config.catalog,
        "encoder": config.encoder,
        "users": config.num_users,
        "max_pairs": max_pairs,
        "reading": reading,
        "browsed": browsed,
        "seed": seed,
    }
    loaded = load_world(config)
    parts = _parts(loaded, max_pairs, browsed, seed)
    classifier, learnt, seconds = _trained(parts, settings, epochs, log_folder)
    started = time.perf_counter()
    margins = classifier.margins(parts["test"])
    tested = time.perf_counter() - started
    reports = _reports(loaded, parts, mode, margins, classifier.temperature)
    record = {
        "settings": settings,
        "pairs": {split: len(pairs) for split, pairs in parts.items()},
        "figures": {name: _figures(report) for name, report in reports.items()},
        "reliability": [row._asdict() for row in reports[mode].reliability],
        "temperature": classifier.temperature,
        "epochs": learnt,
        "weights_trained": classifier.num_trained,
        "seconds": {"training": seconds, "testing": tested},
    }
    tables = _tables(record, reports)
    if output is None:
        print_tables(*tables)
    else:
        study.publish(f"satisfaction-{mode}", output, tables, content=record)
    print(
        f"temperature {record['temperature']:.2f}, {record['weights_trained']:,} weights trained, "
        f"{learnt} epochs, {seconds:.0f} s training, {tested:.0f} s testing"
    )
    return record


def _parts(world: World, max_pairs: int, browsed: float, seed: int) -> dict[str, list[Pair]]:
    """Pairs of the users of each split."""
    most = {"train": max_pairs, "validation": max_pairs // 4, "test": max_pairs}
    return {
        split: _sample(
            pairs_of(public_data(world, split), browsed=browsed, seed=seed), number, seed
        )
        for split, number in most.items()
    }


def _trained(
    parts: dict[str, list[Pair]], settings: dict[str, Any], epochs: int | None, log: Path | None
) -> tuple[SatisfactionClassifier, int, float]:
    """A classifier that has learnt, how many epochs, and seconds."""
    from agents.joint.satisfaction.classifier import (  # torch takes seconds
        TRAIN_CONFIGS,
        SatisfactionClassifier,
    )

    mode, seed = settings["mode"], settings["seed"]
    config = TRAIN_CONFIGS[mode]
    config = dataclasses.replace(config, epochs=epochs or config.epochs, seed=seed)
    settings = {"reading": settings["reading"], "seed": seed, "encoder": settings["encoder"]}
    classifier = SatisfactionClassifier(mode=mode, **settings)
    train, validation = parts["train"], parts["validation"]
    start = time.perf_counter()
    with progress_bar(f"Training {mode}", config.epochs * len(train)) as advance:
        learnt = classifier.learn(train, validation, config, log_folder=log, on_pairs=advance)
    return classifier, learnt.epoch, time.perf_counter() - start


def _reports(
    world: World, parts: dict[str, list[Pair]], mode: str, margins: _Floats, temperature: float
) -> dict[str, ClassificationReport]:
    """Figures of the references and of the classifier, before and after calibration."""
    train, test = parts["train"], parts["test"]
    label = [pair.satisfied for pair in test]
    base_rate = sum(pair.satisfied for pair in train) / len(train)
    return {
        "base rate": evaluate(np.full(len(test), base_rate), label),
        "cosine": evaluate(cosine_probability(world, train, test), label),
        f"{mode}, T = 1": evaluate(expit(margins), label),
        mode: evaluate(expit(margins / temperature), label),
    }


def public_data(world: World, split: str) -> PublicData:
    """Returns the texts, and the logs of the users of a split."""
    users = world.users_of(split)
    logs = Logs._make(column[users] for column in world.logs)
    return dataclasses.replace(world.public(), logs=logs, users=users)


def cosine_probability(world: World, train: Sequence[Pair], test: Sequence[Pair]) -> _Floats:
    """Returns P(z = 1) of test pairs by a logistic regression on the cosine of the two texts."""
    texts = (*world.phrases.texts, *world.catalog.texts)
    vectors = np.concatenate([world.text.phrase_vectors, world.items.vectors])
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


def _sample(pairs: list[Pair], most: int, seed: int) -> list[Pair]:
    chosen = np.random.default_rng([seed, 13]).permutation(len(pairs))[:most]
    return check_pairs([pairs[index] for index in np.sort(chosen)], "sampled")


def _figures(report: ClassificationReport) -> dict[str, float | None]:
    values = {name: getattr(report, name) for name in ("number", "base_rate", *_COLUMNS)}
    return {name: None if np.isnan(value) else value for name, value in values.items()}


def _tables(
    record: dict[str, Any], reports: dict[str, ClassificationReport]
) -> tuple[Table, Table]:
    sizes = ", ".join(f"{size:,} {split}" for split, size in record["pairs"].items())
    figures = [
        [name, *(number(getattr(report, column), decimals=3) for column in _COLUMNS)]
        for name, report in reports.items()
    ]
    bins = [
        [number(x["predicted"], decimals=3), number(x["observed"], decimals=3), str(x["number"])]
        for x in record["reliability"]
    ]
    columns = ["", *(column.replace("_", " ") for column in _COLUMNS)]
    return (
        Table(columns, figures, f"test users; pairs: {sizes}"),
        Table(["predicted", "observed", "pairs"], bins, "reliability", labels=0),
    )
