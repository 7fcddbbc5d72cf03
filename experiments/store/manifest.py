"""The manifest of a run: settings, versions and machine, so that it can be run again."""

from __future__ import annotations

import importlib.metadata
import json
import os
import platform
import subprocess
import sys
from pathlib import Path
from typing import Any

import llmrec_env
from experiments.store.files import MANIFEST, Folder, ResultsError, read_text, write_file
from llmrec_env.simulation.kernel_cache import source_digest

_CODE = (":/llmrec_env", ":/agents", ":/experiments")
_PACKAGES = ("numpy", "scipy", "numba", "torch", "gymnasium", "stable-baselines3", "transformers")


def write_manifest(folder: Folder, **fields: Any) -> Path:
    """Writes `manifest.json`: fields such as config, encoder and wall_seconds, code and machine.

    Raises:
        ResultsError: a field is not JSON data.
    """
    status = _git("status", "--porcelain", "--", *_CODE)
    found = {
        "command": _command(),
        "version": llmrec_env.__version__,
        "dynamics": source_digest(),
        "python": platform.python_version(),
        "versions": {name: _version(name) for name in _PACKAGES},
        "git_commit": _git("rev-parse", "--verify", "HEAD"),
        "git_dirty": None if status is None else bool(status),
        "platform": platform.platform(),
        "cpus": os.cpu_count(),
        "load_average": list(os.getloadavg()),
    }
    try:
        text = json.dumps(found | fields, indent=1, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise ResultsError(f"{MANIFEST}: not JSON data ({error}); pass plain values.") from None
    return write_file(Path(folder) / MANIFEST, text.encode() + b"\n")


def _command() -> list[str]:
    """The command line without the place of this checkout."""
    first, *rest = sys.argv or [""]
    module = Path(first).name == "__main__.py"
    return ["python", "-m", Path(first).parent.name, *rest] if module else [Path(first).name, *rest]


def read_manifest(folder: Folder) -> dict[str, Any]:
    """Returns the manifest; a missing or torn file raises ResultsError."""
    path = Path(folder) / MANIFEST
    try:
        manifest = json.loads(read_text(path))
    except ValueError as error:
        if isinstance(error, ResultsError):
            raise
        raise ResultsError(f"{path}: not JSON ({error}); run again.") from None
    if not isinstance(manifest, dict):
        raise ResultsError(f"{path}: must hold one JSON object; run again.")
    return manifest


def _git(*arguments: str) -> str | None:
    """What git says of this checkout; None where there is no git, no checkout or no commit."""
    command = ["git", "-C", str(Path(__file__).parent), *arguments]
    try:
        return subprocess.run(
            command, capture_output=True, text=True, timeout=20, check=True
        ).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return None


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None
