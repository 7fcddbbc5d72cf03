import dataclasses
import errno
import fcntl
import hashlib
import json
import math
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import llmrec_env
from agents.interactions import Episodes
from experiments.evaluation import Cell, Outcome
from experiments.leaderboard import leaderboard
from experiments.results import CurvePoint, Episode, ResultsError, Row, write_table
from experiments.statistics import Resampling
from experiments.sweep import CELLS, CellResult, curve_points, result_of, run_sweep
from llmrec_env.config import ConfigError

ROOT = Path(__file__).parents[2]
STEPS, USERS = 6, 25


def plan(worlds: int = 4, **settings: Any) -> list[Cell]:
    agents = ("random", "content", "ppo")
    return [
        Cell("task", agent, world, env={"off": ["goodwill"]}, settings=settings)
        for world in range(worlds)
        for agent in agents
    ]


def fake(cell: Cell) -> CellResult:
    """A made-up result that depends on the cell alone; tells a log who ran what."""
    if log := cell.settings.get("log"):
        with open(log, "a") as file:
            file.write(f"{cell.agent}-{cell.world} {os.getpid()}\n")
    time.sleep(cell.settings.get("sleep", 0.0))
    rng = np.random.default_rng([cell.world, len(cell.agent)])
    alive = np.arange(STEPS) < rng.integers(1, STEPS + 1, (USERS, 1))
    played = Episodes(
        np.arange(USERS),
        np.where(alive, rng.random((USERS, STEPS)), 0.0),
        *(alive, alive, alive, rng.random((USERS, STEPS)) * 90, alive[:, -1]),
    )
    return result_of(Outcome(cell, played, rng.random(), 0.5))


def final(folder: Path, found: list[CellResult]) -> bytes:
    """The bytes of the files that a benchmark makes of its results."""
    folder.mkdir(exist_ok=True)
    rows = [row for result in found for row in result.episodes]
    agents = dict.fromkeys(result.cell.agent for result in found)
    curves = [
        point
        for name in agents
        for point in curve_points([result for result in found if result.cell.agent == name])
    ]
    board = leaderboard(rows, tuple(agents), {}, Resampling(resamples=100))
    tables = ((Episode, rows), (CurvePoint, curves), (Row, board))
    return b"".join(write_table(folder, kind, table).read_bytes() for kind, table in tables)


def lines_of(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / CELLS).read_text().splitlines()]


def child(folder: Path, cells: list[Cell], jobs: int = 1, before: str = "") -> subprocess.Popen:
    """Sweeps in another process: says "go", then the digest of what comes out."""
    code = f"""
import hashlib, os, resource, signal, sys
from pathlib import Path
sys.path[:0] = [{str(ROOT)!r}, {str(Path(__file__).parent)!r}]
import test_sweep
from test_sweep import Cell, final, run_sweep
cells = [Cell(**cell) for cell in {[dataclasses.asdict(cell) for cell in cells]!r}]
folder = Path({str(folder)!r})
{before}
print("go", flush=True)
found = run_sweep(cells, folder, jobs={jobs}, run=test_sweep.fake)
print(hashlib.sha256(final(folder / str(os.getpid()), found)).hexdigest(), flush=True)
"""
    return subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)


def go(process: subprocess.Popen) -> None:
    assert process.stdout is not None
    assert process.stdout.readline() == "go\n"


def end(process: subprocess.Popen) -> None:
    process.kill()
    process.wait()
    assert process.stdout is not None
    process.stdout.close()


def wait_for(what: Any, seconds: float = 15.0) -> None:
    until = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < until
        time.sleep(0.01)


def is_running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


def test_results_come_in_the_order_of_the_cells(tmp_path: Path) -> None:
    cells, seen = plan(), []
    shuffled = random.Random(1).sample(cells, len(cells))
    run_sweep(shuffled[:7], tmp_path / "a", run=fake)
    found = run_sweep([*cells, cells[0]], tmp_path / "a", run=fake, on_done=seen.append)
    assert [result.cell for result in found] == [*cells, cells[0]]
    assert Counter(str(x) for x in seen) == Counter(str(x) for x in found[:-1])
    whole = run_sweep(cells, tmp_path / "b", run=fake)
    assert found[:-1] == whole == [fake(cell) for cell in cells]
    assert final(tmp_path / "a", found[:-1]) == final(tmp_path / "b", whole)


def test_a_line_holds_a_cell_and_its_key(tmp_path: Path) -> None:
    cell = plan(1)[0]
    run_sweep([cell], tmp_path, run=fake)
    (line,) = lines_of(tmp_path)
    value = {"cell": dataclasses.asdict(cell), "version": llmrec_env.__version__}
    text = json.dumps(value, sort_keys=True, separators=(",", ":"))
    assert line["key"] == hashlib.sha256(text.encode()).hexdigest()
    assert line["cell"] == value["cell"]
    assert line["error"] is None
    assert len(line["episodes"]) == USERS
    assert {name: len(sums) for name, sums in line["curve"].items()} == dict.fromkeys(
        ("reward", "alive", "angle"), STEPS
    )


def test_unknown_numbers_are_null_in_the_file_and_nan_again(tmp_path: Path) -> None:
    def unknown(cell: Cell) -> CellResult:
        result = fake(cell)
        rows = [dataclasses.replace(row, angle=math.nan) for row in result.episodes]
        curve = result.curve | {"angle": [math.nan] * STEPS}
        return dataclasses.replace(result, episodes=rows, curve=curve)

    (first,) = run_sweep(plan(1)[:1], tmp_path, run=unknown)
    assert "NaN" not in (tmp_path / CELLS).read_text()
    assert math.isnan(first.episodes[3].angle)
    assert all(math.isnan(total) for total in first.curve["angle"])


def test_curves_are_those_of_the_sessions() -> None:
    points = curve_points([fake(cell) for cell in plan(2) if cell.agent == "ppo"])
    sessions = []
    for world in range(2):
        rng = np.random.default_rng([world, 3])
        alive = np.arange(STEPS) < rng.integers(1, STEPS + 1, (USERS, 1))
        reward = np.where(alive, rng.random((USERS, STEPS)), 0.0)
        sessions.append((alive, reward, rng.random((USERS, STEPS)) * 90))
    alive, reward, angle = (np.concatenate(x) for x in zip(*sessions, strict=True))
    assert [point.step for point in points] == list(range(STEPS))
    np.testing.assert_allclose([point.reward for point in points], reward.mean(axis=0))
    np.testing.assert_allclose([point.alive for point in points], alive.mean(axis=0))
    expected = [
        angle[alive[:, t], t].mean() if alive[:, t].sum() >= 20 else math.nan for t in range(STEPS)
    ]
    assert math.isnan(expected[-1])
    np.testing.assert_allclose([point.angle for point in points], expected)


def test_a_real_cell(tmp_path: Path, tiny: dict[str, Any]) -> None:
    cell = Cell("llmrec/Drift-v0", "random", 0, users=3, env=tiny)
    (result,) = run_sweep([cell], tmp_path)
    assert result.error is None
    assert len(result.episodes) == 3
    assert len(result.curve["alive"]) == tiny["horizon"]
    assert sum(result.curve["alive"]) == sum(row.steps for row in result.episodes)
    assert sum(result.curve["reward"]) == pytest.approx(sum(row.ret for row in result.episodes))
    assert run_sweep([cell], tmp_path, run=lambda _: pytest.fail("again")) == [result]


def test_failures_are_kept_without_foreign_words_and_run_again(tmp_path: Path) -> None:
    cells, calls = plan(3)[:7], []

    def refuse(cell: Cell) -> CellResult:
        number = cells.index(cell)
        calls.append(number)
        if number == 1:
            raise ConfigError("dim=3 is not in [4, 4096].")
        if number == 2:
            int("likes knitting")
        if number == 3:
            raise RuntimeError("likes knitting")
        if number == 4:
            np.dtype("likes knitting")
        if number == 5:
            return dataclasses.replace(fake(cell), seconds={"training": math.inf})
        return fake(cell)

    errors = [result.error for result in run_sweep(cells, tmp_path, run=refuse)]
    assert errors[:2] == [None, "ConfigError: dim=3 is not in [4, 4096]."]
    assert errors[2:] == ["ValueError", "RuntimeError", "TypeError", "ValueError", None]
    assert b"knitting" not in (tmp_path / CELLS).read_bytes()
    assert calls == list(range(7))
    again = run_sweep(cells, tmp_path, run=refuse)
    assert [result.error for result in again] == errors
    assert calls[7:] == [1, 2, 3, 4, 5]
    assert run_sweep(cells, tmp_path, run=fake) == [fake(cell) for cell in cells]
    assert len(lines_of(tmp_path)) == 7 + 5 + 5
    assert len(run_sweep(cells, tmp_path, run=refuse)) == len(calls[:7])
    assert len(calls) == 12


def test_an_interrupted_sweep_keeps_what_it_has(tmp_path: Path) -> None:
    def stop(cell: Cell) -> CellResult:
        if cell.world == 2:
            raise KeyboardInterrupt
        return fake(cell)

    with pytest.raises(KeyboardInterrupt):
        run_sweep(plan(), tmp_path, run=stop)
    assert len(lines_of(tmp_path)) == 6


@pytest.mark.parametrize("cut", [1, 30, 700, -1])
def test_a_torn_last_line_is_run_again(tmp_path: Path, cut: int) -> None:
    cells, calls = plan(2), []
    expected = run_sweep(cells, tmp_path, run=fake)
    *kept, last = (tmp_path / CELLS).read_bytes().splitlines(keepends=True)
    (tmp_path / CELLS).write_bytes(b"".join(kept) + last[:cut])
    found = run_sweep(cells, tmp_path, run=lambda cell: calls.append(cell) or fake(cell))
    assert calls == cells[-1:]
    assert found == expected
    assert (tmp_path / CELLS).read_bytes() == b"".join(kept) + last


@pytest.mark.parametrize(
    "damage",
    [
        lambda line: line[:50] + b"\n",
        lambda line: line[:-20] + line,
        lambda line: b"\n",
        lambda line: b"\0" * 100 + b"\n",
        lambda line: b"[1]\n",
        lambda line: b"\xff\n",
        lambda line: line.replace(b'"world":0', b'"world":9'),
        lambda line: line.replace(b'"episodes":[[', b'"episodes":[[[1],'),
        lambda line: line.replace(b'"curve"', b'"curves"'),
    ],
)
def test_a_line_torn_in_the_middle_is_refused_by_number(tmp_path: Path, damage: Any) -> None:
    run_sweep(plan(2), tmp_path, run=fake)
    lines = (tmp_path / CELLS).read_bytes().splitlines(keepends=True)
    lines[2] = damage(lines[2])
    (tmp_path / CELLS).write_bytes(b"".join(lines))
    with pytest.raises(ResultsError, match=rf"{CELLS}, line 3: torn or altered; delete") as error:
        run_sweep(plan(2), tmp_path, run=fake)
    assert str(tmp_path) in str(error.value)
    assert (tmp_path / CELLS).read_bytes() == b"".join(lines)


def test_results_of_another_version_or_schema_are_refused(tmp_path: Path, monkeypatch) -> None:
    run_sweep(plan(1), tmp_path, run=fake)
    text = (tmp_path / CELLS).read_text()
    with monkeypatch.context() as context:
        context.setattr(llmrec_env, "__version__", "9.9")
        with pytest.raises(ResultsError, match=r"line 1: differs in version \(0.*this is 9\.9\)"):
            run_sweep(plan(1), tmp_path, run=fake)
    (tmp_path / CELLS).write_text(text.replace('"split"', '"colour"'))
    with pytest.raises(ResultsError, match="field colour of a cell, field split of a cell"):
        run_sweep(plan(1), tmp_path, run=fake)


def test_bad_arguments_are_refused_before_anything_is_run(tmp_path: Path) -> None:
    cell = dataclasses.replace(plan(1)[0], settings={"rate": {1, 2}})
    with pytest.raises(ResultsError, match=r"not JSON data .* pass plain values"):
        run_sweep([cell], tmp_path, run=lambda _: pytest.fail("run"))
    with pytest.raises(ValueError, match="jobs=0 is not a positive number"):
        run_sweep(plan(1), tmp_path, jobs=0, run=fake)
    assert run_sweep([], tmp_path, run=fake) == []
    assert not list(tmp_path.iterdir())


def test_a_full_disk_leaves_whole_lines(tmp_path: Path, monkeypatch) -> None:
    calls = []

    def full(_: int) -> None:
        calls.append(1)
        if len(calls) == 3:
            raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as context:
        context.setattr(os, "fsync", full)
        with pytest.raises(ResultsError, match=rf"{CELLS}: No space left on device; make room"):
            run_sweep(plan(), tmp_path, run=fake)
    assert len(lines_of(tmp_path)) == 2
    assert run_sweep(plan(), tmp_path, run=fake) == [fake(cell) for cell in plan()]
    assert len(lines_of(tmp_path)) == len(plan())


def test_a_line_that_fits_in_part_is_taken_back(tmp_path: Path) -> None:
    run_sweep(plan(1)[:1], tmp_path, run=fake)
    size = (tmp_path / CELLS).stat().st_size
    limit = f"resource.setrlimit(resource.RLIMIT_FSIZE, ({size + 100}, {size + 100}))"
    process = child(tmp_path, plan(1), before=limit)
    process.communicate()
    assert process.returncode == 1
    assert (tmp_path / CELLS).stat().st_size == size
    assert run_sweep(plan(1), tmp_path, run=fake) == [fake(cell) for cell in plan(1)]


def test_folders_that_cannot_be_written_fail_at_once(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    started = time.monotonic()
    for folder in (Path("/proc"), Path("/proc/none/runs"), tmp_path / "file", tmp_path / "file/a"):
        with pytest.raises(ResultsError, match=f"{folder}.*; name a folder that is writable"):
            run_sweep(plan(1), folder, run=lambda _: pytest.fail("run"))
    assert time.monotonic() - started < 1.0


def test_a_folder_that_may_only_be_read_gives_what_it_has() -> None:
    folder, user = Path(tempfile.mkdtemp()), os.geteuid()
    try:
        found = run_sweep(plan(1), folder, run=fake)
        folder.chmod(0o555)
        (folder / CELLS).chmod(0o444)
        if user == 0:
            os.seteuid(65534)
        assert run_sweep(plan(1), folder, run=fake) == found
        with pytest.raises(ResultsError, match=r"Permission denied; name a folder"):
            run_sweep(plan(2), folder, run=lambda _: pytest.fail("run"))
    finally:
        os.seteuid(user)
        folder.chmod(0o755)
        shutil.rmtree(folder)


def test_a_file_that_goes_away_meanwhile_is_noticed(tmp_path: Path) -> None:
    def remove(cell: Cell) -> CellResult:
        if cell.agent == "content":
            (tmp_path / CELLS).unlink()
        return fake(cell)

    with pytest.raises(ResultsError, match="was shortened or deleted meanwhile"):
        run_sweep(plan(1), tmp_path, run=remove)


def test_killed_at_any_moment_it_goes_on_to_the_same_bytes(tmp_path: Path) -> None:
    cells = plan(4, sleep=0.04, log=str(tmp_path / "log"))
    expected = final(tmp_path, [fake(cell) for cell in cells])
    moment = random.Random(0)
    for _ in range(4):
        process = child(tmp_path, cells)
        go(process)
        time.sleep(moment.uniform(0.0, 0.12))
        end(process)
    assert final(tmp_path, run_sweep(cells, tmp_path, run=fake)) == expected
    assert len({line["key"] for line in lines_of(tmp_path)}) == len(lines_of(tmp_path)) == 12
    runs = len((tmp_path / "log").read_text().splitlines())
    assert runs <= len(cells) * 2 + 4  # a kill costs one cell at most


def test_two_processes_share_the_cells_and_agree(tmp_path: Path) -> None:
    cells = plan(6, sleep=0.05, log=str(tmp_path / "log"))

    def fail(_: Cell) -> CellResult:
        raise ValueError("no")

    run_sweep(cells[:4], tmp_path, run=fail)
    processes = [child(tmp_path, cells) for _ in range(2)]
    digests = [process.communicate(timeout=30)[0].split()[1] for process in processes]
    ran = Counter(line.split()[0] for line in (tmp_path / "log").read_text().splitlines())
    assert ran == {f"{cell.agent}-{cell.world}": 1 for cell in cells}
    expected = final(tmp_path, [fake(dataclasses.replace(c, settings={})) for c in cells])
    assert digests == [hashlib.sha256(expected).hexdigest()] * 2
    assert len(lines_of(tmp_path)) == 4 + len(cells)


def test_the_cell_of_a_killed_process_is_run_by_one_that_waits(tmp_path: Path) -> None:
    log = tmp_path / "log"
    cell = plan(1, log=str(log))[0]
    process = child(tmp_path, [cell], before="test_sweep.time.sleep = lambda _: signal.pause()")
    go(process)
    wait_for(log.exists)
    with open(tmp_path / "cells.lock", "ab") as lock, pytest.raises(BlockingIOError):
        fcntl.lockf(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    timer = threading.Timer(0.4, end, (process,))
    timer.start()
    started = time.monotonic()
    (found,) = run_sweep([cell], tmp_path, run=fake)
    assert time.monotonic() - started > 0.3
    timer.join()
    assert found == fake(cell)
    assert len(lines_of(tmp_path)) == 1


def threads(cell: Cell) -> CellResult:
    return dataclasses.replace(fake(cell), seconds={"n": float(os.environ["OMP_NUM_THREADS"])})


def test_jobs_are_processes_of_one_thread(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    cells, seen = plan(3, sleep=0.05, log=str(tmp_path / "log")), []
    found = run_sweep(cells, tmp_path, jobs=2, run=threads, on_done=seen.append)
    assert [result.cell for result in found] == cells
    assert {result.seconds["n"] for result in found} == {1.0}
    assert sorted(map(str, seen)) == sorted(map(str, found))
    ran = [line.split() for line in (tmp_path / "log").read_text().splitlines()]
    assert len({name for name, _ in ran}) == len(ran) == len(cells)
    assert str(os.getpid()) not in {pid for _, pid in ran}


def die(cell: Cell) -> CellResult:
    if cell.agent == "ppo":
        os.kill(os.getpid(), signal.SIGKILL)
    return fake(cell)


def test_a_job_that_is_killed_ends_the_sweep_with_a_clear_error(tmp_path: Path) -> None:
    with pytest.raises(ResultsError, match=r"a process died \(memory\?\); run again"):
        run_sweep(plan(2), tmp_path, jobs=2, run=die)
    assert run_sweep(plan(2), tmp_path, run=fake) == [fake(cell) for cell in plan(2)]


def test_jobs_end_with_a_sweep_that_is_killed(tmp_path: Path) -> None:
    log = tmp_path / "log"
    cells = plan(2, sleep=0.3, log=str(log))

    def started() -> set[int]:
        return {int(line.split()[1]) for line in log.read_text().splitlines()}

    process = child(tmp_path, cells, jobs=2)
    go(process)
    wait_for(lambda: log.exists() and len(started()) > 0)
    end(process)
    pids = started()
    wait_for(lambda: not any(map(is_running, pids)), 5.0)
    assert run_sweep(cells, tmp_path, run=fake) == [fake(cell) for cell in cells]
    assert len(lines_of(tmp_path)) == len(cells)
