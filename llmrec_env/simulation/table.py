"""Tables of addresses: the one argument through which compiled code reaches the arrays of a step.

An array that is an argument costs every call a quarter of a microsecond, and compiled functions
count references to it wherever they pass it on; one found in a table costs neither. A table also
holds the addresses of compiled functions, its stages: what a configuration does not call is not
compiled, and a caller is not compiled again with all that it calls.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import llvmlite.ir as ir
import numba
import numpy as np
import numpy.typing as npt
from numba.core import cgutils, types
from numba.extending import intrinsic
from numba.np.arrayobj import populate_array

from llmrec_env.simulation.compilation import inlined

_BYTE, _LONG = ir.IntType(8), ir.IntType(64)


class Layout:
    """What a table holds, and how compiled code reads it.

    Attributes:
        dtype: the record of a table: of each array its address and sizes, then numbers.
        array: `array(table, name)` in compiled code, the array of that name.
        record: `record(table, name, i)`, the i-th of the records of that name.
        of: `of(words)`, the table that an array of integers is.
    """

    def __init__(
        self,
        arrays: Mapping[str, tuple[Any, int]],
        records: Mapping[str, Any],
        numbers: Sequence[str] = (),
    ) -> None:
        """Lays out a table.

        Args:
            arrays: of each name what the array holds and its number of axes.
            records: of each name the fixed part of the records, whatever lies behind it.
            numbers: names of integers, among them addresses of stages.
        """
        self.arrays = {name: (np.dtype(kind), ndim) for name, (kind, ndim) in arrays.items()}
        self.records = {name: np.dtype(kind) for name, kind in records.items()}
        sizes = {name: 1 + ndim for name, (_, ndim) in self.arrays.items()}
        sizes |= dict.fromkeys(records, 2)
        fields = [(name, np.int64, (size,)) for name, size in sizes.items()]
        self.dtype = np.dtype([*fields, *((name, np.int64) for name in numbers)])
        self.type = numba.from_dtype(self.dtype)
        fields: Any = self.dtype.fields
        offsets = {name: fields[name][1] for name in sizes}
        self.array: Any = _array_reader(self.arrays, offsets)
        self.record: Any = _record_reader(self.records, offsets)
        self.of: Any = _table_reader(self.type)


class Table:
    """One table: what its arrays and stages are.

    Attributes:
        record: the table, (1,).
        words: the same as integers, the argument of compiled functions, (w,).
    """

    def __init__(self, layout: Layout, **numbers: int) -> None:
        """Makes a table without arrays."""
        self._layout, self._kept = layout, dict[str, Any]()
        self.record = np.zeros(1, layout.dtype)
        self.words = self.record.view(np.int64)
        for name, number in numbers.items():
            self.record[name] = number

    def enter(self, **arrays: npt.NDArray[Any] | Table) -> Table:
        """Writes where arrays, records and other tables lie, keeps them, and returns the table.

        Raises:
            TypeError: an array is not what compiled code would take it for.
        """
        for name, given in arrays.items():
            array = given.record if isinstance(given, Table) else given
            if name in self._layout.records:
                size = self._layout.records[name].itemsize
                fits, sizes = array.ndim == 1 and array.dtype.itemsize >= size, array.strides
            else:
                kind, ndim = self._layout.arrays[name]
                fits = array.dtype == kind and array.ndim == ndim and array.flags.c_contiguous
                sizes = array.shape
            if not fits:
                raise TypeError(f"{name} of a table cannot be {array.dtype} {array.shape}.")
            self.record[name] = (array.__array_interface__["data"][0], *sizes)
            self._kept[name] = given
        return self

    def enter_stages(self, **stages: Any) -> Table:
        """Writes where compiled functions (table, i) lie, None: nowhere; returns the table.

        They are compiled now, or loaded from the disk.
        """
        for name, function in stages.items():
            self.record[name] = 0 if function is None else _address(function, self._layout)
        return self


def _address(function: Any, layout: Layout) -> int:
    """Returns where the machine code of a stage begins."""
    signature = (layout.type, types.int64)
    function.compile(signature)
    compiled = function.overloads[signature]
    return compiled.library.get_pointer_to_function(compiled.fndesc.llvm_func_name)


def _word(builder: Any, table: Any, offset: int) -> Any:
    """Returns the integer that lies `offset` bytes behind the beginning of a table."""
    place = builder.bitcast(table, _BYTE.as_pointer())
    place = builder.gep(place, [ir.Constant(_LONG, offset)])
    return builder.load(builder.bitcast(place, _LONG.as_pointer()))


def _array_reader(arrays: Any, offsets: dict[str, int]) -> Any:
    @intrinsic(prefer_literal=True)
    def array(typingctx, table, name):
        kind, ndim = arrays[name.literal_value]
        array_type = types.Array(numba.from_dtype(kind), ndim, "C")
        start, itemsize = offsets[name.literal_value], kind.itemsize

        def codegen(context, builder, signature, args):
            found = context.make_array(array_type)(context, builder)
            address = _word(builder, args[0], start)
            shape = [_word(builder, args[0], start + 8 * axis) for axis in range(1, 1 + ndim)]
            strides = [ir.Constant(_LONG, itemsize)]
            for size in reversed(shape[1:]):
                strides.insert(0, builder.mul(strides[0], size))
            populate_array(
                found,
                data=builder.inttoptr(address, found.data.type),
                shape=shape,
                strides=strides,
                itemsize=ir.Constant(_LONG, itemsize),
                meminfo=None,
            )
            return found._getvalue()

        return array_type(table, name), codegen

    return array


def _record_reader(records: Any, offsets: dict[str, int]) -> Any:
    @intrinsic(prefer_literal=True)
    def record(typingctx, table, name, i):
        record_type = numba.from_dtype(records[name.literal_value])
        start = offsets[name.literal_value]

        def codegen(context, builder, signature, args):
            index = args[2] if args[2].type == _LONG else builder.sext(args[2], _LONG)
            distance = builder.mul(index, _word(builder, args[0], start + 8))
            address = builder.add(_word(builder, args[0], start), distance)
            return builder.inttoptr(address, context.get_value_type(record_type))

        return record_type(table, name, types.int64), codegen

    return record


def _table_reader(table_type: Any) -> Any:
    @intrinsic
    def of(typingctx, words):
        def codegen(context, builder, signature, args):
            found = context.make_array(signature.args[0])(context, builder, args[0])
            return builder.bitcast(found.data, context.get_value_type(table_type))

        return table_type(words), codegen

    return of


def _call(typingctx, address, table, i):
    """Calls the stage at an address of a table with (table, i); what it raises is raised."""
    arguments = (table, types.int64)

    def codegen(context, builder, signature, args):
        convention = context.call_conv
        kind = convention.get_function_type(types.int64, arguments)
        stage = builder.inttoptr(args[0], kind.as_pointer())
        status, value = convention.call_function(builder, stage, types.int64, arguments, args[1:])
        with cgutils.if_unlikely(builder, status.is_error):
            convention.return_status_propagate(builder, status)
        return value

    return types.int64(types.int64, table, types.int64), codegen


call: Any = intrinsic(_call)


def _prefetch_line(typingctx, address):
    """Asks the memory for the cache line of an address, ahead of its use."""

    def codegen(context, builder, signature, args):
        kind = ir.FunctionType(ir.VoidType(), [_BYTE.as_pointer(), *[ir.IntType(32)] * 3])
        function = cgutils.get_or_insert_function(builder.module, kind, "llvm.prefetch.p0")
        read, keep, data = (ir.Constant(ir.IntType(32), number) for number in (0, 3, 1))
        place = builder.inttoptr(args[0], _BYTE.as_pointer())
        builder.call(function, [place, read, keep, data])
        return context.get_dummy_value()

    return types.void(types.int64), codegen


prefetch_line: Any = intrinsic(_prefetch_line)


@inlined
def prefetch(start, size):
    """Asks the memory for `size` bytes from an address on."""
    for offset in range(0, size, 64):
        prefetch_line(start + offset)
