import dataclasses
import errno
import hashlib
import json
import math
import os
import random
import re
import shutil
import tempfile
import threading
import time
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from made_up import STEPS, USERS, child, end, fake, go, plan, records_of, tables, wait_for

import llmrec_env
from agents.saving import write_agent
from experiments.runs import spec as specification
from experiments.runs.runner import run_sweep
from experiments.runs.spec import RunResult, RunSpec, key_of
from experiments.store import CHECKPOINTS, RUNS, ResultsError
from experiments.store.folder import checked, with_checksum
from llmrec_env.config import ConfigError
from llmrec_env.simulation.kernel_cache import source_digest


def refused(_: RunSpec) -> RunResult:
    pytest.fail("nothing is to be run")


def files_of(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in (folder / RUNS).iterdir()}


def test_results_come_in_the_order_of_the_runs(tmp_path: Path) -> None:
    specs, seen = plan(), []
    shuffled = random.Random(1).sample(specs, len(specs))
    run_sweep(shuffled[:7], tmp_path / "a", execute=fake)
    results = run_sweep([*specs, specs[0]], tmp_path / "a", execute=fake, on_done=seen.append)
    assert [result.spec for result in results] == [*specs, specs[0]]
    assert Counter(str(x) for x in seen) == Counter(str(x) for x in results[:-1])
    whole = run_sweep(specs, tmp_path / "b", execute=fake)
    assert results[:-1] == whole == [fake(spec) for spec in specs]
    assert tables(tmp_path / "a", results[:-1]) == tables(tmp_path / "b", whole)


def test_a_file_holds_a_run_and_is_named_by_it(tmp_path: Path) -> None:
    spec = plan(1)[0]
    run_sweep([spec], tmp_path, execute=fake)
    (record,), (name,) = records_of(tmp_path), files_of(tmp_path)
    assert name == f"{key_of(spec)}.json" and int(key_of(spec), 16)
    assert record["spec"] == dataclasses.asdict(spec)
    assert record["error"] is None
    assert len(record["episodes"]) == USERS
    assert all(len(record["sums"][name]) == STEPS for name in ("reward", "alive", "tracking_error"))
    assert (record["version"], record["dynamics"]) == (llmrec_env.__version__, source_digest())


def test_unknown_numbers_are_null_in_the_file_and_nan_again(tmp_path: Path) -> None:
    def unknown(spec: RunSpec) -> RunResult:
        result = fake(spec)
        rows = [dataclasses.replace(row, tracking_error=math.nan) for row in result.episodes]
        sums, values = result.sums | {"tracking_error": [math.nan] * STEPS}, {"ndcg@10": math.nan}
        return dataclasses.replace(result, episodes=rows, sums=sums, values=values)

    (first,) = run_sweep(plan(1)[:1], tmp_path, execute=unknown)
    assert not any(b"NaN" in data for data in files_of(tmp_path).values())
    assert math.isnan(first.episodes[3].tracking_error)
    assert all(math.isnan(total) for total in first.sums["tracking_error"])
    assert math.isnan(first.values["ndcg@10"])


def test_a_real_run(tmp_path: Path, tiny: dict[str, Any]) -> None:
    spec = RunSpec("llmrec/Drift-v1", "random", 0, users=3, env=tiny)
    (result,) = run_sweep([spec], tmp_path)
    assert result.error is None
    assert len(result.episodes) == 3
    assert len(result.sums["alive"]) == tiny["horizon"]
    assert sum(result.sums["alive"]) == sum(row.steps for row in result.episodes)
    assert sum(result.sums["reward"]) == pytest.approx(sum(row.ret for row in result.episodes))
    again = run_sweep([spec], tmp_path, execute=refused)
    assert repr(again) == repr([result])  # NaN equals nothing


# --- failures


def test_failures_are_kept_without_foreign_words_and_run_again(tmp_path: Path) -> None:
    specs, calls = plan(3)[:7], []

    def failing(spec: RunSpec) -> RunResult:
        number = specs.index(spec)
        calls.append(number)
        if number == 1:
            raise ConfigError("dim=3 is not in [4, 4096].")
        if number == 2:
            raise ValueError("likes knitting")
        if number == 3:
            raise RuntimeError("likes knitting")
        if number == 4:
            np.dtype("likes knitting")
        if number == 5:
            return dataclasses.replace(fake(spec), seconds={"training": math.inf})
        return fake(spec)

    errors = [result.error for result in run_sweep(specs, tmp_path, execute=failing)]
    assert errors[:2] == [None, "ConfigError: dim=3 is not in [4, 4096]."]
    assert errors[6] is None
    for error, name in zip(errors[2:6], ["Value", "Runtime", "Type", "Value"], strict=True):
        assert re.fullmatch(rf"{name}Error in experiments\.runs\.[a-z]+, line \d+", str(error))
    assert not any(b"knitting" in data for data in files_of(tmp_path).values())
    assert calls == list(range(7))
    again = run_sweep(specs, tmp_path, execute=failing)
    assert [result.error for result in again] == errors
    assert calls[7:] == [1, 2, 3, 4, 5]
    assert run_sweep(specs, tmp_path, execute=fake) == [fake(spec) for spec in specs]
    assert len(files_of(tmp_path)) == 7
    assert len(run_sweep(specs, tmp_path, execute=failing)) == len(calls[:7])
    assert len(calls) == 12


def test_an_interrupted_sweep_keeps_what_it_has(tmp_path: Path) -> None:
    def stop(spec: RunSpec) -> RunResult:
        if spec.world == 2:
            raise KeyboardInterrupt
        return fake(spec)

    with pytest.raises(KeyboardInterrupt):
        run_sweep(plan(), tmp_path, execute=stop)
    assert len(records_of(tmp_path)) == len(files_of(tmp_path)) == 6


def test_a_full_disk_leaves_whole_files(tmp_path: Path, monkeypatch) -> None:
    calls = []

    def full(_: int) -> None:
        calls.append(1)
        if len(calls) >= 5:
            raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as context:
        context.setattr(os, "fsync", full)
        with pytest.raises(ResultsError, match=rf"{RUNS}/.*: No space left on device; make room"):
            run_sweep(plan(), tmp_path, execute=fake)
    assert 1 < len(records_of(tmp_path)) == len(files_of(tmp_path)) < len(plan())
    assert run_sweep(plan(), tmp_path, execute=fake) == [fake(spec) for spec in plan()]
    assert len(files_of(tmp_path)) == len(plan())


# --- refusals


def test_every_flipped_bit_is_noticed_and_the_file_named(tmp_path: Path) -> None:
    spec = plan(1)[0]
    run_sweep([spec], tmp_path, execute=fake)
    (path,), generator = (tmp_path / RUNS).iterdir(), random.Random(0)
    data = path.read_bytes()
    places = {*range(90), *range(len(data) - 3, len(data)), *generator.sample(range(len(data)), 50)}
    for place in sorted(places):
        flipped = bytearray(data)
        flipped[place] ^= 1 << generator.randrange(8)
        path.write_bytes(flipped)
        with pytest.raises(ResultsError, match=r"damaged, its checksum .* delete it") as error:
            run_sweep([spec], tmp_path, execute=refused)
        assert str(path) in str(error.value)
    path.unlink()
    run_sweep([spec], tmp_path, execute=fake)
    assert path.read_bytes() == data


@pytest.mark.parametrize(
    "damage",
    [
        lambda data: b"",
        lambda data: data[:50],
        lambda data: data[:-1],
        lambda data: data + b"\n",
        lambda data: data.replace(b'"world":0', b'"world":9'),
        lambda data: b"[1]\n",
        lambda data: b"\0" * 200,
    ],
)
def test_a_torn_or_edited_file_is_refused(tmp_path: Path, damage: Any) -> None:
    run_sweep(plan(2), tmp_path, execute=fake)
    path = tmp_path / RUNS / f"{key_of(plan(2)[1])}.json"
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(ResultsError, match=f"{path}: damaged"):
        run_sweep(plan(2), tmp_path, execute=refused)


def test_results_of_another_version_or_dynamics_are_refused(tmp_path: Path, monkeypatch) -> None:
    run_sweep(plan(1), tmp_path, execute=fake)
    before = files_of(tmp_path)
    with monkeypatch.context() as context:
        context.setattr(llmrec_env, "__version__", "9.9")
        with pytest.raises(ResultsError, match=r"differs in version \(0.*this is 9\.9\)"):
            run_sweep(plan(1), tmp_path, execute=refused)
    with monkeypatch.context() as context:
        context.setattr(specification, "source_digest", lambda: "0123456789abcdef")
        with pytest.raises(ResultsError, match="differs in the sources of the dynamics"):
            run_sweep(plan(1), tmp_path, execute=refused)
    assert files_of(tmp_path) == before


def test_a_result_under_the_name_of_another_run_is_refused(tmp_path: Path) -> None:
    specs = plan(1)
    run_sweep(specs[:1], tmp_path, execute=fake)
    (path,) = (tmp_path / RUNS).iterdir()
    path.rename(path.with_name(f"{key_of(specs[1])}.json"))
    with pytest.raises(ResultsError, match=r"holds another run; delete it and run again"):
        run_sweep(specs, tmp_path, execute=refused)


def test_a_belief_counts_by_what_its_folder_holds_not_by_where_it_lies(tmp_path: Path) -> None:
    def save(folder: Path, weight: float) -> RunSpec:
        write_agent(folder, "slateq", {"seed": 0}, {"weights": np.array([weight])})
        return dataclasses.replace(plan(1)[0], settings={"belief": str(folder)})

    spec = save(tmp_path / "belief", 1.0)
    run_sweep([spec], tmp_path / "results", execute=fake)
    run_sweep([spec], tmp_path / "results", execute=refused)
    shutil.move(tmp_path / "belief", tmp_path / "moved")
    moved = dataclasses.replace(spec, settings={"belief": str(tmp_path / "moved")})
    save(tmp_path / "belief", 2.0)
    assert key_of(spec) != key_of(moved)
    done: list[RunSpec] = []
    results = run_sweep(
        [moved, spec], tmp_path / "results", execute=lambda x: done.append(x) or fake(x)
    )
    assert done == [spec] and [result.spec for result in results] == [moved, spec]
    assert len(files_of(tmp_path / "results")) == 2


def test_a_file_from_before_keys_were_kept_is_read(tmp_path: Path) -> None:
    spec = plan(1)[0]
    run_sweep([spec], tmp_path, execute=fake)
    (path,) = (tmp_path / RUNS).iterdir()
    record = json.loads(checked(path, path.read_bytes()))
    del record["key"]
    path.write_bytes(with_checksum(json.dumps(record).encode()))
    assert run_sweep([spec], tmp_path, execute=refused)[0].spec == spec


def test_bad_arguments_are_refused_before_anything_is_run(tmp_path: Path) -> None:
    spec = dataclasses.replace(plan(1)[0], settings={"rate": {1, 2}})
    with pytest.raises(ResultsError, match=r"not JSON data .* pass plain values"):
        run_sweep([spec], tmp_path, execute=refused)
    with pytest.raises(ValueError, match="jobs=0 is not a positive number"):
        run_sweep(plan(1), tmp_path, jobs=0, execute=refused)
    with pytest.raises(ValueError, match="engine='dask' is not one of 'local', 'ray'"):
        run_sweep(plan(1), tmp_path, engine="dask", execute=refused)  # type: ignore[arg-type]
    assert run_sweep([], tmp_path, execute=refused) == []
    assert not list(tmp_path.iterdir())


def test_folders_that_cannot_be_written_fail_at_once(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    started = time.monotonic()
    for folder in (Path("/proc"), Path("/proc/none/runs"), tmp_path / "file", tmp_path / "file/a"):
        with pytest.raises(ResultsError, match=f"{folder}.*; name a folder that is writable"):
            run_sweep(plan(1), folder, execute=refused)
    assert time.monotonic() - started < 1.0


def test_a_folder_that_may_only_be_read_gives_what_it_has() -> None:
    folder, user = Path(tempfile.mkdtemp()), os.geteuid()
    try:
        results = run_sweep(plan(1), folder, execute=fake)
        folder.chmod(0o755)
        (folder / RUNS).chmod(0o555)
        if user == 0:
            os.seteuid(65534)
        assert run_sweep(plan(1), folder, execute=fake) == results
        with pytest.raises(ResultsError, match=r"Permission denied; name a folder"):
            run_sweep(plan(2), folder, execute=refused)
    finally:
        os.seteuid(user)
        (folder / RUNS).chmod(0o755)
        shutil.rmtree(folder)


# --- several processes, killed at any moment


def test_killed_at_any_moment_it_goes_on_to_the_same_bytes(tmp_path: Path) -> None:
    specs = plan(4, sleep=0.04, log=str(tmp_path / "log"))
    expected = tables(tmp_path, [fake(spec) for spec in specs])
    moment = random.Random(0)
    for _ in range(4):
        process = child(tmp_path, specs)
        go(process)
        time.sleep(moment.uniform(0.0, 0.12))
        end(process)
    assert tables(tmp_path, run_sweep(specs, tmp_path, execute=fake)) == expected
    assert {*files_of(tmp_path)} == {f"{key_of(spec)}.json" for spec in specs}
    runs = len((tmp_path / "log").read_text().splitlines())
    assert runs <= len(specs) * 2 + 4  # a kill costs one run at most


def test_two_processes_share_the_runs_and_agree(tmp_path: Path) -> None:
    specs = plan(6, sleep=0.05, log=str(tmp_path / "log"))

    def fail(_: RunSpec) -> RunResult:
        raise ValueError("no")

    run_sweep(specs[:4], tmp_path, execute=fail)
    processes = [child(tmp_path, specs) for _ in range(2)]
    digests = [process.communicate(timeout=60)[0].split()[1] for process in processes]
    expected = tables(tmp_path, [fake(spec) for spec in plan(6)])
    assert digests == [hashlib.sha256(expected).hexdigest()] * 2
    counts = Counter(line.split()[0] for line in (tmp_path / "log").read_text().splitlines())
    assert counts == {f"{spec.agent}-{spec.world}": 1 for spec in specs}
    assert {*files_of(tmp_path)} == {f"{key_of(spec)}.json" for spec in specs}


def test_the_run_of_a_killed_process_is_done_by_one_that_waits(tmp_path: Path) -> None:
    log = tmp_path / "log"
    spec = plan(1, log=str(log))[0]
    process = child(tmp_path, [spec], before="made_up.time.sleep = lambda _: signal.pause()")
    go(process)
    wait_for(log.exists)
    timer = threading.Timer(0.4, end, (process,))
    timer.start()
    started = time.monotonic()
    (result,) = run_sweep([spec], tmp_path, execute=fake)
    assert time.monotonic() - started > 0.3
    timer.join()
    assert result == fake(spec)
    assert [*files_of(tmp_path)] == [f"{key_of(spec)}.json"]


def test_two_threads_never_do_the_same_run(tmp_path: Path) -> None:
    specs = plan(8, log=str(tmp_path / "log"))
    arguments = {"specs": specs, "folder": tmp_path, "execute": fake}
    threads = [threading.Thread(target=run_sweep, kwargs=arguments) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len((tmp_path / "log").read_text().splitlines()) == len(specs)
    assert len(files_of(tmp_path)) == len(specs)


KILLS = 10
# As `sweep_specs` does, but in short segments, and telling when a checkpoint is used.
REAL = """
from functools import partial
from experiments.runs import training
from experiments.runs.evaluation import execute_run
from agents.rl.sb3 import StableBaselines
training.SEGMENT = 4096
restore = StableBaselines.restore
def tell(agent, state):
    (folder / "restored").touch()
    return restore(agent, state)
StableBaselines.restore = tell
run_sweep = partial(run_sweep, on_done=lambda x: training.discard_checkpoint(folder, x.spec))
"""


def real_plan(tiny: dict[str, Any]) -> list[RunSpec]:
    return [
        RunSpec(
            "llmrec/Drift-v1",
            agent,
            world,
            seed,
            12_000 * (agent == "ppo"),
            env=tiny,
            watched=2 * (world == 0),
        )
        for world in range(3)
        for agent in ("random", "content", "ppo")
        for seed in range(4 if agent == "ppo" else 1)
    ]


def real(folder: Path, specs: list[RunSpec]) -> Any:
    folder.mkdir(exist_ok=True)
    return child(folder, specs, REAL, execute="partial(execute_run, folder=folder)")


@pytest.mark.slow
def test_real_runs_killed_at_random_moments_give_the_same_bytes(
    tmp_path: Path, tiny: dict[str, Any]
) -> None:
    pytest.importorskip("stable_baselines3")
    specs, moment = real_plan(tiny), random.Random(time.time_ns())
    expected = real(tmp_path / "whole", specs).communicate(timeout=300)[0].split()[1]
    folder, moments = tmp_path / "killed", []

    def checkpoints() -> set[tuple[str, int]]:
        paths = (folder / CHECKPOINTS).glob("*.pt")
        return {(path.name, path.stat().st_mtime_ns) for path in paths if path.exists()}

    for number in range(KILLS):
        process = real(folder, specs)
        go(process)
        started, before = time.monotonic(), checkpoints()
        if number % 2:  # so that some moments surely fall within a training
            wait_for(lambda before=before: checkpoints() - before, 60.0)
        time.sleep(moment.uniform(0.0, 0.4 if number % 2 else 1.5))
        assert process.poll() is None
        end(process)
        moments.append(round(time.monotonic() - started, 2))
    digest = real(folder, specs).communicate(timeout=300)[0].split()[1]
    print(f"\nkilled after {moments} s")
    assert digest == expected
    assert (folder / "restored").exists()
    assert {*files_of(folder)} == {f"{key_of(spec)}.json" for spec in specs}
    assert not list((folder / CHECKPOINTS).iterdir())


def test_a_language_model_counts_by_its_files_not_by_where_they_lie(tmp_path: Path) -> None:
    def key(folder: Path) -> tuple[str, str]:
        one = plan(1)[0]
        agent = dataclasses.replace(one, settings={"model": str(folder)})
        user = dataclasses.replace(one, env={"response": "llm", "response_model": str(folder)})
        return key_of(agent), key_of(user)

    (tmp_path / "a").mkdir()
    for name in ("config.json", "model.safetensors"):
        (tmp_path / "a" / name).write_text("{}")
    shutil.copytree(tmp_path / "a", tmp_path / "b")
    assert key(tmp_path / "a") == key(tmp_path / "b")
    (tmp_path / "b" / "model.safetensors").write_text("{ }")
    assert not {*key(tmp_path / "a")} & {*key(tmp_path / "b")}
    assert key(tmp_path / "missing") != key(tmp_path / "gone")
