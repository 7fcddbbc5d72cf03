"""Calibration of the simulator: parameters at which its logs are most like logs of real users.

Statistics of `experiments/statistics/consumption.py` are measured on the real logs; parameters are
searched with optuna by simulating logs and measuring the same on them. What logs cannot tell keeps
its default: how often users click (nothing says what was shown), patience, goodwill, queries.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from experiments import store
from experiments.env_fields import NO_FIELDS, EnvFields, given_fields
from experiments.report.text_tables import Table, number
from experiments.runs.threads import one_thread
from experiments.statistics.consumption import (
    Consumption,
    distances,
    latest,
    measured,
    statistics_of,
    sums_of,
)
from experiments.statistics.intervals import Interval
from experiments.studies import study
from experiments.tuning.search import import_optuna
from llmrec_env.config import EnvConfig
from llmrec_env.datasets import (
    BROWSE,
    QUERY,
    Records,
    RecordsError,
    load_records,
    movielens_records,
)
from llmrec_env.saved_world import is_saved_world
from llmrec_env.world import World, load_world
from llmrec_env.world_size import fitting_sizes

FITTED: dict[str, tuple[float, float, bool]] = {
    "switch_rate": (0.002, 0.3, True),
    "ou_rate": (0.003, 0.3, True),
    "ou_sigma": (0.02, 0.6, True),
    "base_sd": (0.1, 2.5, False),
    "choice_relevance": (1.0, 12.0, False),
    "choice_quality": (0.1, 3.0, False),
    "choice_null": (0.0, 8.0, False),
    "relevance_taste": (0.0, 1.0, False),
    "satiation_choice": (0.0, 4.0, False),
    "satisfaction_bias": (-4.0, 2.0, False),
}
"""Least and greatest value of each fitted parameter, and whether it is searched by its logarithm;
`active_min` and `active_max`, 1 to 6, are fitted too."""
KEPT = "consumed per logged slate"
"""No real statistic: how busy users are with the defaults, which the fit is to leave as it is."""
NOT_FITTED = ("activity (Gini)",)
"""Told, and not fitted: every simulated user is logged for the same number of slates."""
TUNING_WORLD, TEST_WORLDS = 100, (0, 1)
_SLATES = 200  # logged of each simulated user: the most there can be
_SPARE = 1.25  # simulated users for each real one, of whom some consume too little
_FITS = 2.0  # standard errors

Statistics = Mapping[str, Interval]


class Fit(NamedTuple):
    """What was found."""

    parameters: dict[str, Any]
    """Fields of `EnvConfig` that differ from the defaults."""
    real: Statistics
    default: Statistics
    """Of the simulator as it is, in the first test world."""
    calibrated: list[Statistics]
    """Of the simulator with the parameters, in each of TEST_WORLDS."""

    def misfit(self) -> dict[str, float]:
        """Returns standard errors between simulated and real, averaged over the test worlds."""
        each = [distances(self.real, world) for world in self.calibrated]
        return {name: float(np.mean([part[name] for part in each])) for name in each[0]}


@one_thread()
def run(
    catalog: str = "movielens",
    length: int = 50,
    trials: int = 150,
    most_users: int = 1000,
    seed: int = 0,
    env: EnvFields = NO_FIELDS,
    output: Path = Path("runs/calibration"),
    overwrite: bool = False,
) -> Fit:
    """Fits how users move and choose to real logs; writes `calibration.md`, `.csv` and `.json`.

    Args:
        catalog: movielens, or the folder of a world that was made of your own items and logs.
        length: latest items of each user that are compared; users with fewer are left out.
        trials: simulations of the search, about a second each, in a world of its own.
        most_users: users that are compared.
        seed: of the search.
        overwrite: delete the results that are there.

    Raises:
        ValueError: logs without times, or with too few users.
    """
    if trials < 1:
        raise ValueError(f"trials={trials} is out of range; give 1 or more.")
    records, threshold = real_records(catalog)
    consumption = consumed(records, threshold, length, most_users)
    settings = {"catalog": catalog, "length": length, "trials": trials, "seed": seed}
    store.open_folder(output, settings | {"env": given_fields(env)}, overwrite=overwrite)
    base = given_fields(env) | {"catalog": catalog, "warmup_slates": _SLATES}
    base["num_users"] = max(int(_SPARE * len(consumption.items)), 20)
    base |= fitting_sizes(len(records.item_ids), EnvConfig.from_kwargs(base))
    start = _world(base, TUNING_WORLD)
    real = measured(consumption, start.text_vectors, start.catalog.topics)
    print(f"{len(consumption.items)} users with {length} items or more; {by_day(records)}")
    parameters = search(real, base, length, len(consumption.items), trials, seed)
    fields = ", ".join(f"{name!r}: {value!r}" for name, value in parameters.items())
    print(f"task: {{'catalog': {catalog!r}, {fields}}}", flush=True)
    size = length, len(consumption.items)
    fit = Fit(
        parameters,
        real,
        _intervals(_world(base, TEST_WORLDS[0]), *size),
        [_intervals(_world(base | parameters, world), *size) for world in TEST_WORLDS],
    )
    content = settings | {"users": size[1], "parameters": parameters, "misfit": fit.misfit()}
    usual, now = (busyness(_world(x, TEST_WORLDS[0])) for x in (base, base | parameters))
    print(f"{KEPT}: {usual:.2f} by default, {now:.2f} calibrated; no log tells it")
    study.publish("calibration", output, [table_of(fit)], records=rows_of(fit), content=content)
    return fit


class Row(NamedTuple):
    """A line of `calibration.csv`."""

    statistic: str
    real: Interval
    default: Interval
    calibrated: Interval
    """In the first test world."""
    standard_errors: float
    """Between calibrated and real, averaged over the test worlds."""


def rows_of(fit: Fit) -> list[Row]:
    """Returns real beside simulated, statistic by statistic."""
    misfit, first = fit.misfit(), fit.calibrated[0]
    return [Row(x, fit.real[x], fit.default[x], first[x], misfit[x]) for x in fit.real]


def real_records(catalog: str) -> tuple[Records, float]:
    """Returns the records of a catalogue's users, and the rating from which on one satisfies.

    Raises:
        RecordsError: there are no logs, or they have no times.
    """
    if catalog != "movielens" and not is_saved_world(catalog):
        raise RecordsError(
            f"catalog={catalog!r} comes without logs of real users; give movielens, or a world "
            "that python -m experiments world made of your own items and logs."
        )
    records = movielens_records() if catalog == "movielens" else load_records(catalog)
    if records.timestamp is None:
        raise RecordsError(f"{catalog}: the logs have no times; without them nothing moves.")
    return records, records.satisfying_rating


def consumed(records: Records, threshold: float, length: int, most_users: int) -> Consumption:
    """Returns the latest items of the users of records with times."""
    assert records.timestamp is not None
    rows = records.take(np.lexsort((records.timestamp, records.user)))
    user, item, satisfied = rows.clicks(threshold)
    return latest(user, item, satisfied, length, most_users)


def by_day(records: Records) -> str:
    """Returns how much of real time the logs cover, in words."""
    assert records.timestamp is not None
    is_consumed = (records.event != BROWSE) & (records.event != QUERY)
    days = np.unique(
        np.stack([records.user[is_consumed], records.timestamp[is_consumed] // 86_400]), axis=1
    )
    count = np.bincount(days[0].astype(np.int64))
    count = count[count > 0]
    return f"{np.mean(count == 1):.0%} of all users are there on one day only"


def search(
    real: Statistics,
    base: Mapping[str, Any],
    length: int,
    users: int,
    trials: int,
    seed: int,
) -> dict[str, Any]:
    """Returns the fields whose simulated logs are nearest to the real ones.

    Nearest by the mean distance in standard errors, in a world kept for tuning; the first trial is
    the defaults. Parameters within which too few users consume enough are refused.

    Args:
        real: statistics, with intervals.
        base: fields that every simulation has.
        length: M.
        users: that are simulated.
        trials: of the search.
        seed: of the search.
    """
    optuna = import_optuna()
    kept = busyness(_world(base, TUNING_WORLD))
    targets = {name: x for name, x in real.items() if name not in NOT_FITTED}
    targets[KEPT] = Interval(kept, 0.95 * kept, 1.05 * kept)

    def misfit(trial: Any) -> float:
        fields = suggested(trial)
        world = _world(dict(base) | fields, TUNING_WORLD)
        try:
            sums = sums_of(
                simulated(world, length, users), world.text_vectors, world.catalog.topics
            )
        except ValueError:  # users consume too little
            raise optuna.TrialPruned from None
        values = statistics_of(sums, np.ones((1, len(sums["satisfied"]))))
        found = {name: value[0] for name, value in values.items()} | {KEPT: busyness(world)}
        return float(np.mean(np.abs([*distances(targets, found).values()])))

    sampler = optuna.samplers.TPESampler(seed=seed, multivariate=True, n_startup_trials=30)
    fitting = optuna.create_study(sampler=sampler)
    defaults = EnvConfig()
    fitting.enqueue_trial(
        {name: getattr(defaults, name) for name in (*FITTED, "active_min")} | {"more_active": 2}
    )
    fitting.optimize(misfit, n_trials=trials)
    print(f"mean distance {fitting.trials[0].value:.2f} by default, {fitting.best_value:.2f} found")
    return suggested(fitting.best_trial)


def suggested(trial: Any) -> dict[str, Any]:
    """Returns the fields of a trial, to three digits."""
    import optuna

    if isinstance(trial, optuna.trial.FrozenTrial):
        trial = optuna.trial.FixedTrial(trial.params)
    fields: dict[str, Any] = {
        name: float(f"{trial.suggest_float(name, low, high, log=log):.3g}")
        for name, (low, high, log) in FITTED.items()
    }
    least = trial.suggest_int("active_min", 1, 6)
    most = min(least + trial.suggest_int("more_active", 0, 4), 6)
    return fields | {"active_min": least, "active_max": most}


def simulated(world: World, length: int, users: int) -> Consumption:
    """Returns the latest items of the users of a world, from its logs."""
    user, item, satisfied = world.logs.clicks(np.arange(len(world.users)))
    return latest(user, item, satisfied, length, users)


def busyness(world: World) -> float:
    """Returns the items consumed per logged slate."""
    return float((world.logs.feedback >= 0).sum() / world.logs.feedback[..., 0].size)


def table_of(fit: Fit) -> Table:
    """Returns the same in words and figures, with whether they fit."""
    rows = []
    for row in rows_of(fit):
        verdict = "fits" if abs(row.standard_errors) <= _FITS else "does NOT fit"
        verdict = "not fitted" if row.statistic in NOT_FITTED else verdict
        cells = [number(*x, decimals=3) for x in (row.real, row.default, row.calibrated)]
        rows.append([row.statistic, *cells, f"{row.standard_errors:+.1f}", verdict])
    heads = ["statistic", "real [95 %]", "defaults", "calibrated", "standard errors", "verdict"]
    return Table(heads, rows, "Real users beside simulated ones")


def _world(fields: Mapping[str, Any], seed: int) -> World:
    return load_world(EnvConfig.from_kwargs(dict(fields) | {"world_seed": seed}))


def _intervals(world: World, length: int, users: int) -> Statistics:
    return measured(simulated(world, length, users), world.text_vectors, world.catalog.topics)
