"""Floating-point operations of a function by its matrix products and convolutions.

XLA's cost analysis leaves out what GPU libraries compute, and counts the zeros of dilated
convolutions. Here a product of [m, k] and [k, n] is 2 m k n operations, a convolution likewise
without the zeros of a dilated input; everything else counts nothing.
"""

import math
from typing import Any

import jax

# Dense, in 1e12 per second, from the makers' data sheets: by a part of the device's kind.
PEAK_TFLOPS: dict[str, dict[str, float]] = {
    "H100 PCIe": {"bfloat16": 756, "tf32": 378, "float32": 51},
    "H100": {"bfloat16": 989, "tf32": 495, "float32": 67},
    "H200": {"bfloat16": 989, "tf32": 495, "float32": 67},
    "A100": {"bfloat16": 312, "tf32": 156, "float32": 19.5},
    "L4": {"bfloat16": 121, "tf32": 60, "float32": 30},
    "A10": {"bfloat16": 125, "tf32": 62.5, "float32": 31.2},
    "4090": {"bfloat16": 165, "tf32": 82.6, "float32": 82.6},
}


def peak_tflops(device_kind: str, precision: str) -> float | None:
    """The device's peak in 1e12 operations per second; None if it is not known."""
    for name, peaks in PEAK_TFLOPS.items():
        if name in device_kind:
            return peaks[precision]
    return None


def count_flops(function: Any, *arguments: Any) -> int:
    """Operations of one call of a function, whose arguments may be shapes."""
    return _count(jax.make_jaxpr(function)(*arguments).jaxpr)


def _count(jaxpr: Any) -> int:
    total = 0
    for equation in jaxpr.eqns:
        name, parameters = equation.primitive.name, equation.params
        if name == "dot_general":
            total += _dot(equation)
        elif name == "conv_general_dilated":
            total += _convolution(equation)
        elif name == "cond":
            total += max(_count(branch.jaxpr) for branch in parameters["branches"])
        else:
            inner = sum(_count(part) for part in _inner(parameters))
            total += inner * (parameters["length"] if name == "scan" else 1)
    return total


def _inner(parameters: dict[str, Any]) -> list[Any]:
    """The jaxprs among an equation's parameters; a custom derivative's rule is not one."""
    found = [
        parameters[name] for name in ("jaxpr", "call_jaxpr", "fun_jaxpr") if name in parameters
    ]
    return [getattr(part, "jaxpr", part) for part in found]


def _dot(equation: Any) -> int:
    (contracted, _), _ = equation.params["dimension_numbers"]
    left, out = equation.invars[0].aval, equation.outvars[0].aval
    return 2 * math.prod(out.shape) * math.prod(left.shape[axis] for axis in contracted)


def _convolution(equation: Any) -> int:
    kernel, out = equation.invars[1].aval, equation.outvars[0].aval
    output_features = kernel.shape[equation.params["dimension_numbers"].rhs_spec[0]]
    products = math.prod(out.shape) * math.prod(kernel.shape) // output_features
    return 2 * products // math.prod(equation.params["lhs_dilation"])
