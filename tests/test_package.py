"""The wheel: what is in it, and a page that an index can show."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

import llmrec_env

pytest.importorskip("hatchling", reason="hatchling, which builds the wheel, is not installed")
ROOT = Path(__file__).parents[1]


def wheel(folder: Path, **environment: str) -> zipfile.ZipFile:
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)]
    inherited = {name: x for name, x in os.environ.items() if name != "REPOSITORY_URL"}
    subprocess.run(command, cwd=ROOT, env=inherited | environment, check=True, capture_output=True)
    (path,) = folder.glob("*.whl")
    return zipfile.ZipFile(path)


def metadata(archive: zipfile.ZipFile) -> str:
    (name,) = (name for name in archive.namelist() if name.endswith("METADATA"))
    return archive.read(name).decode()


def test_the_wheel_holds_the_environment_its_types_and_its_vectors_alone(tmp_path):
    archive = wheel(tmp_path)
    names = archive.namelist()
    information = f"llmrec_env-{llmrec_env.__version__}.dist-info"
    assert {name.partition("/")[0] for name in names} == {"llmrec_env", information}
    assert "llmrec_env/py.typed" in names
    assert "llmrec_env/content/catalogues/video/minilm.npz" in names


def test_without_an_address_the_page_has_no_link_into_the_repository(tmp_path):
    page = metadata(wheel(tmp_path))
    assert "Project-URL" not in page
    assert "GLOSSARY" in page and "](" in page
    assert re.findall(r"\]\((?!https?://|#)", page) == []


def test_with_an_address_links_and_pictures_are_absolute(tmp_path):
    page = metadata(wheel(tmp_path, REPOSITORY_URL="https://host.example/us/env/"))
    assert "Project-URL: Issues, https://host.example/us/env/issues" in page
    assert "](https://host.example/us/env/raw/HEAD/docs/loop.svg)" in page
    assert "](https://host.example/us/env/blob/HEAD/docs/GLOSSARY.md)" in page
    assert re.findall(r"\]\((?!https?://|#)", page) == []


def test_the_citation_names_this_version_and_licence():
    cited = dict(re.findall(r"^(\w+): (.+)$", (ROOT / "CITATION.cff").read_text("utf-8"), re.M))
    assert cited["version"] == llmrec_env.__version__
    assert cited["license"] == "MIT"
