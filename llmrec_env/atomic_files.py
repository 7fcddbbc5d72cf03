"""Atomic writing of files: after a crash the old content is there or the new, never a part."""

from __future__ import annotations

import contextlib
import glob
import hashlib
import os
import platform
import re
import secrets
from pathlib import Path

_HOST = hashlib.sha256(platform.node().encode()).hexdigest()[:8]


def write_atomically(path: str | os.PathLike[str], content: bytes) -> Path:
    """Writes a file that is whole or not there at any moment, and returns its path.

    The content goes to a temporary file beside it, to disk, then to its name. A process that is
    killed before that leaves its temporary file to the next write to the same path on the same
    machine, which removes it. Of several writers at once the last one wins.

    Raises:
        OSError: the folder does not exist, cannot be written, or is full; the file is as before.
    """
    path = Path(path)
    _remove_leftovers(path)
    name = f".{path.name}.{_HOST}-{os.getpid()}-{secrets.token_hex(4)}.part"
    temporary = path.with_name(name)
    try:
        with open(temporary, "xb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise
    if os.name == "posix":  # the new name is on disk only when its folder is
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
    return path


def _remove_leftovers(path: Path) -> None:
    """Removes the temporary files of writers on this machine that are no longer alive."""
    if os.name != "posix":
        return  # elsewhere asking whether a process is alive by os.kill would end it
    pattern = f".{glob.escape(path.name)}.{_HOST}-*.part"
    for leftover in path.parent.glob(pattern):
        writer = re.fullmatch(r"(\d+)-[0-9a-f]{8}", leftover.name.split(f".{_HOST}-")[-1][:-5])
        if writer is None:
            continue
        try:
            os.kill(int(writer[1]), 0)
        except ProcessLookupError:
            with contextlib.suppress(OSError):
                leftover.unlink()
        except OSError:
            continue  # the process of another user
