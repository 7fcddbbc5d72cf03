"""Compiled code is never stale, and comments compile nothing."""

from __future__ import annotations

import importlib.util
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from llmrec_env.simulation import kernel_cache, records
from llmrec_env.simulation.compilation import kernel
from llmrec_env.simulation.kernel_cache import kernel_digest, statements
from llmrec_env.simulation.step import advance

HEADER = "from llmrec_env.simulation.compilation import inlined, kernel\n"
INNER = HEADER + "STEP = 1\n@kernel\ndef add(x):\n    return x + STEP\n"
OUTER = HEADER + "import inner_room\n@kernel\ndef total(x):\n    return 2 * inner_room.add(x)\n"

Load = Callable[..., ModuleType]


@pytest.fixture
def load(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Load]:
    """Imports two rooms as a new process would; the outer one's `total` calls the inner one."""
    monkeypatch.setenv("LLMREC_CACHE", str(tmp_path / "cache"))

    def import_room(name: str, source: str) -> ModuleType:
        path = tmp_path / f"{name}.py"
        path.write_text(source)
        spec = importlib.util.spec_from_file_location(name, path)
        assert spec is not None and spec.loader is not None
        module = sys.modules[name] = importlib.util.module_from_spec(spec)
        exec(compile(source, path, "exec"), vars(module))
        return module

    def load_rooms(inner: str = INNER, outer: str = OUTER) -> ModuleType:
        import_room("inner_room", inner)
        return import_room("outer_room", outer)

    yield load_rooms
    for name in ("inner_room", "outer_room"):
        sys.modules.pop(name, None)


def hits(room: ModuleType) -> int:
    return sum(room.total.stats.cache_hits.values())


def test_a_second_process_loads_what_the_first_compiled(load: Load) -> None:
    first = load()
    assert (first.total(1), hits(first)) == (4, 0)
    again = load()
    assert (again.total(1), hits(again)) == (4, 1)


@pytest.mark.parametrize(
    "edit", [("x + STEP", "x - STEP"), ("STEP = 1", "STEP = 10"), ("@kernel", "@inlined")]
)
def test_an_edited_callee_of_another_room_is_compiled_into_its_callers(
    load: Load, edit: tuple[str, str]
) -> None:
    load().total(1)
    room, fresh = load(INNER.replace(*edit)), {}
    exec(INNER.replace(*edit).replace("@kernel", "").replace("@inlined", ""), fresh)
    assert room.total(1) == 2 * fresh["add"](1)
    assert hits(room) == 0


def test_comments_docstrings_and_moved_lines_compile_nothing(load: Load) -> None:
    load().total(1)
    documented = INNER.replace("    return", '    """Adds a step."""\n    # why\n    return')
    room = load(documented, "\n\n# above\n" + OUTER)
    assert (room.total(1), hits(room)) == (4, 1)


def test_code_edited_after_its_import_is_kept_under_its_own_digest(
    load: Load, tmp_path: Path
) -> None:
    room, digest = load(), kernel_digest(load().total)
    (tmp_path / "inner_room.py").write_text(INNER.replace("1", "2"))
    assert kernel_digest(room.total) == digest


def test_a_global_that_cannot_be_told_is_an_error() -> None:
    table = {"a": 1}

    @kernel
    def reads_a_table(x):
        return table[x]

    with pytest.raises(TypeError, match=r"reads_a_table reads table, a dict .* use a number"):
        kernel_digest(reads_a_table)


def test_a_named_tuple_of_arguments_that_moved_is_compiled_anew(load: Load) -> None:
    pair = "from typing import NamedTuple\nclass Pair(NamedTuple):\n    left: int\n    right: int\n"
    outer = HEADER + "@kernel\ndef total(pair):\n    return pair.left + pair.right\n"
    first = load(pair, outer)
    assert first.total(sys.modules["inner_room"].Pair(1, 2)) == 3
    again = load("", outer + pair)
    assert (again.total(again.Pair(1, 2)), hits(again)) == (3, 0)
    third = load("", outer + pair)
    assert (third.total(third.Pair(1, 2)), hits(third)) == (3, 1)


def test_recursive_kernels_have_a_digest(load: Load) -> None:
    source = HEADER + "@kernel\ndef total(x):\n    return 1 if x <= 0 else x * total(x - 1)\n"
    assert len(kernel_digest(load(outer=source).total)) == 16


def test_machine_code_unused_for_a_month_is_removed(load: Load, tmp_path: Path) -> None:
    folder = tmp_path / "cache" / "machine_code"
    stale = [folder / "0123456789abcdef" / "users.nbi", folder / "users.tire-0.py311.nbi"]
    stale.append(folder / "users.tire-0.py311.1.nbc")
    for path in stale:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"")
    for path in (stale[0].parent, *stale[1:]):
        os.utime(path, (1, 1))
    load().total(1)
    assert not any(path.exists() for path in stale)
    assert len(list(folder.glob("*.nbc"))) == 2


def test_a_folder_that_cannot_be_written_is_said_and_the_kernel_still_runs(
    load: Load, tmp_path: Path
) -> None:
    (tmp_path / "cache").write_text("a file where the folder should be")
    with pytest.warns(UserWarning, match="set LLMREC_CACHE"):
        assert load().total(1) == 4


@pytest.mark.parametrize(
    ("chosen", "home"),
    [("cache", "cache"), ("cache.v1", "cache.v1"), ("a/mine.db", "a"), ("a/b.sqlite", "a")],
)
def test_a_cache_is_a_folder_unless_it_is_named_as_a_database(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, chosen: str, home: str
) -> None:
    monkeypatch.setenv("LLMREC_CACHE", str(tmp_path / chosen))
    assert kernel_cache.cache_home() == tmp_path / home


def test_the_digest_of_the_dynamics_ignores_comments_and_docstrings() -> None:
    plain = "x = 1\ndef f():\n    return x\n"
    documented = '"""What it is."""\nx = 1  # one\n\n\ndef f():\n    """Says x."""\n    return x\n'
    assert statements(plain) == statements(documented)
    assert statements(plain) != statements(plain.replace("1", "2"))


def test_a_digest_does_not_depend_on_the_records_that_a_process_has_made():
    before = kernel_digest(advance)
    records.extended(np.dtype([("only_here", np.int32)]), {}, [])
    kernel_cache._own_code.cache_clear()
    assert kernel_digest(advance) == before
