"""Where the cells of a sweep run: in processes of this machine, or on a Ray cluster."""

from __future__ import annotations

import contextlib
import logging
import os
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import joblib
from joblib.externals.loky import FIRST_EXCEPTION, BrokenProcessPool, ProcessPoolExecutor, wait

import agents
import experiments
import llmrec_env
from experiments.runs.spec import RunSpec, from_line
from experiments.runs.claims import Claims, Run, Work, attempt
from experiments.store import ResultsError

Report = Callable[[], None]
"""Called again and again while cells run, to look at what there is."""

ONE_THREAD = {f"{name}_NUM_THREADS": "1" for name in ("OMP", "OPENBLAS", "MKL")}
_POLL = 0.1  # seconds
_CONNECT_TIMEOUT = 3.0  # seconds


def run_locally(work: Work, jobs: int, report: Report) -> None:
    """Returns when there is a line for each cell, run here or by others.

    Raises:
        ResultsError: a process died, or the folder cannot be written.
    """
    if jobs == 1:
        return _work_alone(work, report)
    pool = ProcessPoolExecutor(max_workers=jobs, env=ONE_THREAD)
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


def _work_alone(work: Work, report: Report = lambda: None) -> None:
    with Claims(work) as claims:
        while claims.left:
            for key, spec in claims.free():
                claims.keep(key, attempt(key, spec, work.run))
                report()
            report()
            if claims.left:  # others are at work on them, or have died
                time.sleep(_POLL)


def _work_under(parent: int, work: Work) -> None:
    end_with(parent)
    _work_alone(work)


def end_with(parent: int) -> None:
    """Ends this process when its parent does, however that one dies."""

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(_POLL)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def run_on_ray(work: Work, jobs: int, address: str | None, report: Report) -> None:
    """Returns when there is a line for each cell, run on the cluster or by others.

    This process alone claims cells and keeps results, so workers need not see the folder.

    Raises:
        ResultsError: Ray or the cluster cannot be used, a worker died, or the folder cannot be
            written.
    """
    with Claims(work) as claims, _cluster(jobs, address):
        while claims.left:
            for key, line in _from_ray(claims, jobs, work.run):
                from_line("a line of a Ray worker", line)  # it may run other code
                claims.keep(key, line)
                report()
            report()
            if claims.left:
                time.sleep(_POLL)


def _from_ray(claims: Claims, jobs: int, run: Run) -> Iterator[tuple[str, bytes]]:
    """Yields keys and lines as they come, of all cells that can be claimed now."""
    from ray.exceptions import RayError

    backend = _ray_backend()
    calls = (
        joblib.delayed(_attempt)(key, spec, run)
        for key, spec in claims.free()
        if backend.failure is None
    )
    # joblib runs what has one job in this process; two workers, of which one is busy, are no fewer.
    options: dict[str, Any] = {"n_jobs": max(jobs, 2), "pre_dispatch": jobs, "batch_size": 1}
    outcomes: Any = joblib.Parallel(**options, backend=backend, return_as="generator_unordered")(calls)
    for outcome in outcomes:
        if not isinstance(outcome, RayError):
            yield outcome
    if backend.failure:
        raise ResultsError(
            f"a Ray worker died (memory?) or lacks packages ({type(backend.failure).__name__}); "
            "what others ran is kept, run again with fewer jobs or on other machines."
        )


def _attempt(key: str, spec: RunSpec, run: Run) -> tuple[str, bytes]:
    return key, attempt(key, spec, run)


def _ray_backend() -> Any:
    """Ray's joblib backend, but giving results as they come, and cells to workers that are free."""
    from ray.exceptions import RayError
    from ray.util.joblib.ray_backend import RayBackend

    class AsCompleted(RayBackend):
        supports_return_generator = True
        failure: RayError | None = None

        def configure(self, *arguments: Any, **settings: Any) -> int:
            workers = super().configure(*arguments, **settings)
            self._free = list(range(workers))
            return workers

        def submit(self, func: Any, callback: Any = None) -> Any:
            worker = self._free.pop()

            def done(result: Any) -> None:
                self._free.append(worker)
                callback(result)

            pool: Any = self._pool
            pool._current_index = worker - 1  # Ray's pool takes the next one, busy or not
            return super().submit(func, done)

        def retrieve_result_callback(self, result: Any) -> Any:
            if isinstance(result, RayError):  # not raised: the other workers finish their cells
                self.failure = result
                return [result]
            return super().retrieve_result_callback(result)

    return AsCompleted(ray_remote_args={"num_cpus": 1})


@contextlib.contextmanager
def _cluster(jobs: int, address: str | None) -> Iterator[None]:
    """Connects to a cluster, or starts one; leaves or stops it at the end."""
    try:
        import ray
    except ImportError:
        raise ResultsError(
            "engine='ray' needs Ray, which is not installed; pip install 'llmrec-env[cluster]'."
        ) from None
    if address is None:
        where = {"address": "local", "num_cpus": max(jobs, 2), "include_dashboard": False}
        path = os.pathsep.join(os.path.abspath(folder) for folder in sys.path)
        code: dict[str, Any] = {"env_vars": {**ONE_THREAD, "PYTHONPATH": path}}
    else:
        _check_reachable(address)
        where = {"address": address}
        packages = [str(Path(package.__path__[0])) for package in (llmrec_env, agents, experiments)]
        code = {"env_vars": ONE_THREAD, "py_modules": packages}
    quiet = {"log_to_driver": False, "logging_level": logging.ERROR}
    try:
        ray.init(**where, **quiet, runtime_env=code)
    except Exception as error:  # Ray's kinds are many, assertions among them
        raise ResultsError(
            f"Ray at {address or 'this machine'} cannot be used ({type(error).__name__}); see "
            "`ray status`. If it wants a token, set RAY_AUTH_MODE=token and RAY_AUTH_TOKEN."
        ) from error
    try:
        cpus = int(ray.cluster_resources().get("CPU", 0))
        if cpus < max(jobs, 2):
            raise ResultsError(
                f"jobs={jobs} needs {max(jobs, 2)} CPUs and the cluster has {cpus}; lower jobs."
            )
        yield
    finally:
        ray.shutdown()


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
