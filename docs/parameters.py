"""Parameter table of docs/MODEL.md, from llmrec_env/config.py: run this file to renew it."""

from __future__ import annotations

import ast
import dataclasses
import inspect
import itertools
import re
from pathlib import Path

from llmrec_env import config

BEGIN, END = "<!-- parameters:begin -->", "<!-- parameters:end -->"
PAGE = Path(__file__).with_name("MODEL.md")


def table() -> str:
    """Returns a Markdown table of every field: its default, what is allowed, and its docstring."""
    source = inspect.getsource(config)
    sections = {
        number: match[1]
        for number, line in enumerate(source.splitlines(), 1)
        if (match := re.match(r"    # --- (.*)", line))
    }
    fields = {field.name: field for field in dataclasses.fields(config.EnvConfig)}
    classes = (node for node in ast.parse(source).body if isinstance(node, ast.ClassDef))
    body = next(node.body for node in classes if node.name == "EnvConfig")
    lines, section = ["| field | default | allowed | what it is |", "|---|---|---|---|"], ""
    for field, text in itertools.pairwise(body):
        if not isinstance(field, ast.AnnAssign):
            continue
        assert isinstance(field.target, ast.Name) and isinstance(text, ast.Expr)
        latest = [title for number, title in sections.items() if number < field.lineno][-1]
        if latest != section:
            section = latest
            lines.append(f"| **{section}** | | | |")
        name, description = field.target.id, ast.literal_eval(text.value)
        default, allowed = fields[name].default, _allowed(fields[name])
        lines.append(f"| `{name}` | `{default}` | {allowed} | {' '.join(description.split())} |")
    return "\n".join(lines)


def _allowed(field: dataclasses.Field) -> str:
    if "range" in field.metadata:
        low, high = field.metadata["range"]
        return " to ".join(f"{limit:,}".removesuffix(".0") for limit in (low, high))
    return ", ".join(f"`{value}`" for value in field.metadata.get("allowed", ()))


def renewed(page: str) -> str:
    """Returns the text of the page with its table as it should be."""
    before, rest = page.split(BEGIN)
    return f"{before}{BEGIN}\n{table()}\n{END}{rest.split(END)[1]}"


if __name__ == "__main__":
    PAGE.write_text(renewed(PAGE.read_text("utf-8")), "utf-8")
