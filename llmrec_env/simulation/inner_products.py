"""Inner products of float32 rows, whose bits are the same in every block and on every CPU.

Each is 16 running sums, one for each place modulo 16, of fused multiply-adds, which are then added
in pairs of neighbours. The order is written down, so that the compiler has no choice of it, and a
fused multiply-add rounds once wherever it runs: in one instruction, or in the C library.
"""

from __future__ import annotations

import math
from typing import Any

import llvmlite.ir as ir
import numpy as np
from numba.core import cgutils, errors, types
from numba.extending import intrinsic

from llmrec_env.simulation.compilation import kernel

_LEAST_SQUARE = np.float32(1e-12)

LANES = 16
"""Running sums of a product, and products of a block at most."""

_BYTE, _INT, _LONG, _FLOAT = ir.IntType(8), ir.IntType(32), ir.IntType(64), ir.FloatType()
_VECTOR, _MASK = ir.VectorType(_FLOAT, LANES), ir.VectorType(ir.IntType(1), LANES)
_INDICES = ir.VectorType(_LONG, LANES)


def _as_long(builder: Any, value: Any) -> Any:
    return value if value.type == _LONG else builder.sext(value, _LONG)


def _vector_at(context: Any, builder: Any, kind: Any, value: Any, row: Any) -> Any:
    """Returns where a vector begins, or a row of a matrix; its numbers must lie side by side."""
    array = context.make_array(kind)(context, builder, value)
    start = builder.bitcast(array.data, _BYTE.as_pointer())
    if kind.layout != "C":
        step = builder.extract_value(array.strides, kind.ndim - 1)
        apart = builder.icmp_signed("!=", step, ir.Constant(_LONG, 4))
        with builder.if_then(apart, likely=False):
            message = "inner products need numbers side by side; use numpy.ascontiguousarray."
            context.call_conv.return_user_exc(builder, ValueError, (message,))
    if kind.ndim == 2:
        offset = builder.mul(_as_long(builder, row), builder.extract_value(array.strides, 0))
        start = builder.gep(start, [offset])
    return builder.bitcast(start, _FLOAT.as_pointer())


def _listed_row(context: Any, builder: Any, kind: Any, rows: Any, index: int) -> Any:
    """Returns the row at `start + index` of a list, or the last one, and its distance to start."""
    ids = context.make_array(kind.types[0])(context, builder, builder.extract_value(rows, 0))
    start = _as_long(builder, builder.extract_value(rows, 1))
    last = builder.sub(builder.extract_value(ids.shape, 0), ir.Constant(_LONG, 1))
    wanted = builder.add(start, ir.Constant(_LONG, index))
    inside = builder.icmp_signed("<", wanted, last)
    wanted = builder.select(inside, wanted, last)
    base = builder.bitcast(ids.data, _BYTE.as_pointer())
    place = builder.gep(base, [builder.mul(wanted, builder.extract_value(ids.strides, 0))])
    width = ir.IntType(kind.types[0].dtype.bitwidth)
    row = builder.load(builder.bitcast(place, width.as_pointer()))
    return _as_long(builder, row), builder.sub(wanted, start)


def _is_tuple(kind: Any) -> bool:
    return isinstance(kind, types.BaseTuple)


def _listed(kind: Any) -> bool:
    """Says whether rows are given as (ids, start): neighbours in an array of row numbers."""
    return _is_tuple(kind) and isinstance(kind.types[0], types.Array)


def _vectors_at(context: Any, builder: Any, kinds: Any, values: Any, count: int) -> Any:
    """Returns where each of `count` vectors begins: of a tuple of them, or rows of a matrix."""
    (kind, rows_kind), (value, rows), pointers = kinds, values, []
    for index in range(count):
        if _is_tuple(kind):
            vector = builder.extract_value(value, index)
            pointers.append(_vector_at(context, builder, kind.types[index], vector, None))
        else:
            if _listed(rows_kind):
                row, _ = _listed_row(context, builder, rows_kind, rows, index)
            else:
                row = builder.extract_value(rows, index)
            pointers.append(_vector_at(context, builder, kind, value, row))
    return pointers


def _check(kind: Any, rows: Any, count: int) -> None:
    """Refuses operands of which no inner products can be taken."""
    vectors = kind.types if _is_tuple(kind) else [kind]
    for vector in vectors:
        if not isinstance(vector, types.Array) or vector.dtype != types.float32:
            raise errors.TypingError(f"inner products are of float32 arrays, not of {vector}.")
    if _is_tuple(kind):
        fits = len(vectors) == count and all(vector.ndim == 1 for vector in vectors)
    else:
        fits = kind.ndim == 2 and _is_tuple(rows)
        fits = fits and (_listed(rows) or len(rows) == count)
    if not fits:
        raise errors.TypingError(f"a block of {count} rows was given {kind} and rows {rows}.")


def _load(builder: Any, pointer: Any, index: Any, mask: Any = None) -> Any:
    """Returns 16 numbers from `index` on, 0 where the mask is not set."""
    place = builder.bitcast(builder.gep(pointer, [index]), _VECTOR.as_pointer())
    if mask is None:
        return builder.load(place, align=4)
    operands = [_VECTOR.as_pointer(), _INT, _MASK, _VECTOR]
    load = cgutils.get_or_insert_function(
        builder.module, ir.FunctionType(_VECTOR, operands), "llvm.masked.load.v16f32.p0"
    )
    return builder.call(load, [place, ir.Constant(_INT, 4), mask, ir.Constant(_VECTOR, None)])


def _multiply_add(builder: Any, left: Any, right: Any, index: Any, sums: Any, mask: Any) -> Any:
    """Returns the sums of all pairs of rows, 16 places further."""
    fma = cgutils.get_or_insert_function(
        builder.module, ir.FunctionType(_VECTOR, [_VECTOR] * 3), "llvm.fma.v16f32"
    )
    x = [_load(builder, pointer, index, mask) for pointer in left]
    y = [_load(builder, pointer, index, mask) for pointer in right]
    pairs = [(a, b) for b in y for a in x]
    return [builder.call(fma, [a, b, s]) for (a, b), s in zip(pairs, sums, strict=True)]


def _running_sums(builder: Any, left: Any, right: Any, length: Any) -> Any:
    """Returns the 16 running sums of every pair: whole sixteens in a loop, and what remains."""
    count, zero = len(left) * len(right), ir.Constant(_VECTOR, None)
    whole = builder.and_(length, ir.Constant(_LONG, -LANES))
    entry, loop = builder.block, builder.append_basic_block("products")
    rest, end = (builder.append_basic_block(f"products_{name}") for name in ("rest", "end"))
    some = builder.icmp_signed(">", whole, ir.Constant(_LONG, 0))
    joined = builder.append_basic_block("products_joined")
    builder.cbranch(some, loop, joined)
    builder.position_at_end(loop)
    index = builder.phi(_LONG)
    sums = [builder.phi(_VECTOR) for _ in range(count)]
    new = _multiply_add(builder, left, right, index, sums, None)
    following = builder.add(index, ir.Constant(_LONG, LANES))
    builder.cbranch(builder.icmp_signed("<", following, whole), loop, joined)
    index.add_incoming(ir.Constant(_LONG, 0), entry)
    index.add_incoming(following, loop)
    for phi, later in zip(sums, new, strict=True):
        phi.add_incoming(zero, entry)
        phi.add_incoming(later, loop)
    builder.position_at_end(joined)
    so_far = [builder.phi(_VECTOR) for _ in range(count)]
    for phi, later in zip(so_far, new, strict=True):
        phi.add_incoming(zero, entry)
        phi.add_incoming(later, loop)
    remainder = builder.sub(length, whole)
    builder.cbranch(builder.icmp_signed(">", remainder, ir.Constant(_LONG, 0)), rest, end)
    builder.position_at_end(rest)
    mask = _first(builder, remainder)
    total = _multiply_add(builder, left, right, whole, so_far, mask)
    builder.branch(end)
    builder.position_at_end(end)
    result = [builder.phi(_VECTOR) for _ in range(count)]
    for phi, before, after in zip(result, so_far, total, strict=True):
        phi.add_incoming(before, joined)
        phi.add_incoming(after, rest)
    return result


def _first(builder: Any, count: Any) -> Any:
    """Returns the mask of the first `count` places of 16."""
    one = builder.insert_element(ir.Constant(_INDICES, ir.Undefined), count, ir.Constant(_INT, 0))
    every = _pick(builder, one, one, [0] * LANES)
    return builder.icmp_signed("<", ir.Constant(_INDICES, list(range(LANES))), every)


def _pick(builder: Any, a: Any, b: Any, lanes: list[int]) -> Any:
    return builder.shuffle_vector(a, b, ir.Constant(ir.VectorType(_INT, len(lanes)), lanes))


def _totals(builder: Any, sums: list[Any]) -> Any:
    """Returns one vector with the total of every row of running sums, neighbours added first."""
    rows = sums + [ir.Constant(_VECTOR, ir.Undefined)] * (LANES - len(sums))
    width = 1
    while len(rows) > 1:
        even = []
        for group in range(0, LANES, 2 * width):
            even += [group + w for w in range(width)] + [LANES + group + w for w in range(width)]
        odd = [lane + width for lane in even]
        rows = [
            builder.fadd(_pick(builder, a, b, even), _pick(builder, a, b, odd))
            for a, b in zip(rows[0::2], rows[1::2], strict=True)
        ]
        width *= 2
    return rows[0]


def new_block(p: int, k: int) -> Any:
    """Returns `block(left, left_rows, right, right_rows, length, out, row, column)`.

    It writes the p times k <= 16 inner products of p rows of `left` and k rows of `right`, the
    first `length` numbers of each: of left row i and right row j into out[row + j, column + i].
    Rows are numbers, (3, 1, 4), or neighbours in an array, (ids, start); behind its end the last
    one counts again, and is written over itself in `row` but not in `column`, which needs room.
    Instead of a matrix, `left` and `right` may be tuples of vectors, and `out` a vector for k = 1.
    """

    @intrinsic
    def block(typingctx, left, left_rows, right, right_rows, length, out, row, column):
        _check(left, left_rows, p)
        _check(right, right_rows, k)
        fits = isinstance(out, types.Array) and out.dtype == types.float32
        if not fits or not (out.ndim == 2 or (out.ndim == 1 and k == 1)):
            raise errors.TypingError(f"a block of {p} x {k} cannot be written into {out}.")

        def codegen(context, builder, signature, args):
            kinds = signature.args
            x = _vectors_at(context, builder, kinds[0:2], args[0:2], p)
            y = _vectors_at(context, builder, kinds[2:4], args[2:4], k)
            sums = _running_sums(builder, x, y, _as_long(builder, args[4]))
            totals = _totals(builder, sums)
            for j in range(k):
                step = ir.Constant(_LONG, j)
                if _listed(right_rows):
                    _, step = _listed_row(context, builder, right_rows, args[3], j)
                at = builder.add(_as_long(builder, args[6]), step)
                target = _vector_at(context, builder, out, args[5], at)
                target = builder.gep(target, [_as_long(builder, args[7])])
                part = _pick(builder, totals, totals, list(range(p * j, p * j + p)))
                kind = ir.VectorType(_FLOAT, p).as_pointer()
                builder.store(part, builder.bitcast(target, kind), align=4)
            return context.get_dummy_value()

        parts = (left, left_rows, right, right_rows, length, out, row, column)
        return types.void(*parts), codegen

    return block


block8x2 = new_block(8, 2)
block4x4 = new_block(4, 4)
block5x3 = new_block(5, 3)
block16x1 = new_block(16, 1)
block8x1 = new_block(8, 1)


def _product(typingctx, left, left_rows, right, right_rows, length):
    """Returns the inner product of two vectors, each given as `new_block` describes."""
    _check(left, left_rows, 1)
    _check(right, right_rows, 1)

    def codegen(context, builder, signature, args):
        x = _vectors_at(context, builder, signature.args[0:2], args[0:2], 1)
        y = _vectors_at(context, builder, signature.args[2:4], args[2:4], 1)
        sums = _running_sums(builder, x, y, _as_long(builder, args[4]))
        return builder.extract_element(_totals(builder, sums), ir.Constant(_INT, 0))

    return types.float32(left, left_rows, right, right_rows, length), codegen


product: Any = intrinsic(_product)


@kernel
def dot(a, b):
    """Returns the inner product of two vectors."""
    return product((a,), None, (b,), None, a.shape[0])


@kernel
def row_dot(vector, rows, i):
    """Returns the inner product of a vector and the beginning of row i of a matrix."""
    return product((vector,), None, rows, (i,), vector.shape[0])


@kernel
def rows_dot(rows, i, others, a):
    """Returns the inner product of row i with row a of another matrix."""
    return product(rows, (i,), others, (a,), rows.shape[1])


@kernel
def inverse_norm(vector):
    """Returns 1 / |vector|, and 0 for a vector of zeros."""
    square = dot(vector, vector)
    if square <= _LEAST_SQUARE:
        return np.float32(0.0)
    return np.float32(1.0) / np.float32(math.sqrt(square))


@kernel
def products_with(vector, rows, ids, out):
    """Writes the inner products of a vector with the rows named in `ids`, over its length.

    Args:
        out: room for whole eights, (ids, rounded up to 8).
    """
    count, length = ids.shape[0], vector.shape[0]
    done = 0
    while done + 8 < count:
        block16x1(rows, (ids, done), (vector,), None, length, out, 0, done)
        done += 16
    if done < count:
        block8x1(rows, (ids, done), (vector,), None, length, out, 0, done)


@kernel
def cosines(ids, unit_rows, others, other_rows, out):
    """Writes the cosine of every row named in `ids` and every one in `others`, (ids, others)."""
    d, whole = unit_rows.shape[1], others.shape[0] // 4 * 4
    for k in range(0, whole, 4):
        for p in range(0, ids.shape[0], 4):
            block4x4(other_rows, (others, k), unit_rows, (ids, p), d, out, p, k)
    for p in range(ids.shape[0]):
        for k in range(whole, others.shape[0]):
            out[p, k] = rows_dot(unit_rows, ids[p], other_rows, others[k])
