"""Pages name functions and files that exist; the table of docs/MODEL.md is the configuration's."""

from __future__ import annotations

import re
import runpy
from importlib import import_module
from pathlib import Path

import pytest

DOCS = Path(__file__).parents[2] / "docs"
ROOMS = ("simulation", "interface", "content")


def test_the_parameter_table_is_that_of_the_configuration() -> None:
    page = (DOCS / "MODEL.md").read_text("utf-8")
    assert runpy.run_path(str(DOCS / "parameters.py"))["renewed"](page) == page


@pytest.mark.parametrize("page", ["MODEL.md", "GLOSSARY.md"])
def test_functions_that_a_page_names_exist(page: str) -> None:
    text = (DOCS / page).read_text("utf-8")
    names = set(re.findall(r"`([a-z_]+)\.([a-z_]+)`", text))
    assert names or page != "MODEL.md"
    for module, function in sorted(names - {("config", "py")}):
        assert any(_has(room, module, function) for room in ROOMS), f"{module}.{function}"


@pytest.mark.parametrize("page", ["ARCHITECTURE.md", "HOWTO.md", "../CONTRIBUTING.md"])
def test_files_that_a_page_names_exist(page: str) -> None:
    text = (DOCS / page).read_text("utf-8")
    paths = re.findall(r"`((?:llmrec_env|agents|experiments|tests|docs)/[\w/.]*)`", text)
    assert paths
    assert [path for path in paths if not (DOCS.parent / path).exists()] == []


def _has(room: str, module: str, function: str) -> bool:
    for name in (f"llmrec_env.{room}.{module}", f"llmrec_env.{module}"):
        try:
            if hasattr(import_module(name), function):
                return True
        except ModuleNotFoundError:
            continue
    return False
