"""Code in a process of its own."""

import os
import subprocess
import sys
from collections.abc import Callable

import pytest


@pytest.fixture
def run_python() -> Callable[..., str]:
    """Runs code in a new process with these environment variables; returns what it prints."""

    def run(code: str, **environment: str) -> str:
        paths = {"PYTHONPATH": os.pathsep.join(sys.path)}
        return subprocess.run(
            [sys.executable, "-c", code],
            env=os.environ | paths | environment,
            capture_output=True,
            text=True,
            check=True,
            encoding="utf-8",
        ).stdout.strip()

    return run
