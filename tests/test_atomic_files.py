import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from llmrec_env import atomic_files
from llmrec_env.atomic_files import write_atomically

# The module alone: importing the package takes a second a process.
LOAD = f"import runpy; write = runpy.run_path({atomic_files.__file__!r})['write_atomically']\n"


def names(folder: Path) -> list[str]:
    return sorted(file.name for file in folder.iterdir())


def test_writes_over_what_was_there_and_returns_the_path(tmp_path: Path) -> None:
    path = tmp_path / "a [1].csv"  # a name that means something in a glob
    assert write_atomically(str(path), b"old") == path
    assert write_atomically(path, b"new").read_bytes() == b"new"
    assert names(tmp_path) == [path.name]


@pytest.mark.parametrize("call", ["fsync", "replace"])
def test_failed_write_leaves_the_old_file_alone(
    call: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_atomically(tmp_path / "a.csv", b"old")

    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, call, fail)
    with pytest.raises(OSError, match="No space left"):
        write_atomically(path, b"new")
    assert path.read_bytes() == b"old"
    assert names(tmp_path) == ["a.csv"]


def test_missing_folder_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        write_atomically(tmp_path / "none" / "a.csv", b"new")


def test_killed_writers_leave_a_whole_file_and_no_temporary_one(tmp_path: Path) -> None:
    path, size = tmp_path / "a.bin", 3_000_000
    code = (
        f"{LOAD}import itertools\n"
        "for byte in itertools.count():\n"
        f"    write({str(path)!r}, bytes([byte % 256]) * {size})\n"
        "    print(flush=True)"
    )
    leftovers = 0
    for delay in (0.001, 0.004, 0.009, 0.013, 0.02, 0.03):
        writer = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE)
        assert writer.stdout is not None
        writer.stdout.readline()  # it has begun
        time.sleep(delay)
        writer.send_signal(signal.SIGKILL)
        writer.communicate()
        content = path.read_bytes()
        assert len(content) == size and content == content[:1] * size
        leftovers += len(names(tmp_path)) - 1
    assert leftovers > 0  # else the kills came at the wrong moments
    write_atomically(path, b"new")
    assert names(tmp_path) == ["a.bin"]


def test_living_writers_keep_their_temporary_files(tmp_path: Path) -> None:
    path = tmp_path / "a.bin"
    code = (
        f"{LOAD}import os, sys\n"
        "def stop(fd): print(flush=True); sys.stdin.readline()\n"
        "os.fsync = stop\n"
        f"write({str(path)!r}, b'theirs')"
    )
    writer = subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert writer.stdout is not None
    writer.stdout.readline()
    write_atomically(path, b"ours")
    assert path.read_bytes() == b"ours" and len(names(tmp_path)) == 2
    writer.communicate(b"\n\n\n")
    assert writer.returncode == 0 and path.read_bytes() == b"theirs"
    assert names(tmp_path) == ["a.bin"]
