"""Lines of a text file, plain or gzip, which name what is wrong with them."""

from __future__ import annotations

import gzip
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TextIO, cast

from llmrec_env.content.cells import SURROGATE, MalformedError

MAX_BYTES = 4_000_000_000
MAX_LINE = 1_000_000  # characters


class UnreadableError(ValueError):
    """What is wrong with a file that no row can be read of any more, and the fix."""


class Lines:
    """Lines of a file, which can be taken back to the second line of a record."""

    def __init__(self, file: TextIO) -> None:
        """Reads from the beginning of an open file."""
        self._file = file
        self._record: list[str] = []
        self._again: deque[str] = deque()
        self._length = 0
        self._number = 0
        self._read_characters = 0

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        line = self._again.popleft() if self._again else self._read()
        if not line:
            raise StopIteration
        self._number += 1
        self._length += len(line)
        self._record.append(line)
        if self._length > MAX_LINE:
            raise MalformedError(
                f"more than {MAX_LINE} characters, or a quote that is never closed; "
                "shorten the row, or close the quote"
            )
        if not line.isascii():
            if self._number == 1:
                line = line.removeprefix("\ufeff")  # the byte-order mark that Excel writes
            if SURROGATE.search(line):
                raise MalformedError(
                    "bytes that are not UTF-8; save the file as UTF-8, or give its encoding"
                )
        if "\0" in line:
            raise MalformedError(
                "a NUL character; remove it, or save the file as UTF-8, or give its encoding"
            )
        return line

    def _read(self) -> str:
        line = part = self._file.readline(MAX_LINE + 1)
        while len(part) > MAX_LINE and part[-1] not in "\r\n":
            part = self._file.readline(MAX_LINE + 1)
            self._read_characters += len(part)
        self._read_characters += len(line)
        if self._read_characters > MAX_BYTES:  # a small file can unpack to any size
            raise UnreadableError(f"there are more than {MAX_BYTES} characters; split the file")
        return line

    def begin(self) -> int:
        """Says that a record begins here; returns the number of its first line."""
        self._record.clear()
        self._length = 0
        return self._number + 1

    def back(self) -> None:
        """Goes back to the line after the one where the record began."""
        self._again.extendleft(reversed(self._record[1:]))
        self._number -= max(len(self._record) - 1, 0)


def open_lines(path: Path, encoding: str) -> TextIO:
    """Returns the open file; gzip is known by its first two bytes.

    Raises:
        UnreadableError: there is no such encoding.
    """
    with open(path, "rb") as file:
        packed = file.read(2) == b"\x1f\x8b"
    # surrogateescape lets a bad byte through as a surrogate, so that its line can be named.
    options: dict[str, Any] = {"encoding": encoding, "errors": "surrogateescape", "newline": ""}
    try:
        return cast(TextIO, gzip.open(path, "rt", **options) if packed else open(path, **options))
    except LookupError:
        raise UnreadableError(
            f"encoding={encoding!r} is none that Python knows; write utf-8, cp1252, gb18030, ..."
        ) from None
