"""Progress of a sweep: one bar with the time that is left, or a line a run where no terminal is."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, Progress, ProgressColumn, Task, TextColumn, TimeElapsedColumn
from rich.text import Text

from experiments.runs.cost import seconds_of
from experiments.runs.spec import RunSpec, key_of

_TRUST = 20.0
"""Seconds of work that the expected cost of runs counts for, beside what was measured."""


class _Shown(ProgressColumn):
    """A text that is asked for anew whenever the bar is drawn, so that it counts down."""

    def __init__(self, text: Callable[[], str]) -> None:
        super().__init__()
        self._text = text

    def render(self, task: Task) -> Text:
        return Text(self._text())


class SweepProgress:
    """A bar over the expected seconds of all runs, so that a long run is a long way."""

    def __init__(self, specs: Sequence[RunSpec], jobs: int, console: Console | None = None) -> None:
        """Shows nothing yet; use it as a context.

        Args:
            specs: the runs.
            jobs: how many are done at a time.
            console: where to show it; standard output by default.
        """
        self._costs = {key_of(spec): seconds_of(spec) for spec in specs}
        self._jobs, self._settled, self._total = jobs, 0, sum(self._costs.values())
        self._done = self._found = 0.0  # seconds of work, and what of it earlier sweeps did
        self._started = self._due = time.monotonic()
        self._console = console or Console()
        columns = (TextColumn("{task.description}"), BarColumn(bar_width=14), _Shown(self._count))
        self._progress = Progress(
            *columns,
            TimeElapsedColumn(),
            _Shown(self._left),
            console=self._console,
            disable=not self._console.is_terminal,
        )
        self._bar = self._progress.add_task("starting", total=self._total)

    def __enter__(self) -> Self:
        """Shows the bar, and begins to measure."""
        self._started = time.monotonic()
        self._progress.start()
        self._draw("starting")
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Leaves the bar as it is."""
        self._progress.stop()

    def advance(self, spec: RunSpec, share: float) -> None:
        """Shows which run is under way, and which share of it is done."""
        self._draw(_name(spec), share * self._costs[key_of(spec)])

    def settle(self, spec: RunSpec, found: bool = False) -> None:
        """Counts a run that has its result.

        Args:
            spec: the run.
            found: it was done by an earlier sweep, which tells nothing of the speed of this one.
        """
        cost = self._costs[key_of(spec)]
        self._settled += 1
        self._done += cost
        self._found += cost * found
        self._draw(_name(spec))
        if not (found or self._console.is_terminal):
            line = f"{self._count()}, {self._left()}: {_name(spec)}"
            self._console.print(line, highlight=False, soft_wrap=True)

    def _draw(self, name: str, within: float = 0.0) -> None:
        self._due = time.monotonic() + self._expected(within)
        self._progress.update(self._bar, description=name, completed=self._done + within)

    def _expected(self, within: float) -> float:
        """Seconds to the end, by what runs were thought to cost and what they did cost."""
        spent = self._jobs * (time.monotonic() - self._started)
        worked = self._done - self._found + within
        slowness = (spent + _TRUST) / (worked + _TRUST)
        return max(0.0, self._total - self._done - within) * slowness / self._jobs

    def _count(self) -> str:
        return f"{self._settled} of {len(self._costs)} runs"

    def seconds_left(self) -> float:
        """Returns about how long it is to the end."""
        return max(0.0, self._due - time.monotonic())

    def _left(self) -> str:
        minutes, seconds = divmod(round(self.seconds_left()), 60)
        return f"about {minutes}:{seconds:02} left"


def _name(spec: RunSpec) -> str:
    return f"{spec.name} world {spec.world} {spec.agent}"
