"""Disk cache of compiled kernels, each under a digest of all that is compiled into it.

numba's own cache looks at the file of the outermost function alone: after an edit of a callee in
another file it goes on running the old one, and after an edit of a comment it compiles everything.
"""

from __future__ import annotations

import ast
import builtins
import contextlib
import dis
import hashlib
import os
import shutil
import sys
import time
import warnings
from functools import cache, lru_cache
from pathlib import Path
from types import CodeType, FunctionType, ModuleType
from typing import Any

import numba
import numpy as np
from numba.core import caching
from numba.extending import intrinsic

_UNUSED_DAYS = 30  # after which machine code is removed
_DYNAMICS = ("simulation/*.py", "interface/*.py", "world.py")


def cache_home() -> Path:
    """Folder of what can be recomputed: `$LLMREC_CACHE`, else in the user's cache.

    Where that is a database of embeddings, the folder that holds it.
    """
    if chosen := os.environ.get("LLMREC_CACHE"):
        path = Path(chosen).expanduser()
        return path.parent if is_database(path) else path
    home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(home) / "llmrec_env"


def is_database(path: Path) -> bool:
    """Says whether a path, which need not exist, names a database and no folder."""
    return path.suffix in (".sqlite", ".sqlite3", ".db") and not path.is_dir()


@lru_cache
def source_digest() -> str:
    """Returns which dynamics this is: a digest of the sources of the simulator, and of numba.

    Comments, docstrings and layout do not count. It is of the sources, not of the byte code that
    keys the machine code, so that every version of Python gives the same.
    """
    digest, root = hashlib.sha256(numba.__version__.encode()), Path(__file__).parents[1]
    for path in sorted(path for pattern in _DYNAMICS for path in root.glob(pattern)):
        digest.update(
            f"\n{path.relative_to(root).as_posix()}\n{statements(path.read_text())}".encode()
        )
    return digest.hexdigest()[:16]


def statements(source: str) -> str:
    """Returns a module's source without its comments, docstrings and layout."""
    tree = ast.parse(source)
    for node in ast.walk(tree):
        body = getattr(node, "body", None)
        if isinstance(body, list):
            node.body = [line for line in body if not _is_text(line)] or [ast.Pass()]  # type: ignore[attr-defined]
    return ast.unparse(tree)


def _is_text(node: ast.stmt) -> bool:
    return (
        isinstance(node, ast.Expr)
        and isinstance(node.value, ast.Constant)
        and isinstance(node.value.value, str)
    )


def kernel_digest(kernel: Any) -> str:
    """Returns a digest of a kernel and of every function that it calls, directly or not.

    It covers byte code, constants, globals and options of the compiler, not comments, docstrings
    or line numbers. The byte code is that of this process: a file edited since it was imported
    cannot lend its new digest to the old code.

    Args:
        kernel: what `kernel` or `inlined` returned.

    Raises:
        TypeError: the kernel uses a global whose value cannot be told.
    """
    reached, waiting = {}, [kernel]
    while waiting:
        function = waiting.pop()
        if function not in reached:
            reached[function], callees = _own_code(function)
            waiting += callees
    digest = hashlib.sha256(f"{numba.__version__}\n".encode())
    for code in sorted(reached.values()):
        digest.update(code.encode())
    return digest.hexdigest()[:16]


@cache
def _own_code(kernel: Any) -> tuple[str, tuple[Any, ...]]:
    """Returns what compiles into the machine code of one function, and the kernels it calls."""
    function = _python_function(kernel)
    options = sorted(getattr(kernel, "targetoptions", {}).items())
    lines = [f"{function.__module__}.{function.__qualname__} {options} {function.__defaults__}"]
    callees = []
    for code in _nested_codes(function.__code__):
        for step in _instructions(code):  # constants by value: a docstring moves indices
            nested = isinstance(step.argval, CodeType)
            lines.append(f"{step.opname} {'code' if nested else repr(step.argval)}")
        for name, value in _outer_names(code, function):
            if _python_function(value) is not None:
                callees.append(value)
                lines.append(f"{name} = {_text_of(_python_function(value), name, function)}")
            elif _writes_code(function):
                lines.append(f"{name} = {_written_with(value)}")
            else:
                lines.append(f"{name} = {_text_of(value, name, function)}")
    return "\n".join(lines), tuple(callees)


def _python_function(value: Any) -> Any:
    """Returns the function behind a kernel, an intrinsic or a function that writes code, or None.

    What an intrinsic calls runs when code is written, and decides it as much as the intrinsic does.
    """
    if isinstance(value, FunctionType):
        return value if _writes_code(value) else None
    return getattr(value, "py_func", getattr(value, "_defn", None))


def _writes_code(function: Any) -> bool:
    return function.__globals__.get("intrinsic") is intrinsic


def _written_with(value: Any) -> str:
    """Returns what a value is to a function that writes code: a type of LLVM prints as itself."""
    if isinstance(value, ModuleType):
        return value.__name__
    if isinstance(value, set):  # filled while a process runs: it can only decide what is refused
        return "set"
    text = str(getattr(value, "__qualname__", value))
    return type(value).__name__ if " at 0x" in text else f"{type(value).__name__} {text}"


def _nested_codes(code: CodeType) -> list[CodeType]:
    inner = [constant for constant in code.co_consts if isinstance(constant, CodeType)]
    return [code, *(nested for child in inner for nested in _nested_codes(child))]


@cache
def _instructions(code: CodeType) -> list[dis.Instruction]:
    return list(dis.get_instructions(code))


def _outer_names(code: CodeType, function: Any) -> list[tuple[str, Any]]:
    """Returns the names that come from outside and their values; `noise.uniform` is one name."""
    scope = vars(builtins) | function.__globals__
    cells = zip(function.__code__.co_freevars, function.__closure__ or (), strict=True)
    closure = {name: cell.cell_contents for name, cell in cells}
    names: list[tuple[str, Any]] = []
    of_module = False
    for instruction in _instructions(code):
        operation, name = instruction.opname, instruction.argval
        if operation == "LOAD_GLOBAL":
            names.append((name, scope[name]))
        elif operation == "LOAD_DEREF" and name in closure:
            names.append((name, closure[name]))
        elif operation in ("LOAD_ATTR", "LOAD_METHOD") and of_module:
            module, value = names.pop()
            names.append((f"{module}.{name}", getattr(value, name)))
        elif operation != "EXTENDED_ARG":
            of_module = False
            continue
        of_module = bool(names) and isinstance(names[-1][1], ModuleType)
    return names


def _text_of(value: Any, name: str, function: Any) -> str:
    """Returns a text that differs wherever the compiled code would."""
    if isinstance(value, np.ndarray):
        return f"{value.dtype} {value.shape} {hashlib.sha256(value.tobytes()).hexdigest()}"
    if isinstance(value, tuple):
        return str([_text_of(part, name, function) for part in value])
    if value is None or isinstance(value, bool | int | float | str | np.generic | np.dtype):
        return f"{type(value).__name__} {value!r}"
    if callable(value):  # a kernel, a function of a library, or a named tuple
        fields = getattr(value, "_fields", "")
        return (
            f"{getattr(value, '__module__', '')}.{getattr(value, '__qualname__', value)} {fields}"
        )
    raise TypeError(
        f"the kernel {function.__qualname__} reads {name}, a {type(value).__name__} whose part in "
        "the compiled code cannot be told; use a number, a text, a tuple, an array or a kernel."
    )


class _Locator(caching._CacheLocator):
    """Names the files of a kernel by its digest."""

    def __init__(self, kernel: Any) -> None:
        self._digest = kernel_digest(kernel)

    def get_cache_path(self) -> Any:
        return str(cache_home() / "machine_code")

    def get_source_stamp(self) -> Any:
        return self._digest

    def get_disambiguator(self) -> Any:
        return self._digest


class _Files(caching.CompileResultCacheImpl):
    """Serialises machine code as numba does, into the files that `_Locator` names."""

    def __init__(self, kernel: Any) -> None:
        function = kernel.py_func
        self._locator, self._lineno = _Locator(kernel), function.__code__.co_firstlineno
        name = f"{function.__module__}.{function.__qualname__}"
        self._filename_base = self.get_filename_base(name, getattr(sys, "abiflags", ""))


class KernelCache(caching.FunctionCache):
    """A kernel's machine code on disk; opened when the kernel is first called.

    Then all that it calls is defined, and `import llmrec_env` digests nothing.
    """

    def __init__(self, kernel: Any) -> None:
        """Remembers the kernel; reads nothing yet."""
        self._kernel, self._py_func, self._name = kernel, kernel.py_func, repr(kernel.py_func)
        self._cache_path = None
        self.enable()

    def _open(self) -> None:
        self._impl = _Files(self._kernel)
        self._cache_path = self._impl.locator.get_cache_path()
        base, stamp = self._impl.filename_base, self._impl.locator.get_source_stamp()
        self._cache_file = caching.IndexDataCacheFile(self._cache_path, base, stamp)

    def load_overload(self, sig: Any, target_context: Any) -> Any:
        """Returns the machine code for a signature, None where it is to be compiled."""
        if self._cache_path is None:
            self._open()
        with contextlib.suppress(OSError):
            os.utime(self._cache_file._index_path)  # in use: see `_remove_unused`
            try:
                return super().load_overload(sig, target_context)
            except (ImportError, AttributeError):  # a named tuple of arguments has moved since
                os.unlink(self._cache_file._index_path)
        return None

    def save_overload(self, sig: Any, data: Any) -> None:
        """Keeps the machine code of a signature for the next process."""
        try:
            super().save_overload(sig, data)
        except OSError as error:
            warnings.warn(
                f"machine code cannot be kept in {self._cache_path} ({error.strerror}), so that "
                "every process compiles anew; set LLMREC_CACHE to a folder that can be written.",
                stacklevel=2,
            )
        else:
            _remove_unused(self._cache_path or "")


@lru_cache
def _remove_unused(folder: str) -> None:
    """Removes machine code that no process has asked for in a month."""
    oldest = time.time() - _UNUSED_DAYS * 86_400
    for path in Path(folder).iterdir():
        with contextlib.suppress(OSError):
            if path.stat().st_mtime >= oldest:
                continue
            if path.is_dir():  # of versions that kept a folder for each state of the sources
                shutil.rmtree(path)
            elif path.suffix != ".nbc":
                for file in path.parent.glob(f"{path.stem}*"):
                    file.unlink(missing_ok=True)
