"""Runs the lines of a section of docs/clients.md: `python docs/try_client.py torchrl`.

A library that is not installed goes into an environment of its own, `.venv/clients/NAME`, beside
what this Python has, so that it may want other versions of anything.
"""

from __future__ import annotations

import re
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path

ROOT = Path(__file__).parents[1]
PAGE = Path(__file__).with_name("clients.md")


def blocks() -> dict[str, str]:
    """Returns the Python of each section by the section's name."""
    sections = re.split(r"^## (.+)\n", PAGE.read_text("utf-8"), flags=re.MULTILINE)[1:]
    found = zip(sections[::2], sections[1::2], strict=True)
    code = {x: re.search(r"^```python\n(.*?)^```", y, re.DOTALL | re.MULTILINE) for x, y in found}
    return {name.lower(): match[1] for name, match in code.items() if match}


def requirements(block: str) -> list[str]:
    """Returns what a block says that it wants, in its first line."""
    match = re.match(r"# pip install (.+)\n", block)
    return match[1].split() if match else []


def interpreter(name: str, wanted: list[str]) -> Path:
    """Returns a Python that has the libraries, beside what this one has."""
    folder = ROOT / ".venv/clients" / name.replace(" ", "-")
    python = folder / "bin/python"
    if not (folder / ".ready").exists():
        venv.create(folder, with_pip=True, clear=True)
        packages = subprocess.check_output(
            [python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"], text=True
        ).strip()
        paths = f"{sysconfig.get_path('purelib')}\n{ROOT}\n"
        (Path(packages) / "beside.pth").write_text(paths)
        subprocess.run([python, "-m", "pip", "install", "--quiet", *wanted], check=True)
        (folder / ".ready").touch()
    return python


def main(name: str) -> int:
    """Runs a section, and returns its exit status."""
    known = blocks()
    if name.lower() not in known:
        print(f"no section {name!r}; there are: {', '.join(known)}", file=sys.stderr)
        return 2
    block = known[name.lower()]
    python = interpreter(name.lower(), requirements(block))
    return subprocess.run([python, "-c", block], cwd=ROOT, check=False).returncode


if __name__ == "__main__":
    sys.exit(main(" ".join(sys.argv[1:])))
