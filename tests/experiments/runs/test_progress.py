"""The bar of a sweep: what it shows where there is a terminal, and what a log gets."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from experiments.runs import progress
from experiments.runs.cost import seconds_of
from experiments.runs.progress import SweepProgress
from experiments.runs.spec import RunSpec

SPECS = [RunSpec("llmrec/Drift-v1", name, 0, users=100) for name in ("random", "content", "joint")]


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch):
    """The seconds that have gone by, to be set."""
    now = [0.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    return now


def in_a_log() -> tuple[io.StringIO, Console]:
    log = io.StringIO()
    return log, Console(file=log, force_terminal=False)


def test_a_log_has_a_line_a_run_with_the_time_that_is_left(clock):
    log, console = in_a_log()
    with SweepProgress(SPECS, 1, console) as sweep:
        for spec in SPECS:
            clock[0] += seconds_of(spec)
            sweep.advance(spec, 0.5)
            sweep.settle(spec)
    left = round(seconds_of(SPECS[1]) + seconds_of(SPECS[2]))
    assert log.getvalue().splitlines() == [
        f"1 of 3 runs, about 0:{left:02} left: llmrec/Drift-v1 world 0 random",
        f"2 of 3 runs, about 0:{round(seconds_of(SPECS[2])):02} left: "
        "llmrec/Drift-v1 world 0 content",
        "3 of 3 runs, about 0:00 left: llmrec/Drift-v1 world 0 joint",
    ]


def test_the_time_left_follows_the_speed_of_this_machine(clock):
    def left(slowness: float, jobs: int = 1, found: bool = False) -> float:
        with SweepProgress(SPECS[1:], jobs, in_a_log()[1]) as sweep:
            sweep.settle(SPECS[1], found)
            clock[0] += slowness * seconds_of(SPECS[1])
            sweep.advance(SPECS[2], 0.0)
            return sweep.seconds_left()

    assert left(1.0) == pytest.approx(seconds_of(SPECS[2]))
    assert left(3.0) > 1.2 * left(1.0)
    assert left(1.0, jobs=2) == pytest.approx(left(2.0) / 2)
    assert left(0.0, found=True) == pytest.approx(seconds_of(SPECS[2]))


def test_a_terminal_has_one_bar_which_counts_down(clock):
    screen = io.StringIO()
    console = Console(file=screen, force_terminal=True, width=120, force_interactive=False)
    with SweepProgress(SPECS, 1, console) as sweep:
        before = sweep.seconds_left()
        clock[0] += 2.0
        assert sweep.seconds_left() == pytest.approx(before - 2.0)
        sweep.settle(SPECS[0])
    (line,) = [line for line in screen.getvalue().splitlines() if "runs" in line]
    assert "random" in line and "1 of 3 runs" in line and "left" in line
