"""LLVM vectors in Numba: a kernel's step written as a few instructions on whole vectors.

Numba's own loops over small integers vectorise only sometimes; what is written in LLVM IR, every target compiles to the
widest vectors it has. Functions that take a builder ``b`` write instructions; ``@llvm`` makes such a one a function
that kernels call.
"""

# Numba infers the kernels' types, and its arithmetic is not Python's: mypy checks only what is annotated here.
# mypy: allow-untyped-defs, no-check-untyped-defs

import inspect
from collections.abc import Callable
from typing import Any

from llvmlite import binding, ir  # type: ignore[import-untyped]  # Numba's own dependency
from numba.core import config, types
from numba.extending import intrinsic

I8, I16, I32, I64, F32 = ir.IntType(8), ir.IntType(16), ir.IntType(32), ir.IntType(64), ir.FloatType()

# What kernels are given: whole numbers, and addresses without bounds.
INT = types.int64
BYTES = types.CPointer(types.uint8)  # type: ignore[attr-defined]
INT16S = types.CPointer(types.int16)  # type: ignore[attr-defined]
INT32S = types.CPointer(types.int32)  # type: ignore[attr-defined]


def bytes_looked_up() -> int:
    """How many bytes one instruction looks up in a table of 16, each its own: 64 (AVX-512), 32 (AVX2), else 0.

    Where Numba is told of a processor (NUMBA_CPU_NAME, NUMBA_CPU_FEATURES) it is taken to have none.
    """
    if config.CPU_NAME or config.CPU_FEATURES is not None or not config.ENABLE_AVX:
        return 0
    try:
        features = binding.get_host_cpu_features()
    except RuntimeError:  # LLVM doesn't know this one's
        return 0
    if features.get("avx512bw"):
        return 64
    return 32 if features.get("avx2") else 0


def llvm(result: Any, *arguments: Any) -> Callable[[Callable[..., Any]], Any]:
    """A Numba function whose body ``emit(builder, *values)`` writes as LLVM IR."""

    def wrap(emit: Callable[..., Any]) -> Any:
        def typing(typingctx, *given):
            def codegen(context, builder, signature, values):
                value = emit(builder, *values)
                return context.get_dummy_value() if value is None else value

            return result(*arguments), codegen

        typing.__name__ = emit.__name__
        typing.__signature__ = inspect.signature(emit)  # type: ignore[attr-defined]
        return intrinsic(typing)

    return wrap


@intrinsic
def pointer(typingctx, array):
    """The address of an array's first element: indexing it costs no bounds, no wraparound and no reference count."""

    def codegen(context, builder, signature, args):
        return context.make_array(signature.args[0])(context, builder, args[0]).data

    return types.CPointer(array.dtype)(array), codegen


def const(vector, *values):
    return ir.Constant(vector, list(values) if len(values) > 1 else list(values) * vector.count)


def pick(*indices):
    return ir.Constant(ir.VectorType(I32, len(indices)), list(indices))


def splat(b, value, vector):
    if isinstance(value.type, ir.IntType) and value.type.width > vector.element.width:
        value = b.trunc(value, vector.element)
    undefined = ir.Constant(vector, ir.Undefined)
    one = b.insert_element(undefined, value, ir.Constant(I32, 0))
    return b.shuffle_vector(one, undefined, pick(*[0] * vector.count))


def _address(b, pointer, index, vector):
    return b.bitcast(b.gep(pointer, [index], inbounds=True), vector.as_pointer())


def load(b, pointer, index, vector):
    return b.load(_address(b, pointer, index, vector), align=vector.element.width // 8)


def store(b, value, pointer, index):
    b.store(value, _address(b, pointer, index, value.type), align=value.type.element.width // 8)


def call(b, name, result, *values):
    function_type = ir.FunctionType(result, [v.type for v in values])
    function = b.module.globals.get(name) or ir.Function(b.module, function_type, name)
    return b.call(function, values)


def minimum(b, x, y):
    return b.select(b.icmp_signed("<", x, y), x, y)


def maximum(b, x, y):
    return b.select(b.icmp_signed(">", x, y), x, y)
