import multiprocessing
import os
import pickle
import signal
import sqlite3
import subprocess
import sys
import time
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from llmrec_env.content.encoders import CachedEncoder, CacheWarning, EncodingError, HashingEncoder
from llmrec_env.content.encoders.cache import cache_path, text_key

TEXTS = [f"the {word} text" for word in "first second third fourth fifth".split()]


class Counting:
    """A hashing encoder that remembers what it was asked for."""

    def __init__(self, dim: int = 16, seed: int = 0) -> None:
        self.inner = HashingEncoder(dim, seed)
        self.dim, self.fingerprint = dim, self.inner.fingerprint
        self.asked: list[str] = []

    def encode(self, texts: Sequence[str]) -> np.ndarray:
        self.asked += texts
        return self.inner.encode(texts)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "cache" / "embeddings.sqlite"


def fill(path: Path, texts: Sequence[str] = TEXTS) -> np.ndarray:
    return CachedEncoder(Counting(), path).encode(texts)


def reuse(path: Path, texts: Sequence[str] = TEXTS) -> tuple[np.ndarray, list[str]]:
    """Vectors through a fresh object, and the texts that had to be encoded."""
    encoder = Counting()
    return CachedEncoder(encoder, path).encode(texts), encoder.asked


def test_each_text_is_encoded_once_and_bits_are_kept(path: Path) -> None:
    encoder = Counting()
    cached = CachedEncoder(encoder, path)
    first = cached.encode([*TEXTS, TEXTS[0], TEXTS[0]])
    assert encoder.asked == TEXTS
    again = cached.encode([TEXTS[3], "a new text", TEXTS[0]])
    assert encoder.asked == [*TEXTS, "a new text"]
    direct = HashingEncoder(16).encode([*TEXTS, TEXTS[0], TEXTS[0]])
    np.testing.assert_array_equal(first, direct)
    np.testing.assert_array_equal(again[[0, 2]], direct[[3, 0]])
    assert again.dtype == np.float32 and again.flags.writeable
    vectors, asked = reuse(path)
    assert asked == []
    np.testing.assert_array_equal(vectors, direct[:5])


def test_same_protocol_and_no_texts(path: Path) -> None:
    cached = CachedEncoder(Counting(), path)
    assert cached.dim == 16 and cached.fingerprint == cached.encoder.fingerprint
    assert cached.encode([]).shape == (0, 16)


def test_normal_forms_share_a_row(path: Path) -> None:
    fill(path, ["caf\u00e9"])
    assert reuse(path, ["cafe\u0301"])[1] == []


def test_encoders_do_not_share_rows(path: Path) -> None:
    fill(path)
    other = Counting(seed=1)
    CachedEncoder(other, path).encode(TEXTS)
    assert other.asked == TEXTS
    assert text_key("a", "b c") != text_key("a b", "c")


def test_more_texts_than_a_query_or_a_batch_takes(path: Path) -> None:
    texts = [f"text {i}" for i in range(2 * 2048 + 10)]
    vectors = fill(path, texts)
    again, asked = reuse(path, texts)
    assert asked == []
    np.testing.assert_array_equal(again, vectors)


def test_no_text_is_on_disk(path: Path) -> None:
    fill(path, ["confidential diary"])
    assert [file.name for file in path.parent.iterdir()] == [path.name]
    assert b"confidential" not in path.read_bytes()


def test_file_of_an_earlier_release_is_read_and_continued(path: Path) -> None:
    vectors = fill(path)
    connection = sqlite3.connect(path)
    connection.execute("PRAGMA journal_mode=WAL")  # which earlier releases set
    connection.execute("PRAGMA synchronous=NORMAL")
    connection.execute("DELETE FROM vectors_1 WHERE rowid = 1")
    connection.commit()
    again, asked = reuse(path)  # while the other process still has it open
    assert len(asked) == 1
    np.testing.assert_array_equal(again, vectors)
    connection.close()
    assert reuse(path)[1] == []


@pytest.mark.parametrize("damage", ["flipped bit", "rows that changed places"])
def test_damaged_rows_are_encoded_again_and_repaired(path: Path, damage: str) -> None:
    vectors = fill(path, TEXTS[:2])
    connection = sqlite3.connect(path)
    (one, crc_one, a), (two, crc_two, b) = connection.execute("SELECT * FROM vectors_1").fetchall()
    rows = [(crc_two, b, one), (crc_one, a, two)]
    if damage == "flipped bit":
        rows = [(crc_one, bytes([a[0] ^ 1]) + a[1:], one)]
    connection.executemany("UPDATE vectors_1 SET crc = ?, vector = ? WHERE key = ?", rows)
    connection.commit()
    connection.close()
    with pytest.warns(CacheWarning, match=f"had {len(rows)} damaged vectors"):
        again, asked = reuse(path, TEXTS[:2])
    assert len(asked) == len(rows)
    np.testing.assert_array_equal(again, vectors)
    assert reuse(path, TEXTS[:2])[1] == []


@pytest.mark.parametrize(
    "content", [b"this is no database" * 400, b"SQLite format 3\0" + b"x" * 99]
)
def test_corrupt_file_is_moved_aside_and_rebuilt(path: Path, content: bytes) -> None:
    path.parent.mkdir()
    path.write_bytes(content)
    with pytest.warns(CacheWarning, match="was corrupt") as caught:
        _, asked = reuse(path)
    assert len(caught) == 1 and asked == TEXTS
    assert Path(f"{path}.corrupt").read_bytes() == content
    assert reuse(path)[1] == []


@pytest.mark.parametrize("damage", ["cut", "pages"])
def test_damage_inside_the_file_never_gives_a_wrong_vector(path: Path, damage: str) -> None:
    texts = [f"text {i}" for i in range(400)]
    vectors = fill(path, texts)
    content = bytearray(path.read_bytes())
    if damage == "cut":
        content = content[: len(content) // 2 // 4096 * 4096 + 100]
    else:
        for start in range(4096, len(content), 3 * 4096):
            content[start : start + 4096] = os.urandom(len(content[start : start + 4096]))
    path.write_bytes(content)
    with pytest.warns(CacheWarning):
        again, asked = reuse(path, texts)
    assert asked
    np.testing.assert_array_equal(again, vectors)
    with warnings.catch_warnings(record=True):
        warnings.simplefilter("always")
        reuse(path, texts)  # a page may also be found only by writing
    again, asked = reuse(path, texts)
    assert asked == []
    np.testing.assert_array_equal(again, vectors)


def test_file_rebuilt_by_another_process_is_not_moved(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path.parent.mkdir()
    path.write_bytes(b"broken" * 1000)
    connect = sqlite3.connect

    def after_another_process(*arguments: Any, **options: Any) -> sqlite3.Connection:
        monkeypatch.setattr(sqlite3, "connect", connect)
        connection = connect(path, isolation_level=None)
        path.rename(f"{path}.corrupt")
        fill(path)
        return connection

    monkeypatch.setattr(sqlite3, "connect", after_another_process)
    assert reuse(path)[1] == []


def deny_writing(path: object, mode: int) -> bool:
    return mode != os.W_OK


@pytest.mark.parametrize("told_by", ["directory", "SQLite"])
def test_read_only_cache_is_read_with_one_warning(
    path: Path, monkeypatch: pytest.MonkeyPatch, told_by: str
) -> None:
    vectors = fill(path)
    files = {file: file.read_bytes() for file in path.parent.iterdir()}
    connect = sqlite3.connect

    def read_only(address: str, **options: Any) -> sqlite3.Connection:
        return connect(address.replace("mode=rwc", "mode=ro"), **options)

    if told_by == "directory":
        monkeypatch.setattr(os, "access", deny_writing)  # root may always write
    else:
        monkeypatch.setattr(sqlite3, "connect", read_only)
    encoder = Counting()
    cached = CachedEncoder(encoder, path)
    with pytest.warns(CacheWarning, match="cannot be written") as caught:
        again = cached.encode([*TEXTS, "new"])
        cached.encode(["new"])
    assert len(caught) == 1
    assert encoder.asked == ["new", "new"]
    np.testing.assert_array_equal(again[:5], vectors)
    assert {file: file.read_bytes() for file in path.parent.iterdir()} == files


def test_corrupt_read_only_file_is_left_alone(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path.parent.mkdir()
    path.write_bytes(b"broken" * 1000)
    monkeypatch.setattr(os, "access", deny_writing)
    with pytest.warns(CacheWarning, match="not used .no permission") as caught:
        assert reuse(path)[1] == TEXTS
    assert len(caught) == 1
    assert [file.name for file in path.parent.iterdir()] == [path.name]


def test_place_that_cannot_exist_costs_one_warning(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a directory")
    cached = CachedEncoder(Counting(), tmp_path / "file" / "cache.sqlite")
    with pytest.warns(CacheWarning, match="is not used") as caught:
        cached.encode(TEXTS)
        cached.encode(TEXTS)
    assert len(caught) == 1
    assert cached.encoder.asked == TEXTS * 2  # type: ignore[attr-defined]


def test_write_that_fails_ends_writing_but_not_the_run(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(path, TEXTS[:1])
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    monkeypatch.setattr("llmrec_env.content.encoders.cache._WAIT", 0.1)
    encoder = Counting()
    cached = CachedEncoder(encoder, path)
    with pytest.warns(CacheWarning, match="database is locked") as caught:
        cached.encode(TEXTS)
    cached.encode(TEXTS)
    assert len(caught) == 1
    assert encoder.asked == TEXTS[1:] * 2  # the stored one is still read
    other.rollback()
    other.close()


def test_failed_encoding_is_not_stored(path: Path) -> None:
    class Broken(Counting):
        def encode(self, texts: Sequence[str]) -> np.ndarray:
            vectors = super().encode(texts)
            vectors[-1] = np.nan
            return vectors

    class Short(Counting):
        def encode(self, texts: Sequence[str]) -> np.ndarray:
            return super().encode(texts)[:-1]

    for encoder, message in ((Broken(), "NaN"), (Short(), r"expected \(5, 16\)")):
        with pytest.raises(EncodingError, match=message) as caught:
            CachedEncoder(encoder, path).encode(TEXTS)
        assert not any(text in str(caught.value) for text in TEXTS)
    assert reuse(path)[1] == TEXTS


def encode_in_child(path: Path, start: int, barrier: object) -> None:
    barrier.wait()  # type: ignore[attr-defined]
    encoder = CachedEncoder(Counting(), path)
    for first in range(start, start + 300, 10):
        encoder.encode([f"text {i}" for i in range(first, first + 10)])


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")  # other tests start threads
@pytest.mark.parametrize("method", ["spawn", "fork"])
def test_processes_write_at_the_same_time(path: Path, method: str) -> None:
    if method not in multiprocessing.get_all_start_methods():
        pytest.skip(f"this platform cannot {method}")
    context = multiprocessing.get_context(method)
    barrier = context.Barrier(2)
    children = [
        context.Process(target=encode_in_child, args=(path, start, barrier)) for start in (0, 150)
    ]
    for child in children:
        child.start()
    for child in children:
        child.join(60)
        assert child.exitcode == 0
    vectors, asked = reuse(path, [f"text {i}" for i in range(450)])
    assert asked == []
    expected = HashingEncoder(16).encode([f"text {i}" for i in range(450)])
    np.testing.assert_array_equal(vectors, expected)


def test_pickled_encoder_uses_the_same_file(path: Path) -> None:
    cached = CachedEncoder(Counting(), path)
    cached.encode(TEXTS)
    copy = pickle.loads(pickle.dumps(cached))
    copy.encode(["other"])
    assert reuse(path, [*TEXTS, "other"])[1] == []


WRITER = """
import sys
from llmrec_env.content.encoders import CachedEncoder, HashingEncoder
encoder = CachedEncoder(HashingEncoder(16), sys.argv[1])
number = 0
while True:
    encoder.encode([f"text {i}" for i in range(number, number + 20)])
    number += 20
    print(number, flush=True)
"""


def test_killed_writer_loses_nothing_that_was_acknowledged(path: Path) -> None:
    for _ in range(3):
        child = subprocess.Popen(
            [sys.executable, "-c", WRITER, str(path)],
            env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
            stdout=subprocess.PIPE,
            text=True,
        )
        assert child.stdout is not None
        acknowledged = int(child.stdout.readline())
        time.sleep(0.1)
        child.send_signal(getattr(signal, "SIGKILL", signal.SIGTERM))
        acknowledged = int((child.communicate()[0].split() or [acknowledged])[-1])
        texts = [f"text {i}" for i in range(acknowledged)]
        vectors, asked = reuse(path, texts)
        assert asked == []
        np.testing.assert_array_equal(vectors, HashingEncoder(16).encode(texts))


def test_default_path(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("LLMREC_CACHE", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(Path, "home", lambda: tmp_path)
    end = Path("llmrec_env") / "embeddings.sqlite"
    assert cache_path() == tmp_path / ".cache" / end
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert cache_path() == tmp_path / "xdg" / end
    monkeypatch.setenv("LLMREC_CACHE", str(tmp_path / "mine.db"))
    assert cache_path() == CachedEncoder(Counting()).path == tmp_path / "mine.db"


def test_directories_and_files(tmp_path: Path) -> None:
    (tmp_path / "v1.2").mkdir()
    for name in ("", "new", "v1.2", "new.v1.3"):
        assert cache_path(tmp_path / name) == tmp_path / name / "embeddings.sqlite"
    assert cache_path(tmp_path / "new.sqlite") == tmp_path / "new.sqlite"
