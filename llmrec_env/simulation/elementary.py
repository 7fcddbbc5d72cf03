"""Exponential, logarithm and sine of compiled functions, with the same bits on every CPU.

Polynomials of plain additions and multiplications instead of the C library, whose last bits differ
between versions and CPUs. None has a branch, so that a loop over neighbours uses vectors. Those of
float64 have the coefficients of fdlibm (Sun Microsystems, 1993), those of float32 of Cephes
(Moshier, 1989).
"""

from __future__ import annotations

from typing import Any

import llvmlite.ir as ir
import numpy as np
from numba.core import types
from numba.extending import intrinsic

from llmrec_env.simulation.compilation import inlined


def _reinterpreted(source: Any, target: Any, target_ir: Any) -> Any:
    @intrinsic
    def reinterpret(typingctx, x):
        def codegen(context, builder, signature, args):
            return builder.bitcast(args[0], target_ir)

        return target(source), codegen

    return reinterpret


bits32 = _reinterpreted(types.float32, types.int32, ir.IntType(32))
float32_of = _reinterpreted(types.int32, types.float32, ir.FloatType())
bits64 = _reinterpreted(types.float64, types.int64, ir.IntType(64))
float64_of = _reinterpreted(types.int64, types.float64, ir.DoubleType())


def _rounded(*values: float) -> tuple[np.float32, ...]:
    return tuple(np.float32(value) for value in values)


_ONE, _HALF, _QUARTER = np.float32(1.0), np.float32(0.5), np.float32(0.25)
MAX_EXPONENT = np.float32(88.0)
"""Beyond it `exp32` grows no further: e^88 is 1.65e38, half of the largest float32."""
_MIN_EXPONENT = np.float32(-87.0)
_LOG2_E, _LN2_HIGH, _LN2_LOW = _rounded(1.44269504, 0.693359375, -2.12194440e-4)
_E5, _E4, _E3, _E2, _E1, _E0 = _rounded(
    1.9875691500e-4,
    1.3981999507e-3,
    8.3334519073e-3,
    4.1665795894e-2,
    1.6666665459e-1,
    5.0000001201e-1,
)


@inlined
def exp32(x):
    """Returns e^x of a float32, within 2e-7 of it; x is cut to [-87, 88]."""
    x = min(max(x, _MIN_EXPONENT), MAX_EXPONENT)
    n = np.floor(x * _LOG2_E + _HALF)
    r = x - n * _LN2_HIGH
    r = r - n * _LN2_LOW
    y = ((((_E5 * r + _E4) * r + _E3) * r + _E2) * r + _E1) * r + _E0
    y = y * (r * r) + r + _ONE
    return y * float32_of(np.int32((np.int32(n) + np.int32(127)) << np.int32(23)))


@inlined
def one_minus_exp32(x):
    """Returns 1 - e^-x of a float32 >= 0."""
    return _ONE - exp32(-x)


@inlined
def tanh32(x):
    """Returns tanh x of a float32 >= 0, to within 2e-7."""
    power = exp32(x + x)
    return (power - _ONE) / (power + _ONE)


_L8, _L7, _L6, _L5, _L4, _L3, _L2, _L1, _L0 = _rounded(
    7.0376836292e-2,
    -1.1514610310e-1,
    1.1676998740e-1,
    -1.2420140846e-1,
    1.4249322787e-1,
    -1.6668057665e-1,
    2.0000714765e-1,
    -2.4999993993e-1,
    3.3333331174e-1,
)
_ROOT_HALF = np.float32(0.70710678)
_SHIFT32, _BIAS32 = np.int32(23), np.int32(126)
_MANTISSA32, _HALF32 = np.int32(0x007FFFFF), np.int32(0x3F000000)


@inlined
def log32(x):
    """Returns ln x of a positive, normal float32, within 2e-7 of it."""
    bits = bits32(x)
    exponent = np.float32((bits >> _SHIFT32) - _BIAS32)
    m = float32_of((bits & _MANTISSA32) | _HALF32)  # in [1/2, 1)
    low = m < _ROOT_HALF
    exponent = exponent - _ONE if low else exponent
    m = (m + m if low else m) - _ONE
    z = m * m
    y = ((((_L8 * m + _L7) * m + _L6) * m + _L5) * m + _L4) * m + _L3
    y = (((y * m + _L2) * m + _L1) * m + _L0) * m * z
    y = y + exponent * _LN2_LOW - _HALF * z
    return m + y + exponent * _LN2_HIGH


# of sin(2 pi t) / t in t^2, up to the eleventh power of t
_S0, _S1, _S2, _S3, _S4, _S5 = _rounded(
    6.2831853072, -41.3417022404, 81.6052492761, -76.7058597531, 42.0586939449, -15.0946425768
)


@inlined
def sine_of_turn(t):
    """Returns sin(2 pi t) for t in [-1/4, 1/4], a float32, to within 4e-7."""
    z = t * t
    return t * (_S0 + z * (_S1 + z * (_S2 + z * (_S3 + z * (_S4 + z * _S5)))))


@inlined
def cosine_of_turn(t):
    """Returns cos(2 pi t) for t in [-1/2, 1/2], a float32, to within 4e-7."""
    return sine_of_turn(_QUARTER - abs(t))


_LOG2_E_64, _LN2_HIGH_64, _LN2_LOW_64 = (
    1.44269504088896338700e00,
    6.93147180369123816490e-01,
    1.90821492927058770002e-10,
)
_P1, _P2, _P3, _P4, _P5 = (
    1.66666666666666019037e-01,
    -2.77777777770155933842e-03,
    6.61375632143793436117e-05,
    -1.65339022054652515390e-06,
    4.13813679705723846039e-08,
)


@inlined
def exp64(x):
    """Returns e^x, within 3e-16 of it; x is cut to [-708, 709]."""
    x = min(max(np.float64(x), -708.0), 709.0)
    n = np.floor(x * _LOG2_E_64 + 0.5)
    high, low = x - n * _LN2_HIGH_64, n * _LN2_LOW_64
    r = high - low
    t = r * r
    c = r - t * (_P1 + t * (_P2 + t * (_P3 + t * (_P4 + t * _P5))))
    y = 1.0 - ((low - (r * c) / (2.0 - c)) - high)
    return y * float64_of((np.int64(n) + 1023) << 52)


_G1, _G2, _G3, _G4, _G5, _G6, _G7 = (
    6.666666666666735130e-01,
    3.999999999940941908e-01,
    2.857142874366239149e-01,
    2.222219843214978396e-01,
    1.818357216161805012e-01,
    1.531383769920937332e-01,
    1.479819860511658591e-01,
)
_MANTISSA64, _ONE64 = np.int64(0x000FFFFFFFFFFFFF), np.int64(0x3FF0000000000000)
_ROOT_TWO = 1.4142135623730951


@inlined
def log64(x):
    """Returns ln x of a positive, normal float64, within 3e-16 of it, next to x = 1 as well."""
    bits = bits64(np.float64(x))
    exponent = np.float64((bits >> 52) - 1023)
    m = float64_of((bits & _MANTISSA64) | _ONE64)  # in [1, 2)
    high = m > _ROOT_TWO
    exponent = exponent + 1.0 if high else exponent
    f = (0.5 * m if high else m) - 1.0
    s = f / (2.0 + f)
    z = s * s
    w = z * z
    r = w * (_G2 + w * (_G4 + w * _G6)) + z * (_G1 + w * (_G3 + w * (_G5 + w * _G7)))
    half = 0.5 * f * f
    return exponent * _LN2_HIGH_64 - ((half - (s * (half + r) + exponent * _LN2_LOW_64)) - f)
