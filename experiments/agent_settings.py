"""Settings of agents given on the command line: `--set name=value`."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from typing import Any

_WORD = re.compile(r"[A-Za-z~./][\w~./+-]*", re.ASCII)
"""A plain word or path, which needs no quotes."""


def read_settings(words: Sequence[str]) -> dict[str, Any]:
    """Returns the settings that `name=value` says, values being JSON or a plain word.

    Raises:
        ValueError: a word is not of this form.
    """
    values: dict[str, Any] = {}
    for word in words:
        name, sign, value = word.partition("=")
        if not sign or not name.isidentifier() or name in values:
            raise ValueError(f"--set {word!r} is not name=value with a new name; write epochs=4.")
        try:
            values[name] = json.loads(value, parse_constant=_not_a_number)
        except ValueError:
            if not _WORD.fullmatch(value) or value in ("NaN", "Infinity"):
                raise ValueError(
                    f"--set {name}={value!r} is neither JSON nor a plain word; write "
                    f"{name}=0.1, {name}=true, '{name}=[64, 64]' or {name}=word."
                ) from None
            values[name] = value
    return values


def _not_a_number(word: str) -> None:
    raise ValueError(word)
