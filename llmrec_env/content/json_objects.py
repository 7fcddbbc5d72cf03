"""JSON of one line, read strictly."""

from __future__ import annotations

import json
from typing import Any, NoReturn

from llmrec_env.content.cells import MalformedError


def json_object(line: str) -> dict[Any, Any]:
    """Returns the object that a line holds.

    Raises:
        MalformedError: it holds none, a key twice, or NaN.
    """
    try:
        row = json.loads(line, object_pairs_hook=_unique_keys, parse_constant=_refuse_constant)
    except json.JSONDecodeError as error:
        raise MalformedError(
            f"not JSON at column {error.colno} ({error.msg}); write one JSON object a line"
        ) from None
    except MalformedError:
        raise
    except (ValueError, RecursionError):  # a number of thousands of digits; nesting
        raise MalformedError(
            "a value beyond what can be read; write one flat JSON object a line"
        ) from None
    if not isinstance(row, dict):
        raise MalformedError("not a JSON object; write one JSON object a line")
    return row


def _unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    row = dict(pairs)
    if len(row) < len(pairs):
        raise MalformedError("a key occurs twice in one object; delete one of the two")
    return row


def _refuse_constant(name: str) -> NoReturn:
    raise MalformedError(f"{name} is not JSON; write a number or null")
