import dataclasses
import hashlib
import json
import math
import os
import random
import shutil
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from made_up import STEPS, USERS, fake, lines_of, plan, tables

import llmrec_env
from experiments.statistics.summary import curve_points
from experiments.runs import spec
from experiments.runs.spec import RunSpec, RunResult, key_of, to_line
from experiments.runs.sweep import run_sweep
from experiments.store import CELLS, ResultsError
from llmrec_env.config import ConfigError
from llmrec_env.simulation.kernel_cache import source_digest


def test_results_come_in_the_order_of_the_cells(tmp_path: Path) -> None:
    specs, seen = plan(), []
    shuffled = random.Random(1).sample(specs, len(specs))
    run_sweep(shuffled[:7], tmp_path / "a", run=fake)
    found = run_sweep([*specs, specs[0]], tmp_path / "a", run=fake, on_done=seen.append)
    assert [result.spec for result in found] == [*specs, specs[0]]
    assert Counter(str(x) for x in seen) == Counter(str(x) for x in found[:-1])
    whole = run_sweep(specs, tmp_path / "b", run=fake)
    assert found[:-1] == whole == [fake(spec) for spec in specs]
    assert tables(tmp_path / "a", found[:-1]) == tables(tmp_path / "b", whole)


def test_a_line_holds_a_cell_and_its_key(tmp_path: Path) -> None:
    spec = plan(1)[0]
    run_sweep([spec], tmp_path, run=fake)
    (line,) = lines_of(tmp_path)
    value = {"cell": dataclasses.asdict(spec), "version": llmrec_env.__version__}
    text = json.dumps(value, sort_keys=True, separators=(",", ":"))
    assert line["key"] == hashlib.sha256(text.encode()).hexdigest()
    assert line["cell"] == value["cell"]
    assert line["error"] is None
    assert len(line["episodes"]) == USERS
    assert all(len(line["sums"][name]) == STEPS for name in ("reward", "alive", "tracking_error"))
    assert line["dynamics"] == source_digest()
    again = to_line(key_of(spec), fake(spec))
    assert again == (tmp_path / CELLS).read_bytes()


def test_unknown_numbers_are_null_in_the_file_and_nan_again(tmp_path: Path) -> None:
    def unknown(spec: RunSpec) -> RunResult:
        result = fake(spec)
        rows = [dataclasses.replace(row, tracking_error=math.nan) for row in result.episodes]
        sums, values = result.sums | {"tracking_error": [math.nan] * STEPS}, {"ndcg@10": math.nan}
        return dataclasses.replace(result, episodes=rows, sums=sums, values=values)

    (first,) = run_sweep(plan(1)[:1], tmp_path, run=unknown)
    assert "NaN" not in (tmp_path / CELLS).read_text()
    assert math.isnan(first.episodes[3].tracking_error)
    assert all(math.isnan(total) for total in first.sums["tracking_error"])
    assert math.isnan(first.values["ndcg@10"])


def test_curves_are_means_over_the_sessions_of_all_worlds() -> None:
    found = [fake(spec) for spec in plan(2)]
    points = [point for point in curve_points(found) if point.agent == "ppo"]
    first, second = (result.sums for result in found if result.spec.agent == "ppo")
    alive = np.add(first["alive"], second["alive"])
    tracking_error = np.add(first["tracking_error"], second["tracking_error"]) / alive
    assert [point.step for point in points] == list(range(STEPS))
    reward = np.add(first["reward"], second["reward"]) / (2 * USERS)
    np.testing.assert_allclose([point.reward for point in points], reward)
    np.testing.assert_allclose([point.alive for point in points], alive / (2 * USERS))
    assert alive[-1] < 20 < alive[0]
    np.testing.assert_allclose(
        [point.tracking_error for point in points], np.where(alive >= 20, tracking_error, math.nan)
    )


def test_a_real_cell(tmp_path: Path, tiny: dict[str, Any]) -> None:
    spec = RunSpec("llmrec/Drift-v0", "random", 0, users=3, env=tiny)
    (result,) = run_sweep([spec], tmp_path)
    assert result.error is None
    assert len(result.episodes) == 3
    assert len(result.sums["alive"]) == tiny["horizon"]
    assert sum(result.sums["alive"]) == sum(row.steps for row in result.episodes)
    assert sum(result.sums["reward"]) == pytest.approx(sum(row.ret for row in result.episodes))
    again = run_sweep([spec], tmp_path, run=lambda _: pytest.fail("again"))
    assert repr(again) == repr([result])  # NaN equals nothing


def test_failures_are_kept_without_foreign_words_and_run_again(tmp_path: Path) -> None:
    specs, calls = plan(3)[:7], []

    def refuse(spec: RunSpec) -> RunResult:
        number = spec.index(spec)
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
            return dataclasses.replace(fake(spec), seconds={"training": math.inf})
        return fake(spec)

    errors = [result.error for result in run_sweep(specs, tmp_path, run=refuse)]
    assert errors[:2] == [None, "ConfigError: dim=3 is not in [4, 4096]."]
    assert errors[2:] == ["ValueError", "RuntimeError", "TypeError", "ValueError", None]
    assert b"knitting" not in (tmp_path / CELLS).read_bytes()
    assert calls == list(range(7))
    again = run_sweep(specs, tmp_path, run=refuse)
    assert [result.error for result in again] == errors
    assert calls[7:] == [1, 2, 3, 4, 5]
    assert run_sweep(specs, tmp_path, run=fake) == [fake(spec) for spec in specs]
    assert len(lines_of(tmp_path)) == 7 + 5 + 5
    assert len(run_sweep(specs, tmp_path, run=refuse)) == len(calls[:7])
    assert len(calls) == 12


def test_an_interrupted_sweep_keeps_what_it_has(tmp_path: Path) -> None:
    def stop(spec: RunSpec) -> RunResult:
        if spec.world == 2:
            raise KeyboardInterrupt
        return fake(spec)

    with pytest.raises(KeyboardInterrupt):
        run_sweep(plan(), tmp_path, run=stop)
    assert len(lines_of(tmp_path)) == 6


def test_results_of_another_version_or_schema_are_refused(tmp_path: Path, monkeypatch) -> None:
    run_sweep(plan(1), tmp_path, run=fake)
    text = (tmp_path / CELLS).read_text()
    with monkeypatch.context() as context:
        context.setattr(llmrec_env, "__version__", "9.9")
        with pytest.raises(ResultsError, match=r"line 1: differs in version \(0.*this is 9\.9\)"):
            run_sweep(plan(1), tmp_path, run=fake)
    with monkeypatch.context() as context:
        context.setattr(specs, "source_digest", lambda: "0123456789abcdef")
        with pytest.raises(ResultsError, match="line 1: differs in the sources of the dynamics"):
            run_sweep(plan(1), tmp_path, run=fake)
    assert (tmp_path / CELLS).read_text() == text
    (tmp_path / CELLS).write_text(text.replace('"split"', '"colour"'))
    with pytest.raises(ResultsError, match="field colour of a cell, field split of a cell"):
        run_sweep(plan(1), tmp_path, run=fake)


def test_bad_arguments_are_refused_before_anything_is_run(tmp_path: Path) -> None:
    spec = dataclasses.replace(plan(1)[0], settings={"rate": {1, 2}})
    with pytest.raises(ResultsError, match=r"not JSON data .* pass plain values"):
        run_sweep([spec], tmp_path, run=lambda _: pytest.fail("run"))
    with pytest.raises(ValueError, match="jobs=0 is not a positive number"):
        run_sweep(plan(1), tmp_path, jobs=0, run=fake)
    with pytest.raises(ValueError, match="engine='dask' is not one of 'local', 'ray'"):
        run_sweep(plan(1), tmp_path, engine="dask", run=fake)  # type: ignore[arg-type]
    assert run_sweep([], tmp_path, run=fake) == []
    assert not list(tmp_path.iterdir())


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
