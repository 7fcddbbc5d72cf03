"""Vectors kept on disk: an SQLite file that survives crashes, bit rot and many processes.

The file holds digests and vectors, never a text. It is a cache: whatever is wrong with it costs a
warning and the time to encode again, never a wrong vector and never the program.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import sqlite3
import threading
import time
import warnings
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Literal, TypeVar

import numpy as np

from llmrec_env.content.encoders.protocol import Encoder, Vectors, check_encoding, normalize_texts

T = TypeVar("T")

FILE_NAME = "embeddings.sqlite"

_SCHEMA = (
    "CREATE TABLE IF NOT EXISTS vectors_1 (key BLOB PRIMARY KEY, crc INTEGER NOT NULL, "
    "vector BLOB NOT NULL)"
)
_KEYS_PER_QUERY = 500  # old SQLite takes 999 parameters
_TEXTS_PER_BATCH = 2048  # what a crash can cost
# A connection must not be used or closed by a forked child: keep it from being collected.
_inherited: list[sqlite3.Connection] = []


class CacheWarning(UserWarning):
    """The cache is unusable, read-only or was rebuilt; results are unaffected."""


def default_cache_path() -> Path:
    """$LLMREC_CACHE (a file, or a directory), else the user's cache directory."""
    chosen = os.environ.get("LLMREC_CACHE")
    if chosen:
        return cache_file(chosen)
    home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(home) / "llmrec_env" / FILE_NAME


def cache_file(path: str | os.PathLike[str]) -> Path:
    """The file that a path means: itself, or `embeddings.sqlite` in it.

    An existing directory, or a new path without a suffix, is taken as a directory.
    """
    path = Path(path).expanduser()
    if path.is_dir() or not (path.suffix or path.exists()):
        return path / FILE_NAME
    return path


class EmbeddingCache:
    """Vectors by key, shared by any number of threads and processes.

    A connection is opened at first use, once a process, and again after a fork. A directory that
    cannot be written is read only; a corrupt file is moved aside (suffix `.corrupt`) and begun
    anew; each is a `CacheWarning`, once.
    """

    def __init__(self, path: str | os.PathLike[str] | None = None, *, timeout: float = 30) -> None:
        """Choose the file; it is opened at first use.

        Args:
            path: file or directory; by default `default_cache_path()`.
            timeout: seconds to wait for other processes' writes.
        """
        self.path = default_cache_path() if path is None else cache_file(path)
        self.timeout = timeout
        self._connection: sqlite3.Connection | None = None
        self._mode: Literal["unopened", "write", "read", "off"] = "unopened"
        self._inode = 0
        self._pid = os.getpid()
        self._lock = threading.Lock()

    def __reduce__(self) -> tuple[type[EmbeddingCache], tuple[Path]]:
        """Pickle the path alone: another process opens its own connection."""
        return EmbeddingCache, (self.path,)

    def __del__(self) -> None:
        """Close the connection."""
        with contextlib.suppress(Exception):
            self.close()

    def read(self, keys: Sequence[bytes], dim: int) -> dict[bytes, Vectors]:
        """The stored vectors, (dim,) each, of those keys that have an intact one."""

        def select(connection: sqlite3.Connection) -> dict[bytes, Vectors]:
            found: dict[bytes, Vectors] = {}
            damaged = 0
            for start in range(0, len(keys), _KEYS_PER_QUERY):
                some = keys[start : start + _KEYS_PER_QUERY]
                marks = ",".join("?" * len(some))
                query = f"SELECT key, crc, vector FROM vectors_1 WHERE key IN ({marks})"
                for key, crc, blob in connection.execute(query, some):
                    if crc == _checksum(key, blob) and len(blob) == 4 * dim:
                        found[key] = np.frombuffer(blob, dtype="<f4").astype(np.float32)
                    else:
                        damaged += 1
            if damaged:
                self._warn(f"{damaged} vectors failed their checksum and are encoded again")
            return found

        return self._run(select, {})

    def write(self, keys: Sequence[bytes], vectors: Vectors) -> None:
        """Store vectors (n, dim) under n keys in one transaction."""

        def insert(connection: sqlite3.Connection) -> None:
            if self._mode != "write":
                return
            blobs = [row.astype("<f4").tobytes() for row in vectors]
            rows = [(k, _checksum(k, b), b) for k, b in zip(keys, blobs, strict=True)]
            with connection:
                connection.executemany("INSERT OR REPLACE INTO vectors_1 VALUES (?,?,?)", rows)

        self._run(insert, None)

    def close(self) -> None:
        """Close the connection; the next use opens it again."""
        self._after_fork()
        with self._lock:
            self._disconnect("unopened")

    def _run(self, action: Callable[[sqlite3.Connection], T], nothing: T) -> T:
        """What an action gives; `nothing` when the cache is of no use."""
        self._after_fork()
        with self._lock:
            for _ in range(2):
                if self._connection is None and self._mode != "off":
                    self._open()
                if self._connection is None:
                    break
                try:
                    return action(self._connection)
                except sqlite3.DatabaseError as error:
                    if _is_corrupt(error):
                        self._rebuild(error)
                    else:
                        self._give_up(error)
        return nothing

    def _after_fork(self) -> None:
        if self._pid != os.getpid():
            if self._connection is not None:
                _inherited.append(self._connection)
            self._connection, self._mode = None, "unopened"
            self._pid, self._lock = os.getpid(), threading.Lock()

    def _open(self) -> None:
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            if not _is_writable(self.path):
                raise PermissionError("no permission to write")
            self._inode = _inode(self.path)
            self._connection, self._mode = _connect(self.path, self.timeout), "write"
        except (OSError, sqlite3.OperationalError) as error:
            self._open_read_only(error)
        except sqlite3.DatabaseError as error:
            self._rebuild(error)

    def _open_read_only(self, reason: Exception) -> None:
        try:
            if not self.path.is_file():
                raise FileNotFoundError("no file")
            uri = f"{self.path.absolute().as_uri()}?mode=ro&immutable=1"
            connection = sqlite3.connect(uri, uri=True, check_same_thread=False)
        except (OSError, sqlite3.Error):
            self._mode = "off"
            self._warn(f"cannot be used ({reason}); nothing is kept. Set LLMREC_CACHE elsewhere")
            return
        self._connection, self._mode = connection, "read"
        self._warn(f"is read-only ({reason}); new vectors are not kept. Set LLMREC_CACHE elsewhere")

    def _rebuild(self, reason: Exception) -> None:
        """Move a corrupt file aside, unless another process has done so already."""
        writable = self._mode != "read"
        self._disconnect("unopened")
        if writable and _inode(self.path) != self._inode:
            return
        try:
            if not writable:
                raise PermissionError("and the cache is read-only")
            os.replace(self.path, f"{self.path}.corrupt")
            for suffix in ("-wal", "-shm"):
                Path(f"{self.path}{suffix}").unlink(missing_ok=True)
        except OSError as error:
            self._mode = "off"
            self._warn(f"is corrupt ({reason}) and stays so ({error}); it is not used")
        else:
            self._warn(f"was corrupt ({reason}); moved to {self.path.name}.corrupt and begun anew")

    def _give_up(self, reason: Exception) -> None:
        if self._mode == "write" and not isinstance(reason, sqlite3.ProgrammingError):
            self._mode = "read"
            self._warn(f"cannot be written ({reason}); new vectors are not kept")
        else:
            self._disconnect("off")
            self._warn(f"cannot be read ({reason}); it is not used")

    def _disconnect(self, mode: Literal["unopened", "off"]) -> None:
        if self._connection is not None:
            with contextlib.suppress(sqlite3.Error):
                self._connection.close()
        self._connection, self._mode = None, mode

    def _warn(self, message: str) -> None:
        warnings.warn(f"embedding cache {self.path} {message}", CacheWarning, stacklevel=5)


class CachedEncoder:
    """An encoder that encodes a text once: later calls and other processes read the vector."""

    def __init__(self, encoder: Encoder, cache: EmbeddingCache) -> None:
        """Keep the vectors of `encoder`, whose fingerprint is part of every key, in `cache`."""
        self.encoder = encoder
        self.cache = cache
        self.dim = encoder.dim
        self.fingerprint = encoder.fingerprint

    def __repr__(self) -> str:
        """The encoder and the file."""
        return f"CachedEncoder({self.encoder!r}, {str(self.cache.path)!r})"

    def encode(self, texts: Sequence[str]) -> Vectors:
        """Vectors of the texts: float32, (n, dim), bit for bit those of the wrapped encoder.

        Raises:
            TypeError: for an element that is not a string.
            ValueError: for a lone surrogate.
            EncodingError: for vectors of a wrong shape or with NaN, which are not stored.
        """
        texts = normalize_texts(texts)
        keys = [text_key(self.fingerprint, text) for text in texts]
        missing = dict(zip(keys, texts, strict=True))
        found = self.cache.read(list(missing), self.dim)
        todo = [key for key in missing if key not in found]
        for start in range(0, len(todo), _TEXTS_PER_BATCH):
            batch = todo[start : start + _TEXTS_PER_BATCH]
            encoded = self.encoder.encode([missing[key] for key in batch])
            encoded = check_encoding(encoded, len(batch), self.dim, name=repr(self.encoder))
            self.cache.write(batch, encoded)
            found.update(zip(batch, encoded, strict=True))
        vectors = np.array([found[key] for key in keys], dtype=np.float32)
        return vectors.reshape(len(texts), self.dim)


def text_key(fingerprint: str, text: str) -> bytes:
    """The key of a normalized text's vector: a digest, so that no text is kept."""
    return hashlib.sha256(f"{fingerprint}\0{text}".encode()).digest()


def _connect(path: Path, timeout: float) -> sqlite3.Connection:
    """A writable connection, waiting while other processes set the file up."""
    deadline = time.monotonic() + timeout
    while True:
        connection = sqlite3.connect(
            path, timeout=timeout, isolation_level="IMMEDIATE", check_same_thread=False
        )
        try:
            connection.execute("PRAGMA journal_mode=WAL")
            connection.execute("PRAGMA synchronous=NORMAL")
            connection.execute(_SCHEMA)
            connection.execute("SELECT crc FROM vectors_1 LIMIT 1").fetchall()
            return connection
        except sqlite3.Error as error:
            connection.close()
            busy = isinstance(error, sqlite3.OperationalError) and "locked" in str(error)
            if not busy or time.monotonic() > deadline:
                raise
            time.sleep(0.05)


def _checksum(key: bytes, blob: bytes) -> int:
    return zlib.crc32(blob, zlib.crc32(key))


def _is_corrupt(error: sqlite3.DatabaseError) -> bool:
    """Whether SQLite found no database or a damaged one: it reports both as the bare class."""
    return type(error) is sqlite3.DatabaseError


def _is_writable(path: Path) -> bool:
    places = [path.parent, path] if path.exists() else [path.parent]
    return all(os.access(place, os.W_OK) for place in places)


def _inode(path: Path) -> int:
    return path.stat().st_ino if path.exists() else 0
