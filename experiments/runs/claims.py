"""Which process runs which cell, and the lines in which results are kept.

All that processes know of each other lies in the folder: `cells.jsonl` has one line for each run
of a cell, and a process locks one byte of `cells.lock` while it runs one. The kernel drops that
lock when the process dies. Neither file holds what a user wrote.
"""

from __future__ import annotations

import contextlib
import dataclasses
import dis
import fcntl
import io
import os
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from experiments.runs.spec import RunSpec, RunResult, from_line, to_line
from experiments.store import ResultsError, storing

LOCK = "cells.lock"
Run = Callable[[RunSpec], RunResult]

_OURS = ("llmrec_env", "agents", "experiments")


@dataclass(frozen=True)
class Work:
    """Cells to run, and where processes agree on who runs which."""

    specs: dict[str, RunSpec]
    lock: Path
    run: Run
    lines: Lines
    """A line after these settles its cell, failed or not."""


class Claims:
    """The cells of some work that this process has locked, until each one's result is kept."""

    def __init__(self, work: Work) -> None:
        """Claims nothing yet; what cannot be written fails here, before a cell is run."""
        self.left = dict(work.specs)
        self._lines, self._path = dataclasses.replace(work.lines), work.lock
        self._guard = threading.Lock()  # Ray's threads claim while the main one keeps
        with storing(self._lines.path):
            open(self._lines.path, "ab").close()
        # One file for all: closing any drops every lock that the process has on it.
        with storing(self._path):
            self._lock = open(self._path, "ab")

    def __enter__(self) -> Claims:
        return self

    def __exit__(self, *_: Any) -> None:
        self._lock.close()

    def free(self) -> Iterator[tuple[str, RunSpec]]:
        """Yields each cell that nobody runs or ran, locked; goes once over what is left."""
        for key in list(self.left):
            with self._guard:
                spec = self._claim(key)
            if spec:
                yield key, spec

    def keep(self, key: str, line: bytes) -> None:
        """Adds the line of a claimed cell and lets go of it."""
        with self._guard:
            self._lines.append(line)
            self.left.pop(key, None)
            self._release(key)

    def _claim(self, key: str) -> RunSpec | None:
        with storing(self._path):
            try:
                fcntl.lockf(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, _byte(key))
            except (BlockingIOError, PermissionError):
                return None
        for known, _ in self._lines.read():
            self.left.pop(known, None)
        if key not in self.left:
            self._release(key)
        return self.left.get(key)

    def _release(self, key: str) -> None:
        fcntl.lockf(self._lock, fcntl.LOCK_UN, 1, _byte(key))


def attempt(key: str, spec: RunSpec, run: Run) -> bytes:
    """Returns the line of a cell that is run, or that failed."""
    try:
        return to_line(key, run(spec))
    except Exception as error:
        message = _described(error, run)
        return to_line(key, RunResult(spec, error=message))


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


def _byte(key: str) -> int:
    return int(key[:15], 16)


@dataclass
class Lines:
    """What was added to a file since the last look, whole lines only."""

    path: Path
    end: int = 0
    count: int = 0

    def read(self) -> list[tuple[str, RunResult]]:
        """Returns keys and results of the new lines."""
        with storing(self.path), contextlib.suppress(FileNotFoundError):
            with open(self.path, "rb", buffering=0) as file:
                fcntl.flock(file, fcntl.LOCK_SH)  # a line that is being written may be taken back
                data = self._rest(file)
            whole = data.split(b"\n")[:-1]
            first, self.count = self.count + 1, self.count + len(whole)
            self.end += data.rfind(b"\n") + 1
            return [
                from_line(f"{self.path}, line {n}", line) for n, line in enumerate(whole, first)
            ]
        return []

    def append(self, line: bytes) -> None:
        """Adds a line, whole or not at all, in place of what a process that died left of its."""
        with storing(self.path), open(self.path, "a+b", buffering=0) as file:
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
