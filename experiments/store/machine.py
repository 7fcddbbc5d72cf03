"""What the bits of a result depend on beside its settings: threads, CPU and code."""

from __future__ import annotations

import hashlib
import platform
from functools import lru_cache
from pathlib import Path
from typing import Any

import agents
import llmrec_env
from llmrec_env.simulation.kernel_cache import statements

THREADS = 1
"""Of torch and of the linear algebra of numpy and scipy, in every run."""
_CPU_INFO = Path("/proc/cpuinfo")


@lru_cache
def cpu() -> dict[str, Any]:
    """Returns which CPU this is, as compilers and libraries see it.

    `model`; `compiled_for`, numba's name of it and a digest of the instructions that it may use;
    `torch`, the instructions that torch's kernels were chosen for; `blas`, the kernels of the
    linear algebra.
    """
    import torch
    from llvmlite import binding
    from threadpoolctl import threadpool_info

    instructions = binding.get_host_cpu_features().flatten()
    digest = hashlib.sha256(instructions.encode()).hexdigest()[:16]
    blas = [x for x in threadpool_info() if x["user_api"] == "blas"]
    return {
        "model": _model(),
        "compiled_for": f"{binding.get_host_cpu_name()} {digest}",
        "torch": torch.backends.cpu.get_cpu_capability(),
        "blas": sorted({f"{x['internal_api']} {x.get('architecture')}" for x in blas}),
    }


def _model() -> str:
    if _CPU_INFO.exists():
        lines = _CPU_INFO.read_text(errors="replace").splitlines()
        names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
        if names:
            return names[0]
    return platform.processor() or platform.machine()


@lru_cache
def code_digest() -> str:
    """Returns a digest of the sources of the environment and of the agents.

    It holds all that is compiled, of agents too, and what calls it. Comments, docstrings and layout
    do not count.
    """
    digest = hashlib.sha256()
    for package in (llmrec_env, agents):
        root = Path(package.__path__[0])
        for path in sorted(root.rglob("*.py")):
            name = path.relative_to(root.parent).as_posix()
            digest.update(f"\n{name}\n{statements(path.read_text())}".encode())
    return digest.hexdigest()[:16]
