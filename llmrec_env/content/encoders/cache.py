"""Embedding cache: vectors of texts on disk, shared by processes, never a text.

One SQLite table of (digest, checksum, vector), opened for each use and closed after it: a writer
that is killed loses its own transaction and nothing else, and a text is found whatever was encoded
beside it. A new file keeps SQLite's rollback journal, which needs no set-up. Whatever is
wrong with the file costs a warning and the time to encode again, never a wrong vector and never the
program.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import sqlite3
import warnings
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from llmrec_env.content.encoders.protocol import Encoder, Vectors, check_encoding, normalize_texts
from llmrec_env.simulation.kernel_cache import is_database

_SCHEMA = (
    "CREATE TABLE IF NOT EXISTS vectors_1 (key BLOB PRIMARY KEY, crc INTEGER NOT NULL, "
    "vector BLOB NOT NULL)"
)
_KEYS_PER_QUERY = 500  # old SQLite takes 999 parameters
_TEXTS_PER_BATCH = 2048  # what a crash can cost
_WAIT = 30.0  # seconds for other processes' writes
_NO_PERMISSION = "no permission to write"


class CacheWarning(UserWarning):
    """The cache is unusable, read-only or was rebuilt; results are unaffected."""


def cache_path(path: str | os.PathLike[str] | None = None) -> Path:
    """The file of a cache: `path`, else $LLMREC_CACHE, else in the user's cache directory.

    A directory holds `embeddings.sqlite`; a new path ending in .sqlite, .sqlite3 or .db is a file.
    """
    if path is None:
        home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
        path = os.environ.get("LLMREC_CACHE") or Path(home, "llmrec_env")
    path = Path(path).expanduser()
    return path if path.is_file() or is_database(path) else path / "embeddings.sqlite"


class CachedEncoder:
    """An encoder that encodes a text once: later calls and other processes read the vector.

    A directory that cannot be written is only read; a corrupt file is moved aside (suffix
    `.corrupt`) and begun anew; each is a `CacheWarning`, once.
    """

    def __init__(self, encoder: Encoder, path: str | os.PathLike[str] | None = None) -> None:
        """Keep the vectors of `encoder`, whose fingerprint is part of every key.

        Args:
            encoder: what encodes a text that is not stored.
            path: file or directory: see `cache_path`.
        """
        self.encoder = encoder
        self.path = cache_path(path)
        self.dim = encoder.dim
        self.fingerprint = encoder.fingerprint
        self._can_read = self._can_write = True

    def __repr__(self) -> str:
        return f"CachedEncoder({self.encoder!r}, {str(self.path)!r})"

    def encode(self, texts: Sequence[str]) -> Vectors:
        """Vectors of the texts: float32, (n, dim), bit for bit those of the wrapped encoder.

        Raises:
            TypeError: for an element that is not a string.
            ValueError: for a lone surrogate.
            EncodingError: for vectors of a wrong shape or with NaN, which are not stored.
        """
        texts = normalize_texts(texts)
        keys = [text_key(self.fingerprint, text) for text in texts]
        text_of = dict(zip(keys, texts, strict=True))
        vectors = self._read(list(text_of))
        missing = [key for key in text_of if key not in vectors]
        for start in range(0, len(missing), _TEXTS_PER_BATCH):
            batch = missing[start : start + _TEXTS_PER_BATCH]
            encoded = self.encoder.encode([text_of[key] for key in batch])
            encoded = check_encoding(encoded, len(batch), self.dim, name=repr(self.encoder))
            self._write(batch, encoded)
            vectors.update(zip(batch, encoded, strict=True))
        rows = np.array([vectors[key] for key in keys], dtype=np.float32)
        return rows.reshape(len(texts), self.dim)

    def _read(self, keys: Sequence[bytes]) -> dict[bytes, Vectors]:
        """The stored vectors, (dim,) each, of those keys that have an intact one."""
        vectors: dict[bytes, Vectors] = {}

        def select(connection: sqlite3.Connection) -> None:
            damaged = 0
            for start in range(0, len(keys), _KEYS_PER_QUERY):
                chunk = keys[start : start + _KEYS_PER_QUERY]
                marks = ",".join("?" * len(chunk))
                query = f"SELECT key, crc, vector FROM vectors_1 WHERE key IN ({marks})"
                for key, crc, blob in connection.execute(query, chunk):
                    if crc == _checksum(key, blob) and len(blob) == 4 * self.dim:
                        vectors[key] = np.frombuffer(blob, dtype="<f4").astype(np.float32)
                    else:
                        damaged += 1
            if damaged:
                self._warn(f"had {damaged} damaged vectors, which are encoded again")

        self._run(select, writing=False)
        return vectors

    def _write(self, keys: Sequence[bytes], vectors: Vectors) -> None:
        """Store vectors (n, dim) under n keys in one transaction."""
        blobs = [row.astype("<f4").tobytes() for row in vectors]
        rows = [(key, _checksum(key, blob), blob) for key, blob in zip(keys, blobs, strict=True)]

        def insert(connection: sqlite3.Connection) -> None:
            connection.executemany("INSERT OR REPLACE INTO vectors_1 VALUES (?,?,?)", rows)

        self._run(insert, writing=True)

    def _run(self, action: Callable[[sqlite3.Connection], None], writing: bool) -> None:
        """Run an action on the file; what fails costs a warning and is not tried again."""
        if not (self._can_write if writing else self._can_read):
            return
        path, inode = self.path.absolute(), _inode(self.path)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            is_writable = os.access(path.parent, os.W_OK)
            if writing and not is_writable:
                raise PermissionError(_NO_PERMISSION)
            # Without permission SQLite could not look for a log beside the file.
            uri = f"{path.as_uri()}?mode={'rwc' if is_writable else 'ro&immutable=1'}"
            connection = sqlite3.connect(uri, timeout=_WAIT, isolation_level="IMMEDIATE", uri=True)
            with contextlib.closing(connection), connection:
                if is_writable:
                    connection.execute(_SCHEMA)
                action(connection)
        except (OSError, sqlite3.OperationalError) as error:  # no permission, no space, locked
            self._can_write, self._can_read = False, self._can_read and writing
            outcome = "cannot be written, new vectors are not kept" if writing else "is not used"
            self._warn(f"{outcome} ({error})")
        except sqlite3.DatabaseError as error:
            if _inode(self.path) == inode:  # else another process has begun it anew
                self._move_aside(error)
            self._run(action, writing)

    def _move_aside(self, reason: Exception) -> None:
        """Make room for a new file where a corrupt one is."""
        try:
            if not os.access(self.path.absolute().parent, os.W_OK):
                raise PermissionError(_NO_PERMISSION)
            for suffix in ("-journal", "-wal", "-shm"):  # or they would be replayed into a new file
                Path(f"{self.path}{suffix}").unlink(missing_ok=True)
            os.replace(self.path, f"{self.path}.corrupt")
            self._warn(f"was corrupt ({reason}): moved to {self.path.name}.corrupt and begun anew")
        except OSError as error:
            self._can_write = self._can_read = False
            self._warn(f"is corrupt ({reason}) and not used ({error})")

    def _warn(self, message: str) -> None:
        text = f"embedding cache {self.path} {message}; LLMREC_CACHE moves the cache elsewhere"
        warnings.warn(text, CacheWarning, stacklevel=5)


def text_key(fingerprint: str, text: str) -> bytes:
    """The key of a normalized text's vector: a digest, so that no text is kept."""
    return hashlib.sha256(f"{fingerprint}\0{text}".encode()).digest()


def _checksum(key: bytes, blob: bytes) -> int:
    return zlib.crc32(blob, zlib.crc32(key))


def _inode(path: Path) -> int:
    return path.stat().st_ino if os.path.isfile(path) else 0
