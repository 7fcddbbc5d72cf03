"""Settings of an agent as its source tells them, read without importing what it needs."""

from __future__ import annotations

import ast
import itertools
import re
from pathlib import Path
from typing import Any, NamedTuple

from agents import AGENTS

_ARGUMENT = re.compile(r"^    (\w+): (.*(?:\n {8,}.*)*)", re.MULTILINE)


class Setting(NamedTuple):
    """One argument of an agent."""

    name: str
    value: str
    """Its default, in Python."""
    searched: str
    """What `experiments tune` may try."""
    meaning: str


def settings_of(agent: str, root: Path) -> list[Setting]:
    """Returns the settings of an agent by name, those of the registry first.

    Args:
        agent: a name of the registry.
        root: of the checkout.
    """
    spec = AGENTS[agent]
    module, _, factory = str(spec.factory).partition(":")
    path = root / (module.replace(".", "/") + ".py")
    values, meanings = _of_class(ast.parse(path.read_text("utf-8")), factory, path)
    own = {name: repr(value) for name, value in spec.defaults.items()}
    names = [*own, *(name for name in values if name not in own)]
    fixed = {"seed", *spec.arguments}
    return [
        Setting(
            name,
            own.get(name, values.get(name, "")),
            _range(spec.search_space.get(name)),
            meanings.get(name, ""),
        )
        for name in names
        if name not in fixed
    ]


def _of_class(module: ast.Module, name: str, path: Path) -> tuple[dict[str, str], dict[str, str]]:
    """Defaults and meanings of what a class takes, with its bases in the module and Settings."""
    classes = {x.name: x for x in module.body if isinstance(x, ast.ClassDef)}
    values: dict[str, str] = {}
    meanings: dict[str, str] = {}
    waiting = [name]
    while waiting:
        found = classes.get(waiting.pop())
        if found is None:
            continue
        waiting += [base.id for base in found.bases if isinstance(base, ast.Name)]
        for method in found.body:
            if isinstance(method, ast.FunctionDef) and method.name == "__init__":
                values = _defaults(method.args) | values
                meanings = _meanings(ast.get_docstring(method) or "") | meanings
                if method.args.kwarg and method.args.kwarg.annotation:
                    fields, docs = _fields(classes.get("Settings"), path)
                    values, meanings = fields | values, docs | meanings
    return values, meanings


def _defaults(arguments: ast.arguments) -> dict[str, str]:
    given = zip(arguments.args[::-1], arguments.defaults[::-1], strict=False)
    keywords = zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True)
    pairs = [*reversed([*given]), *((a, x) for a, x in keywords if x is not None)]
    return {argument.arg: ast.unparse(value) for argument, value in pairs}


def _meanings(docstring: str) -> dict[str, str]:
    _, _, arguments = docstring.partition("Args:\n")
    return {name: " ".join(text.split()) for name, text in _ARGUMENT.findall(arguments)}


def _fields(settings: ast.ClassDef | None, path: Path) -> tuple[dict[str, str], dict[str, str]]:
    """Defaults and docstrings of a dataclass Settings, here or in `settings.py` beside."""
    beside = path.with_name("settings.py")
    if settings is None and beside.exists():
        body = ast.parse(beside.read_text("utf-8")).body
        settings = next(x for x in body if isinstance(x, ast.ClassDef) and x.name == "Settings")
    values, meanings = {}, {}
    body = settings.body if settings else []
    for field, line in itertools.pairwise(body):
        if isinstance(field, ast.AnnAssign) and isinstance(line, ast.Expr):
            name = ast.unparse(field.target)
            values[name] = ast.unparse(field.value) if field.value else ""
            meanings[name] = " ".join(str(ast.literal_eval(line.value)).split())
    return values, meanings


def _range(space: Any) -> str:
    if space is None:
        return ""
    if hasattr(space, "values"):
        return ", ".join(f"`{value}`" for value in space.values)
    return f"{space.low:g} to {space.high:g}" + (", log" if getattr(space, "log", False) else "")
