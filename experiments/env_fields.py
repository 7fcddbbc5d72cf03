"""Environment fields given by a caller or on the command line: what differs from the task."""

from __future__ import annotations

import argparse
import ast
import dataclasses
import inspect
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Annotated, Any

import tyro

from llmrec_env.config import ConfigError, EnvConfig, unknown

EnvFields = Annotated[Mapping[str, Any], tyro.conf.Suppress, tyro.conf.Fixed]
"""Fields of EnvConfig by name. Only those given override the task, whatever their value."""
NO_FIELDS: Mapping[str, Any] = MappingProxyType({})
PREFIX = "--env."
_FIELDS = {field.name: field for field in dataclasses.fields(EnvConfig)}


def given_fields(env: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the fields as plain JSON data; their values are checked together with the task's.

    Raises:
        ConfigError: a field is unknown.
    """
    for name in env:
        if name not in _FIELDS:
            raise ConfigError(unknown("config field", name, list(_FIELDS)))
    return {name: list(x) if isinstance(x, tuple) else x for name, x in env.items()}


def split_env_options(options: Sequence[str]) -> tuple[dict[str, Any], list[str]]:
    """Returns the fields that `--env.FIELD VALUE` options give, and all other options.

    Raises:
        ConfigError: a field is unknown.
    """
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False, exit_on_error=False)
    for name, field in _FIELDS.items():
        flags = {PREFIX + name, PREFIX + name.replace("_", "-")}
        count = "*" if str(field.type).startswith("tuple") else None
        parser.add_argument(*flags, dest=name, nargs=count, default=argparse.SUPPRESS)
    try:
        fields, others = parser.parse_known_args(options)
    except argparse.ArgumentError as error:
        raise ConfigError(f"{error}; write {PREFIX}FIELD VALUE.") from None
    for option in others:
        if option.startswith(PREFIX):
            name = option.removeprefix(PREFIX).partition("=")[0].replace("-", "_")
            raise ConfigError(unknown("config field", name, list(_FIELDS)))
    return {name: _value(_FIELDS[name], text) for name, text in vars(fields).items()}, others


def field_docs() -> dict[str, str]:
    """Returns the docstring under each field of EnvConfig."""
    (definition,) = ast.parse(inspect.getsource(EnvConfig)).body
    assert isinstance(definition, ast.ClassDef)
    docs = {}
    for field, line in zip(definition.body, definition.body[1:], strict=False):
        if isinstance(field, ast.AnnAssign) and isinstance(line, ast.Expr):
            docs[ast.unparse(field.target)] = str(ast.literal_eval(line.value))
    return docs


def help_text() -> str:
    """Returns a line for each `--env.FIELD`: its default in EnvConfig, and what it means."""
    lines = ["Fields of the environment; those given override the task's.", ""]
    for name, doc in field_docs().items():
        default = _FIELDS[name].default
        shown = " ".join(default) if isinstance(default, tuple) else default
        lines.append(f"{PREFIX}{name.replace('_', '-')} {shown}\n    {doc}")
    return "\n".join(lines)


def _value(field: dataclasses.Field[Any], text: Any) -> Any:
    """The value of an option; one of another kind stays text, which EnvConfig refuses."""
    kind = str(field.type)
    if kind.endswith("None") and text.lower() == "none":
        return None
    if kind == "bool":
        return {"true": True, "false": False}.get(text.lower(), text)
    for number in (int, float):
        if kind.startswith(("int", "float")):
            try:
                return number(text)
            except ValueError:
                pass
    return text
