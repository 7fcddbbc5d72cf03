"""Sweeps of cells that may be killed at any moment, gone on with, and shared between processes.

All that processes know of each other lies in the folder: `cells.jsonl` has one line for each run
of a cell, and a process locks one byte of `cells.lock` while it runs one. The kernel drops that
lock when the process dies. Neither file holds what a user wrote.
"""

from __future__ import annotations

import contextlib
import dataclasses
import dis
import errno
import fcntl
import hashlib
import io
import json
import math
import os
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from joblib.externals.loky import FIRST_EXCEPTION, BrokenProcessPool, ProcessPoolExecutor, wait

import llmrec_env
from experiments.evaluation import Cell, Outcome, run_cell
from experiments.results import CELLS, CurvePoint, Episode, ResultsError

LOCK = "cells.lock"
Run = Callable[[Cell], "CellResult"]

_CELL = {field.name for field in dataclasses.fields(Cell)}
_CURVE = ("reward", "alive", "angle")
_JSON = json.JSONEncoder(sort_keys=True, separators=(",", ":"), allow_nan=False).encode
_OURS = ("llmrec_env", "agents", "experiments")
_ONE_THREAD = {f"{name}_NUM_THREADS": "1" for name in ("OMP", "OPENBLAS", "MKL")}
_LEAST_SESSIONS = 20
_POLL = 0.1  # seconds


@dataclass(frozen=True, slots=True)
class CellResult:
    """What is kept of a cell; of one that failed, the error alone."""

    cell: Cell
    episodes: list[Episode]
    curve: dict[str, list[float]]  # sums over sessions, (T,): of reward, alive, angle while alive
    seconds: dict[str, float]  # by what was done
    error: str | None = None


def result_of(outcome: Outcome) -> CellResult:
    """Returns what is kept of the outcome of a cell."""
    reward, alive, angle = (getattr(outcome.episodes, name) for name in _CURVE)
    sums = (reward.sum(axis=0), alive.sum(axis=0), np.where(alive, angle, 0.0).sum(axis=0))
    seconds = {"training": outcome.seconds_training, "playing": outcome.seconds_playing}
    curve = {name: total.tolist() for name, total in zip(_CURVE, sums, strict=True)}
    return CellResult(outcome.cell, outcome.rows(), curve, seconds)


def run_and_keep(cell: Cell) -> CellResult:
    """Trains and plays a cell, and returns what is kept of it."""
    return result_of(run_cell(cell))


def curve_points(found: Sequence[CellResult]) -> list[CurvePoint]:
    """Returns the means over users, worlds and seeds at each step, for one task and agent."""
    cell, sessions = found[0].cell, sum(len(result.episodes) for result in found)
    reward, alive, angle = (np.sum([x.curve[name] for x in found], axis=0) for name in _CURVE)
    # Fewer sessions than this make a curve that shows who happened to stay.
    mean_angle = np.where(alive >= _LEAST_SESSIONS, angle / np.maximum(alive, 1), math.nan)
    columns = (reward / sessions, alive / sessions, mean_angle)
    steps = zip(*(column.tolist() for column in columns), strict=True)
    return [CurvePoint(cell.task, cell.agent, step, *means) for step, means in enumerate(steps)]


def run_sweep(
    cells: Sequence[Cell],
    folder: Path,
    *,
    jobs: int = 1,
    run: Run = run_and_keep,
    on_done: Callable[[CellResult], None] | None = None,
) -> list[CellResult]:
    """Runs the cells that the folder has no results of, and returns all results in their order.

    Other processes may sweep the folder at the same time; no two run the same cell (two threads of
    one process may). A cell that raises is kept as failed, and run again by the next sweep.

    Args:
        cells: what to run.
        folder: of `cells.jsonl`; created.
        jobs: processes; if more than 1, `run` must be picklable.
        run: runs one cell.
        on_done: called once for each different cell when its result is there, whoever ran it.

    Raises:
        ResultsError: the folder is of no use, full, damaged or of another version; it names which.
    """
    if jobs < 1:
        raise ValueError(f"jobs={jobs!r} is not a positive number of processes.")
    keys = [_key(dataclasses.asdict(cell)) for cell in cells]
    left, found = dict(zip(keys, cells, strict=True)), {}

    def settle(results: Iterable[tuple[str, CellResult]]) -> None:
        for key, result in results:
            if cell := left.pop(key, None):
                found[key] = dataclasses.replace(result, cell=cell)
                if on_done:
                    on_done(found[key])

    with _storing(folder):
        folder.mkdir(parents=True, exist_ok=True)
    lines = _Lines(folder / CELLS)
    settle((key, result) for key, result in lines.read() if not result.error)
    if left:
        work = _Work(dict(left), folder / LOCK, run, dataclasses.replace(lines))
        _in_processes(min(jobs, len(left)), work, lambda: settle(lines.read()))
    return [found[key] for key in keys]


@dataclass(frozen=True)
class _Work:
    cells: dict[str, Cell]
    lock: Path
    run: Run
    lines: _Lines  # a line after these settles its cell, failed or not

    def do(self, report: Callable[[], None] = lambda: None) -> None:
        """Runs what nobody else runs, until there is a line for each cell."""
        with _storing(self.lines.path):
            open(self.lines.path, "ab").close()  # what cannot be written fails before a cell is run
        left = dict(self.cells)
        while left:
            for key in list(left):
                self._settle(key, left)
                report()
            if left:  # others are at work on them, or have died
                time.sleep(_POLL)

    def _settle(self, key: str, left: dict[str, Cell]) -> None:
        """Runs a cell, unless another process does or did."""
        with _storing(self.lock), open(self.lock, "ab") as lock:
            try:
                fcntl.lockf(lock, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, int(key[:15], 16))
            except (BlockingIOError, PermissionError):
                return
            for known, _ in self.lines.read():
                left.pop(known, None)
            if cell := left.pop(key, None):
                self.lines.append(_attempt(key, cell, self.run))


def _in_processes(jobs: int, work: _Work, report: Callable[[], None]) -> None:
    if jobs == 1:
        return work.do(report)
    pool = ProcessPoolExecutor(max_workers=jobs, env=_ONE_THREAD)
    try:
        running = {pool.submit(_work_under, os.getpid(), work) for _ in range(jobs)}
        while running:
            ended, running = wait(running, _POLL, FIRST_EXCEPTION)
            report()
            for future in ended:
                future.result()
    except BrokenProcessPool as error:
        raise ResultsError("a process died (memory?); run again with fewer jobs.") from error
    finally:
        pool.shutdown(wait=True, kill_workers=True)


def _work_under(parent: int, work: _Work) -> None:
    """Works in a process that ends when its parent does, however that one dies."""

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(_POLL)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
    work.do()


def _attempt(key: str, cell: Cell, run: Run) -> bytes:
    try:
        return _line(key, cell, run(cell))
    except Exception as error:
        message = _described(error, run)
        return _line(key, cell, CellResult(cell, [], {}, {}, message))


def _described(error: Exception, run: Run) -> str:
    """The type, and the message if a `raise` of ours made it: others may quote a user's text."""
    trace = error.__traceback__
    while trace and trace.tb_next:
        trace = trace.tb_next
    if isinstance(error, ValueError) and trace:
        code, module = trace.tb_frame.f_code, trace.tb_frame.f_globals.get("__name__", "")
        ours = module.split(".")[0] in _OURS or module == getattr(run, "__module__", None)
        if ours and code.co_code[trace.tb_lasti] == dis.opmap["RAISE_VARARGS"]:
            return f"{type(error).__name__}: {error}"
    return type(error).__name__


@dataclass
class _Lines:
    """What was added to a file since the last look, whole lines only."""

    path: Path
    end: int = 0
    count: int = 0

    def read(self) -> list[tuple[str, CellResult]]:
        """Returns keys and results of the new lines."""
        with _storing(self.path), contextlib.suppress(FileNotFoundError):
            with open(self.path, "rb", buffering=0) as file:
                fcntl.flock(file, fcntl.LOCK_SH)  # a line that is being written may be taken back
                data = self._rest(file)
            whole = data.split(b"\n")[:-1]
            first, self.count = self.count + 1, self.count + len(whole)
            self.end += data.rfind(b"\n") + 1
            return [_parsed(f"{self.path}, line {n}", line) for n, line in enumerate(whole, first)]
        return []

    def append(self, line: bytes) -> None:
        """Adds a line, whole or not at all, in place of what a process that died left of its."""
        with _storing(self.path), open(self.path, "a+b", buffering=0) as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            end = self.end + self._rest(file).rfind(b"\n") + 1
            file.truncate(end)
            try:
                while line:
                    line = line[file.write(line) :]
                os.fsync(file.fileno())
            except BaseException:
                file.truncate(end)
                raise

    def _rest(self, file: io.FileIO) -> bytes:
        if file.seek(0, os.SEEK_END) < self.end:
            raise ResultsError(f"{self.path}: was shortened or deleted meanwhile; run again.")
        file.seek(self.end)
        return file.readall()


def _key(cell: dict[str, Any]) -> str:
    try:
        text = _JSON({"cell": cell, "version": llmrec_env.__version__})
    except (TypeError, ValueError) as error:
        raise ResultsError(f"a cell is not JSON data ({error}); pass plain values.") from None
    return hashlib.sha256(text.encode()).hexdigest()


def _line(key: str, cell: Cell, result: CellResult) -> bytes:
    rows = [_nulls(dataclasses.astuple(row)) for row in result.episodes]
    curve = {name: _nulls(sums) for name, sums in result.curve.items()}
    record = dict(key=key, version=llmrec_env.__version__, cell=dataclasses.asdict(cell))
    record |= dict(episodes=rows, curve=curve, seconds=result.seconds, error=result.error)
    return _JSON(record).encode() + b"\n"


def _parsed(where: str, line: bytes) -> tuple[str, CellResult]:
    try:
        record = json.loads(line.decode())
        cell, version = record["cell"], record["version"]
        other = [f"field {name} of a cell" for name in sorted({*cell} ^ _CELL)]
        if version != llmrec_env.__version__:
            other.append(f"version ({version}, this is {llmrec_env.__version__})")
        if not other:
            if record["key"] != _key(cell):
                raise ValueError
            rows = [Episode(*_nans(row)) for row in record["episodes"]]
            curve = {name: _nans(sums) for name, sums in record["curve"].items()}
            result = CellResult(Cell(**cell), rows, curve, record["seconds"], record["error"])
            return record["key"], result
    except (ValueError, TypeError, KeyError, AttributeError):
        raise ResultsError(f"{where}: torn or altered; delete that line, run again.") from None
    raise ResultsError(f"{where}: differs in {', '.join(other)}; name another folder.")


def _nulls(values: Iterable[Any]) -> list[Any]:
    return [None if isinstance(x, float) and math.isnan(x) else x for x in values]


def _nans(values: Iterable[Any]) -> list[Any]:
    return [math.nan if x is None else x for x in values]


@contextlib.contextmanager
def _storing(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        fix = "make room and run again, results stay" if full else "name a folder that is writable"
        raise ResultsError(f"{path}: {error.strerror}; {fix}.") from None
