import contextlib
import dataclasses
import hashlib
import importlib.util
import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from made_up import child, end, fake, go, is_running, plan, records_of, tables, wait_for

from experiments.runs.runner import run_sweep
from experiments.runs.spec import RunResult, RunSpec
from experiments.store import ResultsError

needs_ray = pytest.mark.skipif(
    importlib.util.find_spec("ray") is None, reason="Ray is not installed (extra `cluster`)"
)


def threads(spec: RunSpec) -> RunResult:
    return dataclasses.replace(fake(spec), seconds={"n": float(os.environ["OMP_NUM_THREADS"])})


def test_jobs_are_processes_of_one_thread(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    specs, seen = plan(3, sleep=0.05, log=str(tmp_path / "log")), []
    results = run_sweep(specs, tmp_path, jobs=2, execute=threads, on_done=seen.append)
    assert [result.spec for result in results] == specs
    assert {result.seconds["n"] for result in results} == {1.0}
    assert sorted(map(str, seen)) == sorted(map(str, results))
    ran = [line.split() for line in (tmp_path / "log").read_text().splitlines()]
    assert len({name for name, _ in ran}) == len(ran) == len(specs)
    assert str(os.getpid()) not in {pid for _, pid in ran}


def die(spec: RunSpec) -> RunResult:
    if spec.agent == "ppo":
        os.kill(os.getpid(), signal.SIGKILL)
    return fake(spec)


def test_a_job_that_is_killed_ends_the_sweep_with_a_clear_error(tmp_path: Path) -> None:
    with pytest.raises(ResultsError, match=r"a process died \(memory\?\); run again"):
        run_sweep(plan(2), tmp_path, jobs=2, execute=die)
    assert run_sweep(plan(2), tmp_path, execute=fake) == [fake(spec) for spec in plan(2)]


def test_jobs_end_with_a_sweep_that_is_killed(tmp_path: Path) -> None:
    log = tmp_path / "log"
    specs = plan(2, sleep=0.3, log=str(log))

    def started() -> set[int]:
        return {int(line.split()[1]) for line in log.read_text().splitlines()}

    process = child(tmp_path, specs, jobs=2)
    go(process)
    wait_for(lambda: log.exists() and len(started()) > 0)
    end(process)
    pids = started()
    wait_for(lambda: not any(map(is_running, pids)), 5.0)
    assert run_sweep(specs, tmp_path, execute=fake) == [fake(spec) for spec in specs]
    assert len(records_of(tmp_path)) == len(specs)


def odd(spec: RunSpec) -> RunResult:
    """Takes long for one run, fails for one, and says where it ran."""
    if spec.agent == "content" and spec.world == 1:
        raise RuntimeError("likes knitting")
    if spec.agent == "random" and spec.world == 0:
        time.sleep(6.0)  # longer than all others together, on a busy machine too
    return threads(spec)


def die_late(spec: RunSpec) -> RunResult:
    if spec.world == 1 and spec.agent == "random":
        os.kill(os.getpid(), signal.SIGKILL)
    time.sleep(1.0 if spec.world == 0 and spec.agent == "ppo" else 0.1)
    return fake(spec)


def ray_processes() -> set[int]:
    pids = set()
    for path in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            command = (path / "cmdline").read_bytes().replace(b"\0", b" ").decode()
            parts = ("raylet", "gcs_server", "ray::", "ray/_private", "ray/dashboard")
            if is_running(int(path.name)) and any(part in command for part in parts):
                pids.add(int(path.name))
    return pids


def none_is_left(before: set[int]) -> None:
    wait_for(lambda: ray_processes() <= before, 90.0)  # its agents may take a minute to notice


@needs_ray
def test_ray_gives_the_numbers_of_local_processes(tmp_path: Path) -> None:
    before = ray_processes()
    specs, seen = plan(3, log=str(tmp_path / "log")), []
    results = run_sweep(
        specs, tmp_path / "ray", jobs=2, engine="ray", execute=odd, on_done=seen.append
    )
    assert [result.spec for result in results] == specs
    assert [i for i, result in enumerate(results) if result.error] == [4]
    assert str(results[4].error).startswith("RuntimeError in experiments.runs.engines, line ")
    assert "knitting" not in str(records_of(tmp_path / "ray"))
    assert {result.seconds["n"] for result in results if not result.error} == {1.0}
    # They come as they are done, and none waits behind the long one.
    assert [seen.index(results[0]), len(seen)] == [8, 9]
    pids = {line.split()[1] for line in (tmp_path / "log").read_text().splitlines()}
    assert len(pids) == 2 and str(os.getpid()) not in pids
    results = run_sweep(specs, tmp_path / "ray", execute=fake)  # the failed one, and not the others
    local = run_sweep(specs, tmp_path / "local", execute=fake)
    assert tables(tmp_path / "a", results) == tables(tmp_path / "b", local)
    assert len(records_of(tmp_path / "ray")) == len(specs)
    none_is_left(before)


@needs_ray
def test_a_ray_worker_that_dies_costs_its_own_run_alone(tmp_path: Path) -> None:
    before = ray_processes()
    specs = plan(2)
    with pytest.raises(ResultsError, match=r"a Ray worker died .*what others ran is kept"):
        run_sweep(specs, tmp_path, jobs=2, engine="ray", execute=die_late)
    kept = [(record["spec"]["agent"], record["spec"]["world"]) for record in records_of(tmp_path)]
    assert set(kept) >= {("random", 0), ("content", 0), ("ppo", 0)}  # one ran when it died
    assert run_sweep(specs, tmp_path, execute=fake) == [fake(spec) for spec in specs]
    assert len(records_of(tmp_path)) == len(specs)
    none_is_left(before)


@needs_ray
@pytest.mark.slow
def test_real_runs_give_the_same_bytes_on_ray(tmp_path: Path, tiny: dict[str, Any]) -> None:
    specs = [
        RunSpec("llmrec/Drift-v1", agent, world, 0, 4096 * (agent == "ppo"), env=tiny, watched=2)
        for world in range(2)
        for agent in ("random", "content", "ppo")
    ]
    on_ray = run_sweep(specs, tmp_path / "ray", jobs=2, engine="ray")
    local = run_sweep(specs, tmp_path / "local")
    assert [result.error for result in on_ray] == [None] * len(specs)
    assert tables(tmp_path / "a", on_ray) == tables(tmp_path / "b", local)


@needs_ray
@pytest.mark.slow
def test_a_killed_ray_sweep_goes_on_beside_a_local_one(tmp_path: Path) -> None:
    before = ray_processes()
    log = tmp_path / "log"
    specs = plan(4, sleep=0.3, log=str(log))
    process = child(tmp_path, specs, jobs=2, engine="ray")
    go(process)
    wait_for(lambda: len(records_of(tmp_path)) > 2, 60.0)
    end(process)
    none_is_left(before)
    done = len(log.read_text().splitlines())
    processes = [child(tmp_path, specs, jobs=1, engine=engine) for engine in ("ray", "local")]
    digests = [process.communicate(timeout=60)[0].split()[1] for process in processes]
    expected = tables(tmp_path, [fake(spec) for spec in plan(4)])
    assert digests == [hashlib.sha256(expected).hexdigest()] * 2
    assert len(records_of(tmp_path)) == 12
    assert len(log.read_text().splitlines()) <= len(specs) + 4  # those of the killed one again
    assert done < len(specs)
    none_is_left(before)


@needs_ray
@pytest.mark.parametrize("address", ["127.0.0.1:9", "ray://127.0.0.1:9", "192.0.2.1:6379"])
def test_a_cluster_that_does_not_answer_fails_soon(tmp_path: Path, address: str) -> None:
    started = time.monotonic()
    with pytest.raises(ResultsError, match=rf"no Ray cluster .*{address}.*ray start --head"):
        run_sweep(plan(1), tmp_path, engine="ray", address=address, execute=fake)
    assert time.monotonic() - started < 10.0


@needs_ray
@pytest.mark.parametrize("address", ["", "here", "ray://here", ":6379", "here:port"])
def test_an_address_of_another_form_is_refused(tmp_path: Path, address: str) -> None:
    with pytest.raises(ResultsError, match=f"address='{address}' is none of 'host:port'"):
        run_sweep(plan(1), tmp_path, engine="ray", address=address, execute=fake)


def test_without_ray_the_error_says_what_to_install(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(ResultsError, match=r"pip install 'llmrec-env\[cluster\]'"):
        run_sweep(plan(1), tmp_path, engine="ray", execute=fake)
