"""Execution of runs: in processes of this machine with joblib, or on a Ray cluster.

Processes agree through the folder alone. `runs/KEY.json` is the result of a run and appears whole;
who works on it holds a lock (flock) on `runs/KEY.lock`. The kernel drops that lock when its owner
dies, SIGKILL included, so that no claim outlives its owner. A lock file that named its owner could
be left half written by a kill, and the number of a dead process may be given to another.
"""

from __future__ import annotations

import contextlib
import fcntl
import functools
import logging
import os
import socket
import sys
import threading
import time
import traceback
import warnings
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import joblib

import agents
import experiments
import llmrec_env
from experiments.runs.spec import RunResult, RunSpec, from_file, to_file
from experiments.store import ResultsError, storing, write_file

Execute = Callable[[RunSpec], RunResult]

POLL = 0.1  # seconds
_CONNECT_TIMEOUT = 3.0  # seconds
_ONE_THREAD = {f"{name}_NUM_THREADS": "1" for name in ("OMP", "OPENBLAS", "MKL")}
_OURS = ("llmrec_env", "agents", "experiments")


@dataclass(frozen=True)
class Task:
    """A run that a sweep waits for."""

    spec: RunSpec
    path: Path
    """File of its result."""
    execute: Execute
    failure: tuple[int, int] | None = None
    """Which file holds a failure from before the sweep, to be tried again."""

    def generation(self) -> tuple[int, int] | None:
        """Returns what tells the file of the result from one that replaces it; None: no file."""
        with storing(self.path), contextlib.suppress(FileNotFoundError):
            status = self.path.stat()
            return status.st_ino, status.st_mtime_ns
        return None

    def result(self) -> RunResult | None:
        """Returns the result, failed or not; None while there is none."""
        if self.generation() in (None, self.failure):
            return None
        with storing(self.path):
            return from_file(self.path, self.path.read_bytes(), key=self.path.stem)

    @contextlib.contextmanager
    def claimed(self) -> Iterator[bool]:
        """Yields whether the run is this process's to do; while it lasts no other one does it."""
        lock = self.path.with_suffix(".lock")
        with storing(lock), open(lock, "ab") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                yield False
                return
            # An owner that ended meanwhile deleted the file: this lock keeps nobody out.
            if not _is_open_as(file.fileno(), lock):
                yield False
                return
            try:
                yield self.generation() in (None, self.failure)
            finally:
                lock.unlink(missing_ok=True)

    def run(self) -> None:
        """Executes the run and keeps its result, unless another process does or did."""
        with self.claimed() as mine:
            if mine:
                write_file(self.path, attempt(self.spec, self.execute))


def _is_open_as(descriptor: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except FileNotFoundError:
        return False


def attempt(spec: RunSpec, execute: Execute) -> bytes:
    """Returns the file of the result of a run, or of its failure."""
    try:
        return to_file(execute(spec))
    except Exception as error:
        return to_file(RunResult(spec, error=_described(error)))


def _described(error: Exception) -> str:
    """The type, and the message of a type of ours: others may quote what a user wrote."""
    name = type(error).__name__
    if type(error).__module__.split(".")[0] in _OURS:
        return f"{name}: {error}"
    for frame, line in reversed([*traceback.walk_tb(error.__traceback__)]):
        module = str(frame.f_globals.get("__name__"))
        if module.split(".")[0] in _OURS:
            return f"{name} in {module}, line {line}"
    return name


Perform = Callable[[list[Task]], Iterator[Any]]
"""Runs those of some tasks that nobody else runs, and yields after each."""


def perform_here(tasks: list[Task]) -> Iterator[None]:
    """Runs tasks in this process, one after another."""
    for task in tasks:
        yield task.run()


def perform_in_processes(tasks: list[Task], jobs: int) -> Iterator[Any]:
    """Runs tasks in processes of their own."""
    return in_processes(Task.run, [(task,) for task in tasks], jobs)


def in_processes(
    function: Callable[..., Any], calls: Sequence[tuple[Any, ...]], jobs: int
) -> Iterator[Any]:
    """Calls a function in processes of one thread each, which end with this one.

    Yields:
        What a call returned, as soon as it has.

    Raises:
        ResultsError: a process died.
    """
    call = joblib.delayed(_call_under)
    options: dict[str, Any] = {"batch_size": 1, "pre_dispatch": jobs}
    with joblib.parallel_config("loky", inner_max_num_threads=1), warnings.catch_warnings():
        # loky replaces a worker that has grown by 300 MB, as it does by building a world, and warns
        # in its manager thread; where warnings are errors that thread ends, and we would wait.
        warnings.filterwarnings("ignore", "A worker stopped while some jobs", UserWarning)
        pool = joblib.Parallel(jobs, return_as="generator_unordered", **options)
        try:
            yield from pool(call(os.getpid(), function, arguments) for arguments in calls)
        except BrokenProcessPool as error:
            raise ResultsError(
                "a process died (memory?); run again with fewer jobs, what ended is kept."
            ) from error


def _call_under(parent: int, function: Callable[..., Any], arguments: tuple[Any, ...]) -> Any:
    _end_with(parent)
    return function(*arguments)


@functools.cache
def _end_with(parent: int) -> None:
    """Ends this process when its parent does, however that one dies."""

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(POLL)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


@contextlib.contextmanager
def ray_cluster(jobs: int, address: str | None) -> Iterator[Perform]:
    """Yields what runs tasks on a Ray cluster: the one at an address, or one of this machine.

    This process alone claims runs and keeps results, so workers need not see the folder.

    Raises:
        ResultsError: Ray or the cluster cannot be used.
    """
    try:
        import ray
    except ImportError:
        raise ResultsError(
            "engine='ray' needs Ray, which is not installed; pip install 'llmrec-env[cluster]'."
        ) from None
    if address is None:
        options: dict[str, Any] = {
            "address": "local",
            "num_cpus": jobs,
            "include_dashboard": False,
        }
        path = os.pathsep.join(os.path.abspath(folder) for folder in sys.path)
        code: dict[str, Any] = {"env_vars": _ONE_THREAD | {"PYTHONPATH": path}}
    else:
        _check_reachable(address)
        options = {"address": address}
        packages = [str(Path(package.__path__[0])) for package in (llmrec_env, agents, experiments)]
        code = {"env_vars": _ONE_THREAD, "py_modules": packages}
    try:
        ray.init(**options, log_to_driver=False, logging_level=logging.ERROR, runtime_env=code)
    except Exception as error:  # Ray's kinds are many, assertions among them
        raise ResultsError(
            f"Ray at {address or 'this machine'} cannot be used ({type(error).__name__}); see "
            "`ray status`. If it wants a token, set RAY_AUTH_MODE=token and RAY_AUTH_TOKEN."
        ) from error
    try:
        if jobs > (cpus := int(ray.cluster_resources().get("CPU", 0))):
            raise ResultsError(
                f"jobs={jobs} is more than the {cpus} CPUs of the cluster; lower it."
            )
        yield functools.partial(_perform_on_ray, jobs=jobs)
    finally:
        ray.shutdown()


def _perform_on_ray(tasks: list[Task], jobs: int) -> Iterator[None]:
    import ray
    from ray.exceptions import RayError

    remote: Any = ray.remote(num_cpus=1, max_retries=0)(attempt)
    waiting = iter(tasks)
    running: dict[Any, tuple[Task, contextlib.ExitStack]] = {}
    failure: RayError | None = None
    try:
        while True:
            while failure is None and len(running) < jobs and (task := next(waiting, None)):
                claim = contextlib.ExitStack()
                if claim.enter_context(task.claimed()):
                    running[remote.remote(task.spec, task.execute)] = task, claim
                else:
                    claim.close()
            if not running:
                break
            (ended,), _ = ray.wait(list(running))
            task, claim = running.pop(ended)
            with claim:
                try:
                    content = ray.get(ended)
                    from_file(Path("a result from a Ray worker"), content)  # it may run other code
                    write_file(task.path, content)
                except RayError as error:  # the other workers finish their runs
                    failure = error
            yield
    finally:
        for _, claim in running.values():
            claim.close()
    if failure:
        raise ResultsError(
            f"a Ray worker died (memory?) or lacks packages ({type(failure).__name__}); "
            "what others ran is kept, run again with fewer jobs or on other machines."
        )


def _check_reachable(address: str) -> None:
    """Ray itself tries for minutes, and may end the process."""
    address = os.environ.get("RAY_ADDRESS", address) if address == "auto" else address
    if address == "auto":
        return
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if not host or not port.isdigit():
        raise ResultsError(
            f"address={address!r} is none of 'host:port', 'ray://host:port', 'auto'; see the last "
            "lines of `ray start --head`."
        )
    try:
        socket.create_connection((host, int(port)), _CONNECT_TIMEOUT).close()
    except (OSError, OverflowError) as error:
        raise ResultsError(
            f"no Ray cluster answers at address={address!r} ({type(error).__name__}); start one "
            "with `ray start --head`, or leave the address out to use this machine."
        ) from None
