"""How the cost of an environment step grows with each size, the others being equal."""

from __future__ import annotations

import time
from typing import Any, NamedTuple

import gymnasium
import numpy as np
import numpy.typing as npt

import llmrec_env  # noqa: F401, registers the environments
from experiments.report.text_tables import Cell, Column, Table, number

SIZES: dict[str, tuple[int, ...]] = {
    "num_envs": (64, 256, 1024, 4096),
    "num_items": (1000, 4000, 16_000),
    "num_users": (1000, 4000, 10_000),
    "candidates": (50, 100, 200, 400),
    "slate_size": (2, 5, 10, 20),
    "dim": (32, 64, 128),
}
"""What grows, and to what."""
_DEFAULTS: dict[str, Any] = {
    "num_envs": 1024,
    "num_items": 4000,
    "num_users": 4000,
    "candidates": 100,
    "encoder": "hashing",
    "horizon": 50,
}
_STEPS, _REPEATS = 20, 5


class Growth(NamedTuple):
    """What a step of one session costs at each size, and the power by which it grows."""

    parameter: str
    sizes: tuple[int, ...]
    microseconds: tuple[float, ...]
    """CPU time of a step of one session, with its share of the batch."""
    exponent: float
    """Slope of the logarithms (least squares); 1: in proportion, 0: not at all."""


def measure_growth(sizes: dict[str, tuple[int, ...]] = SIZES, **settings: Any) -> list[Growth]:
    """Returns the growth of the cost of a step with each parameter.

    Args:
        sizes: values of each parameter, at least two.
        **settings: of the environment, for all.
    """
    rows = []
    for parameter, values in sizes.items():
        changed = [_DEFAULTS | settings | {parameter: value} for value in values]
        times = tuple(_step_time(**settings) for settings in changed)
        slope = np.polyfit(np.log(values), np.log(times), 1)[0]
        rows.append(Growth(parameter, values, times, float(slope)))
    return rows


def growth_table(rows: list[Growth]) -> Table:
    """Returns the growths as a table."""

    def told(row: Growth) -> Cell:
        pairs = zip(row.sizes, row.microseconds, strict=True)
        return Cell(", ".join(f"{size:,}: {time:.1f}" for size, time in pairs))

    columns = [
        Column("parameter", lambda x: x.parameter),
        Column("microseconds of CPU for a step of one session", told),
        Column("exponent", lambda x: number(x.exponent)),
    ]
    return Table.of(columns, rows, "growth of the cost of a step, the other sizes being equal", 2)


def sampled_actions(space: gymnasium.Space[Any], count: int) -> list[npt.NDArray[Any]]:
    """Returns some actions of a space, the same at every call."""
    space.seed(0)
    return [space.sample() for _ in range(count)]


def _step_time(num_envs: int, **settings: Any) -> float:
    """Least CPU time of a step of one session over some repeats, in microseconds."""
    made = gymnasium.make_vec("llmrec/Drift-v1", num_envs=num_envs, **settings)
    env: Any = made.unwrapped
    actions = sampled_actions(env.action_space, 8)
    times = []
    for _ in range(1 + _REPEATS):  # the first compiles and warms up
        env.reset(seed=0)
        started = time.process_time()
        for t in range(_STEPS):
            env.step(actions[t % len(actions)])
        times.append(time.process_time() - started)
    env.close()
    return min(times[1:]) / (_STEPS * num_envs) * 1e6
