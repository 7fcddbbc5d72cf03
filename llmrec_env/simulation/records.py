"""Records whose sizes a configuration decides, in a layout that compiled code need not know.

Each begins with fields of fixed size, which alone have a type in compiled code; arrays of other
sizes follow, and are found by the sizes that the record itself holds. So one compilation serves
every horizon, slate size and dimension.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import llvmlite.ir as ir
import numba
import numpy as np
import numpy.typing as npt
from numba.core import errors, types
from numba.extending import intrinsic
from numba.np.arrayobj import populate_array

_FIXED: set[Any] = set()  # types of records that `extended` has put arrays behind
_BYTE, _LONG = ir.IntType(8), ir.IntType(64)
_LINE = 64  # bytes of a cache line


def extended(
    fixed: np.dtype[np.void],
    used: Mapping[str, int],
    parts: list[tuple[str, Any, tuple[int, ...]]],
) -> np.dtype[np.void]:
    """Returns the dtype of records that begin with `fixed`.

    Args:
        fixed: a dtype of 4-byte aligned fields.
        used: how many numbers of an array field are in use; the others are hidden.
        parts: name, type and shape of the arrays that follow, without gaps.
    """
    _FIXED.add(numba.from_dtype(fixed))
    names, formats, offsets = [], [], []
    fields: Any = fixed.fields or {}
    for name in fixed.names or ():
        kind, offset = fields[name][:2]
        names.append(name)
        formats.append((kind.base, (used[name],)) if name in used else kind)
        offsets.append(offset)
    end = fixed.itemsize
    for name, kind, shape in parts:
        names.append(name)
        formats.append((kind, shape))
        offsets.append(end)
        end += np.dtype((kind, shape)).itemsize
    table = {"names": names, "formats": formats, "offsets": offsets, "itemsize": _whole_lines(end)}
    return np.dtype(table)  # type: ignore[call-overload]


def compiled_view(records: npt.NDArray[np.void], fixed: np.dtype[np.void]) -> Any:
    """Returns the same records as compiled functions take them, with the dtype `fixed`, (n,)."""
    view: Any = np.ndarray(
        records.shape, fixed, buffer=records.view(np.uint8), strides=records.strides
    )
    view.flags.writeable = records.flags.writeable
    return view


def aligned(array: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Returns a copy that begins at a cache line, as its rows then do where they fill whole lines.

    Reading 16 numbers that straddle two lines takes twice the time; numpy begins at 16 bytes.
    """
    room = np.empty(array.nbytes + _LINE, np.uint8)
    start = -room.ctypes.data % _LINE
    copy = room[start : start + array.nbytes].view(array.dtype).reshape(array.shape)
    copy[...] = array
    return copy


def in_whole_lines(fields: Any) -> np.dtype[np.void]:
    """Returns the dtype of records with these fields, long enough to end with a cache line."""
    kind = np.dtype(fields)
    table = {"names": list(kind.names or ()), "formats": [], "offsets": []}
    for name in table["names"]:
        part, offset = (kind.fields or {})[name][:2]
        table["formats"].append(part)
        table["offsets"].append(offset)
    return np.dtype(table | {"itemsize": _whole_lines(kind.itemsize)})  # type: ignore[call-overload]


def _whole_lines(size: int) -> int:
    return (size + _LINE - 1) // _LINE * _LINE


def as_bytes(records: npt.NDArray[np.void]) -> npt.NDArray[np.void]:
    """Returns the same records without fields: numpy copies these thirty times faster."""
    return records.view(np.dtype((np.void, records.dtype.itemsize)))


def _behind(kind: Any, itemsize: int) -> Any:
    @intrinsic
    def behind(typingctx, record, offset, length):
        if record not in _FIXED:
            raise errors.TypingError(f"{record} has no arrays behind it; pass a compiled_view.")
        array_type = types.Array(kind, 1, "C")
        size = record.size

        def codegen(context, builder, signature, args):
            offset, length = (
                value if value.type == _LONG else builder.sext(value, _LONG) for value in args[1:]
            )
            start = builder.bitcast(args[0], _BYTE.as_pointer())
            start = builder.gep(start, [builder.add(offset, ir.Constant(_LONG, size))])
            array = context.make_array(array_type)(context, builder)
            populate_array(
                array,
                data=builder.bitcast(start, array.data.type),
                shape=[length],
                strides=[ir.Constant(_LONG, itemsize)],
                itemsize=ir.Constant(_LONG, itemsize),
                meminfo=None,
            )
            return array._getvalue()

        return array_type(record, offset, length), codegen

    return behind


floats_behind = _behind(types.float32, 4)
"""`floats_behind(record, offset, length)`: float32s, `offset` bytes behind its fixed part."""
ints_behind = _behind(types.int32, 4)
"""The same for int32s."""
bytes_behind = _behind(types.int8, 1)
"""The same for int8s."""
