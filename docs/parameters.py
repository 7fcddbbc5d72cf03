"""Parameter table of docs/MODEL.md, from llmrec_env/config.py: run this file to renew it."""

from __future__ import annotations

import dataclasses
import inspect
import re
from pathlib import Path

from experiments.env_fields import field_docs
from llmrec_env.config import EnvConfig

BEGIN, END = "<!-- parameters:begin -->", "<!-- parameters:end -->"
PAGE = Path(__file__).with_name("MODEL.md")


def table() -> str:
    """Returns a Markdown table of every field: its default, what is allowed, and its docstring."""
    docs, fields = field_docs(), {field.name: field for field in dataclasses.fields(EnvConfig)}
    lines = ["| field | default | allowed | what it is |", "|---|---|---|---|"]
    for line in inspect.getsource(EnvConfig).splitlines():
        if section := re.match(r"    # --- (.*)", line):
            lines.append(f"| **{section[1]}** | | | |")
        elif (match := re.match(r"    (\w+): ", line)) and match[1] in docs:
            name, description = match[1], " ".join(docs[match[1]].split())
            default, allowed = fields[name].default, _allowed(fields[name])
            lines.append(f"| `{name}` | `{default}` | {allowed} | {description} |")
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
