import dataclasses
import errno
import fcntl
import hashlib
import os
import random
import threading
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from made_up import child, end, fake, go, lines_of, plan, tables, wait_for

from experiments.runs.spec import RunSpec, RunResult
from experiments.runs.sweep import run_sweep
from experiments.store import CELLS, ResultsError


@pytest.mark.parametrize("cut", [1, 30, 700, -1])
def test_a_torn_last_line_is_run_again(tmp_path: Path, cut: int) -> None:
    specs, calls = plan(2), []
    expected = run_sweep(specs, tmp_path, run=fake)
    *kept, last = (tmp_path / CELLS).read_bytes().splitlines(keepends=True)
    (tmp_path / CELLS).write_bytes(b"".join(kept) + last[:cut])
    found = run_sweep(specs, tmp_path, run=lambda spec: calls.append(spec) or fake(spec))
    assert calls == specs[-1:]
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
        lambda line: line.replace(b'"sums"', b'"sum"'),
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
    assert run_sweep(plan(), tmp_path, run=fake) == [fake(spec) for spec in plan()]
    assert len(lines_of(tmp_path)) == len(plan())


def test_a_line_that_fits_in_part_is_taken_back(tmp_path: Path) -> None:
    run_sweep(plan(1)[:1], tmp_path, run=fake)
    size = (tmp_path / CELLS).stat().st_size
    limit = f"resource.setrlimit(resource.RLIMIT_FSIZE, ({size + 100}, {size + 100}))"
    process = child(tmp_path, plan(1), before=limit)
    process.communicate()
    assert process.returncode == 1
    assert (tmp_path / CELLS).stat().st_size == size
    assert run_sweep(plan(1), tmp_path, run=fake) == [fake(spec) for spec in plan(1)]


def test_a_file_that_goes_away_meanwhile_is_noticed(tmp_path: Path) -> None:
    def remove(spec: RunSpec) -> RunResult:
        if spec.agent == "content":
            (tmp_path / CELLS).unlink()
        return fake(spec)

    with pytest.raises(ResultsError, match="was shortened or deleted meanwhile"):
        run_sweep(plan(1), tmp_path, run=remove)


def test_killed_at_any_moment_it_goes_on_to_the_same_bytes(tmp_path: Path) -> None:
    specs = plan(4, sleep=0.04, log=str(tmp_path / "log"))
    expected = tables(tmp_path, [fake(spec) for spec in specs])
    moment = random.Random(0)
    for _ in range(4):
        process = child(tmp_path, specs)
        go(process)
        time.sleep(moment.uniform(0.0, 0.12))
        end(process)
    assert tables(tmp_path, run_sweep(specs, tmp_path, run=fake)) == expected
    assert len({line["key"] for line in lines_of(tmp_path)}) == len(lines_of(tmp_path)) == 12
    runs = len((tmp_path / "log").read_text().splitlines())
    assert runs <= len(specs) * 2 + 4  # a kill costs one cell at most


def test_two_processes_share_the_cells_and_agree(tmp_path: Path) -> None:
    specs = plan(6, sleep=0.05, log=str(tmp_path / "log"))

    def fail(_: RunSpec) -> RunResult:
        raise ValueError("no")

    run_sweep(specs[:4], tmp_path, run=fail)
    processes = [child(tmp_path, specs) for _ in range(2)]
    digests = [process.communicate(timeout=30)[0].split()[1] for process in processes]
    ran = Counter(line.split()[0] for line in (tmp_path / "log").read_text().splitlines())
    assert ran == {f"{spec.agent}-{spec.world}": 1 for spec in specs}
    expected = tables(tmp_path, [fake(dataclasses.replace(c, settings={})) for c in specs])
    assert digests == [hashlib.sha256(expected).hexdigest()] * 2
    assert len(lines_of(tmp_path)) == 4 + len(specs)


def test_the_cell_of_a_killed_process_is_run_by_one_that_waits(tmp_path: Path) -> None:
    log = tmp_path / "log"
    spec = plan(1, log=str(log))[0]
    process = child(tmp_path, [spec], before="made_up.time.sleep = lambda _: signal.pause()")
    go(process)
    wait_for(log.exists)
    with open(tmp_path / "cells.lock", "ab") as lock, pytest.raises(BlockingIOError):
        fcntl.lockf(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    timer = threading.Timer(0.4, end, (process,))
    timer.start()
    started = time.monotonic()
    (found,) = run_sweep([spec], tmp_path, run=fake)
    assert time.monotonic() - started > 0.3
    timer.join()
    assert found == fake(spec)
    assert len(lines_of(tmp_path)) == 1
