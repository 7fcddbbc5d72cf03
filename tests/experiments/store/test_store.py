import dataclasses
import json
import math
import os
from pathlib import Path

import numpy as np
import pytest
from made_up import scaled_episodes

from experiments import store
from experiments.statistics.intervals import Resampling
from experiments.statistics.leaderboard import LADDER, leaderboard
from experiments.store import (
    FILES,
    AdaptationPoint,
    CurvePoint,
    Episode,
    LearningPoint,
    Metric,
    ResultsError,
    Row,
    WorldRow,
    open_folder,
    read_manifest,
    read_table,
    write_file,
    write_manifest,
    write_table,
)


def test_tables_come_back_as_they_were_written(tmp_path: Path) -> None:
    tables = {
        Episode: scaled_episodes(),
        CurvePoint: [CurvePoint("t/v0", "a", 0, 0.1 + 0.2, 1.0, 1e-17, 2.0)],
        AdaptationPoint: [AdaptationPoint("t", "a", 30, 0.125, 20)],
        LearningPoint: [LearningPoint("t", "a", 1, 3, 1_000_000, -0.0)],
        WorldRow: [WorldRow("t", "a", 1, 2.0, 1.0, 3.0, None, None, None, None, 1, 20)],
        Metric: [Metric("t", "a", "ndcg@10", None, None, None), Metric("t", "a", "x", 1.0, 0.5, 2)],
        Row: leaderboard(scaled_episodes(), LADDER, {}, Resampling(resamples=100)),
    }
    for kind, records in tables.items():
        path = write_table(tmp_path, kind, records)
        assert path.name == FILES[kind]
        assert read_table(tmp_path, kind) == records
        before = path.read_bytes()
        write_table(tmp_path, kind, read_table(tmp_path, kind))
        assert path.read_bytes() == before
    assert sorted(x.name for x in tmp_path.iterdir()) == sorted(FILES.values())


def test_numpy_numbers_are_written_as_plain_ones(tmp_path: Path) -> None:
    numbers = np.int64(1), np.int32(0), np.int64(2), np.float64(1.5), np.int64(3), np.int64(2)
    record = Episode("t", "a", *numbers, np.int64(1), np.float64("nan"), np.bool_(True))
    text = write_table(tmp_path, Episode, [record]).read_text().splitlines()
    assert text[0].startswith(
        "task,agent,world,seed,user,return,steps,consumed,satisfied,tracking_error,"
    )
    assert text[1] == "t,a,1,0,2,1.5,3,2,1,nan,1,nan,nan,nan,nan,nan,0,0,nan,nan"
    (back,) = read_table(tmp_path, Episode)
    assert math.isnan(back.tracking_error)
    assert back.survived is True


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"agent": "likes knitting; hates noise"}, "line 2: agent is not a valid str"),
        ({"task": "a\nb"}, "line 2: task"),
        ({"task": "x" * 65}, "line 2: task"),
        ({"ret": math.nan}, "line 2: ret is not a valid float"),
        ({"ret": math.inf}, "line 2: ret"),
    ],
)
def test_texts_and_bad_numbers_are_not_written(tmp_path: Path, change, message) -> None:
    with pytest.raises(ResultsError, match=message) as error:
        write_table(tmp_path, Episode, [dataclasses.replace(scaled_episodes()[0], **change)])
    assert "knitting" not in str(error.value)
    assert not list(tmp_path.iterdir())


def damage(path: Path, line: int, old: str, new: str) -> None:
    lines = path.read_text().splitlines(keepends=True)
    assert old in lines[line - 1]
    lines[line - 1] = lines[line - 1].replace(old, new, 1)
    path.write_text("".join(lines))


@pytest.mark.parametrize(
    ("line", "old", "new", "message"),
    [
        (1, "return", "ret", "line 1: the columns must be task, agent"),
        (1, "task", "\ufefftask", "line 1: the columns"),
        (3, ",random,", ",", "line 3: 19 values, not 20"),
        (4, "40.0", "forty", "line 4: tracking_error is not a valid float"),
        (5, ",1,0.5,", ",2,0.5,", "line 5: survived is not a valid bool"),
        (6, "random", '"random', "line 6: agent is not a valid str"),
        (7, ",3,2,", ",3.5,2,", "line 7: consumed is not a valid int"),
        (7, ",3,2,", ", 3,2,", "line 7: consumed is not a valid int"),
        (7, ",3,2,", ",1_000,2,", "line 7: consumed is not a valid int"),
        (8, "random", "<b>x</b>", "line 8: agent"),
        (9, "random", "", "line 9: agent"),
    ],
)
def test_a_damaged_table_is_refused_by_file_and_line(tmp_path, line, old, new, message) -> None:
    path = write_table(tmp_path, Episode, scaled_episodes())
    damage(path, line, old, new)
    with pytest.raises(ResultsError, match=message) as error:
        read_table(tmp_path, Episode)
    assert str(path) in str(error.value)


@pytest.mark.parametrize("size", [0, 40, 1000, -1, -5])
def test_a_torn_table_is_refused(tmp_path: Path, size: int) -> None:
    path = write_table(tmp_path, Episode, scaled_episodes())
    path.write_bytes(path.read_bytes()[:size])
    with pytest.raises(ResultsError, match=r"episodes.csv, line \d+: torn"):
        read_table(tmp_path, Episode)


def test_missing_and_binary_files_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ResultsError, match=r"curves.csv: there is no such file"):
        read_table(tmp_path, CurvePoint)
    (tmp_path / "curves.csv").write_bytes(b"task,agent,step,reward,alive,angle\n\xff\xfe\n")
    with pytest.raises(ResultsError, match=r"curves.csv, line 2: not UTF-8"):
        read_table(tmp_path, CurvePoint)


def test_a_write_that_fails_leaves_the_old_file(tmp_path: Path, monkeypatch) -> None:
    path = write_file(tmp_path / "a.csv", b"old\n")

    def fail(*_: object) -> None:
        raise OSError("disk full")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(ResultsError, match=r"a.csv: disk full; name a folder that is writable"):
        write_file(path, b"new\n")
    assert path.read_bytes() == b"old\n"
    assert list(tmp_path.iterdir()) == [path]


def test_manifest(tmp_path: Path, monkeypatch) -> None:
    config = {"users": 3, "text": "é"}
    path = write_manifest(tmp_path, config=config, wall_seconds=1.5, python="mine")
    manifest = read_manifest(tmp_path)
    assert manifest["config"] == json.loads(path.read_text())["config"] == config
    assert path.name == store.MANIFEST
    assert manifest["python"] == "mine"
    assert manifest["versions"]["numpy"] == np.__version__
    assert {"command", "git_commit", "git_dirty", "platform", "load_average"} <= manifest.keys()
    assert manifest["threads"] == 1
    assert {"model", "compiled_for", "torch", "blas"} == manifest["cpu"].keys()
    assert all(manifest["cpu"].values())
    with pytest.raises(ResultsError, match="not JSON data"):
        write_manifest(tmp_path, config=object())
    with pytest.raises(ResultsError, match="not JSON data"):
        write_manifest(tmp_path, config=math.nan)
    assert read_manifest(tmp_path) == manifest
    monkeypatch.setenv("PATH", "")
    write_manifest(tmp_path)
    assert read_manifest(tmp_path)["git_commit"] is None


@pytest.mark.parametrize("text", ["{\n", "[]\n", '{"a": 1}'])
def test_a_torn_manifest_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "manifest.json").write_text(text)
    with pytest.raises(ResultsError, match=r"manifest.json"):
        read_manifest(tmp_path)


def test_results_of_another_run_are_not_overwritten_unasked(tmp_path: Path) -> None:
    folder = open_folder(tmp_path / "new" / "run", {"users": [3]})
    (folder / "notes.txt").write_text("mine")
    assert open_folder(folder) == folder  # nothing of ours is there
    write_table(folder, Episode, scaled_episodes())
    write_manifest(folder, config={"users": [3]})
    with pytest.raises(ResultsError, match=r"already holds episodes.csv, manifest.json"):
        open_folder(folder, {"users": [3]})
    open_folder(folder, {"users": (3,)}, resume=True)  # a tuple is a list in JSON
    with pytest.raises(ResultsError, match=r"other settings: users was \[3\], now \[4\]; name"):
        open_folder(folder, {"users": [4]}, resume=True)
    assert read_table(folder, Episode) == scaled_episodes()
    (folder / store.RUNS).mkdir()
    for name in ("ab.json", "ab.lock", ".ab.json.host-1-ff.part", "mine.txt"):
        (folder / store.RUNS / name).touch()
    open_folder(folder, {"users": [4]}, overwrite=True)
    assert {x.name for x in folder.rglob("*")} == {"notes.txt", store.RUNS, "mine.txt"}
