"""Small arrays taken apart into scalars, so that ``vmap`` makes each of their numbers one contiguous array.

Under ``vmap`` a vector of 3 parameters is an array (members, 3), and the vector unit works on 3 numbers at a time; as
three scalars it is three arrays (members,), and the unit is always full. ``scan`` is ``jax.lax.scan`` so rewritten: it
reads the jaxpr of a step, unrolls the primitives that have small arrays on all sides, and hands on the rest. The same
numbers result, up to the order of sums, from the same primitives: it can be traced, batched and differentiated.
"""

import functools
import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from jaxreg import _jaxprs

LARGEST = 64  # numbers in an array that is taken apart


class _Unpacked(NamedTuple):
    shape: tuple[int, ...]
    numbers: tuple[Array, ...]  # scalars, in row-major order


_Value = Array | _Unpacked


def scan(step: Callable[..., Any], start: Any, sequences: Any, *, ahead: bool = False) -> tuple[Any, Any]:
    """``jax.lax.scan``, its small carries and the small arrays that ``step`` closes over taken apart.

    With ``ahead`` an iteration cuts out of the sequences what the next one takes. XLA then computes with an array at a
    fixed place; at a place that depends on the iteration it keeps loops over members off the vector unit.
    """
    element = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape[1:], leaf.dtype), sequences)
    program, shapes = jax.make_jaxpr(step, return_shape=True)(start, element)
    carry_shapes, stacked_shapes = shapes
    kinds = [shape if _small(shape) else None for shape in jax.tree.leaves(carry_shapes)]
    consts = [_unpacked(value) if _small(value) else value for value in program.consts]

    def carried(values: Sequence[_Value]) -> list[Any]:
        return [
            _packed(value) if kind is None else _unpacked(value).numbers
            for value, kind in zip(values, kinds, strict=True)
        ]

    def values_of(carry: list[Any]) -> list[_Value]:
        return [
            part if kind is None else _Unpacked(kind.shape, tuple(part))
            for part, kind in zip(carry, kinds, strict=True)
        ]

    def on_scalars(carry: list[Any], element: Any) -> tuple[list[Any], list[Array]]:
        results = _evaluate(program.jaxpr, consts, [*values_of(carry), *jax.tree.leaves(element)])
        return carried(results[: len(kinds)]), list(map(_packed, results[len(kinds) :]))

    first = carried(jax.tree.leaves(start))
    if ahead and jax.tree.leaves(sequences)[0].shape[0]:

        def on_the_one_before(carry: tuple[Any, Any], following: Any) -> tuple[tuple[Any, Any], Any]:
            after, results = on_scalars(*carry)
            return (after, following), results

        following = jax.tree.map(lambda leaf: jnp.roll(leaf, -1, axis=0), sequences)
        (end, _), stacked = lax.scan(
            on_the_one_before, (first, jax.tree.map(lambda leaf: leaf[0], sequences)), following
        )
    else:
        end, stacked = lax.scan(on_scalars, first, sequences)
    return (
        jax.tree.unflatten(jax.tree.structure(carry_shapes), map(_packed, values_of(end))),
        jax.tree.unflatten(jax.tree.structure(stacked_shapes), stacked),
    )


def sum_over_rows(fn: Callable[[Any, Array], Any], shared: Any, tiles: Array) -> Any:
    """``fn(shared, row)`` summed over all rows of some tiles, each tile in one pass over the members.

    XLA makes one loop over the members of a tile, with its rows unrolled inside, what all numbers of the result need
    computed once and the sums in registers. As sums of their own each would be a loop, and compute it again.
    """
    program, shapes = jax.make_jaxpr(fn, return_shape=True)(shared, tiles[0, 0])

    def numbers(leaves: list[Array], row: Array) -> list[Array]:
        results = _evaluate(program.jaxpr, program.consts, [*leaves, row])
        return [number for result in results for number in _unpacked(result).numbers]

    def row_sums(leaves: list[Array], tiles: Array) -> list[Array]:
        of_tiles = [_sums(*jax.vmap(numbers, (None, 0))(leaves, rows)) for rows in tiles]
        return [functools.reduce(lax.add, parts) for parts in zip(*of_tiles, strict=True)]

    row_sums.__name__ = _jaxprs.ROW_SUMS
    sums = iter(jax.jit(row_sums)(jax.tree.leaves(shared), tiles))
    return jax.tree.map(
        lambda shape: _packed(_Unpacked(shape.shape, tuple(next(sums) for _ in range(math.prod(shape.shape))))), shapes
    )


@jax.custom_jvp
def _sums(*columns: Array) -> tuple[Array, ...]:
    zeros = tuple(np.zeros((), column.dtype) for column in columns)
    return tuple(lax.reduce(columns, zeros, lambda a, b: tuple(map(lax.add, a, b)), (0,)))


@_sums.defjvp
def _sums_jvp(columns: tuple[Array, ...], tangents: tuple[Array, ...]) -> tuple[Any, Any]:
    return _sums(*columns), tuple(tangent.sum(axis=0) for tangent in tangents)


def _evaluate(jaxpr: Any, consts: Sequence[_Value], args: Sequence[_Value]) -> list[_Value]:
    """Interpret a jaxpr on values of either kind."""
    values: dict[Any, _Value] = dict(zip([*jaxpr.constvars, *jaxpr.invars], [*consts, *args], strict=True))

    def read(atom: Any) -> _Value:
        return atom.val if _jaxprs.is_literal(atom) else values[atom]

    for equation in jaxpr.eqns:
        name, operands = equation.primitive.name, list(map(read, equation.invars))
        inner = _jaxprs.called(equation)
        if inner is not None and not _jaxprs.sums_rows(equation):
            results = _evaluate(inner.jaxpr, inner.consts, operands)
        elif name in _RULES and all(_small(atom.aval) for atom in (*equation.invars, *equation.outvars)):
            results = [_RULES[name](equation, *map(_unpacked, operands))]
        else:
            results = _jaxprs.evaluate(jaxpr, equation, list(map(_packed, operands)))
        values.update(zip(equation.outvars, results, strict=True))
    return list(map(read, jaxpr.outvars))


def _small(aval: Any) -> bool:
    return not jnp.issubdtype(aval.dtype, jax.dtypes.extended) and 0 < math.prod(aval.shape) <= LARGEST


def _unpacked(value: _Value) -> _Unpacked:
    if isinstance(value, _Unpacked):
        return value
    array = jnp.asarray(value)
    if not array.ndim:
        return _Unpacked((), (array,))
    flat = array.reshape(-1)
    return _Unpacked(array.shape, tuple(lax.index_in_dim(flat, k, keepdims=False) for k in range(flat.shape[0])))


def _packed(value: _Value) -> Array:
    if not isinstance(value, _Unpacked):
        return value
    return jnp.stack(value.numbers).reshape(value.shape) if value.shape else value.numbers[0]


def _elementwise(equation: Any, *operands: _Unpacked) -> _Unpacked:
    shape = equation.outvars[0].aval.shape
    places = [np.broadcast_to(_positions(operand), shape).ravel() for operand in operands]
    return _Unpacked(
        shape,
        tuple(
            equation.primitive.bind(
                *(operand.numbers[k] for operand, k in zip(operands, element, strict=True)), **equation.params
            )
            for element in zip(*places, strict=True)
        ),
    )


def _positions(operand: _Unpacked) -> np.ndarray:
    return np.arange(len(operand.numbers)).reshape(operand.shape)


def _moved(rearrange: Callable[..., np.ndarray]) -> Callable[..., _Unpacked]:
    """The rule of a primitive that only moves numbers, from what it does to their positions."""

    def rule(equation: Any, operand: _Unpacked) -> _Unpacked:
        places = rearrange(_positions(operand), equation)
        return _Unpacked(places.shape, tuple(operand.numbers[k] for k in places.ravel()))

    return rule


def _broadcast(places: np.ndarray, equation: Any) -> np.ndarray:
    shape, dimensions = equation.params["shape"], equation.params["broadcast_dimensions"]
    aligned = [1] * len(shape)
    for dimension, length in zip(dimensions, places.shape, strict=True):
        aligned[dimension] = length
    return np.broadcast_to(places.reshape(aligned), shape)


def _reshape(places: np.ndarray, equation: Any) -> np.ndarray:
    return places.reshape(equation.outvars[0].aval.shape)


def _slice(places: np.ndarray, equation: Any) -> np.ndarray:
    params = equation.params
    strides = params["strides"] or [1] * places.ndim
    return places[tuple(map(slice, params["start_indices"], params["limit_indices"], strides))]


def _concatenate(equation: Any, *operands: _Unpacked) -> _Unpacked:
    before = np.cumsum([0, *(len(operand.numbers) for operand in operands)])
    places = np.concatenate(
        [_positions(operand) + start for operand, start in zip(operands, before[:-1], strict=True)],
        axis=equation.params["dimension"],
    )
    numbers = [number for operand in operands for number in operand.numbers]
    return _Unpacked(places.shape, tuple(numbers[k] for k in places.ravel()))


def _reduction(combine: Callable[[Array, Array], Array]) -> Callable[..., _Unpacked]:
    def rule(equation: Any, operand: _Unpacked) -> _Unpacked:
        shape, axes = equation.outvars[0].aval.shape, equation.params["axes"]
        places = np.moveaxis(_positions(operand), axes, range(len(axes))).reshape(-1, math.prod(shape))
        groups = [[operand.numbers[k] for k in group] for group in places.T]
        return _Unpacked(shape, tuple(functools.reduce(combine, group) for group in groups))

    return rule


def _dot(equation: Any, left: _Unpacked, right: _Unpacked) -> _Unpacked:
    (contract_left, contract_right), (batch_left, batch_right) = equation.params["dimension_numbers"]
    aval = equation.outvars[0].aval

    def arranged(operand: _Unpacked, batch: Sequence[int], contract: Sequence[int]) -> np.ndarray:
        """Positions as (batch, free, contracted)."""
        places = _positions(operand)
        free = [axis for axis in range(places.ndim) if axis not in (*batch, *contract)]
        sizes = [math.prod(operand.shape[axis] for axis in axes) for axes in (batch, free, contract)]
        return places.transpose(*batch, *free, *contract).reshape(sizes)

    numbers = [
        functools.reduce(
            lax.add,
            [
                lax.convert_element_type(lax.mul(left.numbers[i], right.numbers[j]), aval.dtype)
                for i, j in zip(row, column, strict=True)
            ],
        )
        for rows, columns in zip(
            arranged(left, batch_left, contract_left), arranged(right, batch_right, contract_right), strict=True
        )
        for row in rows
        for column in columns
    ]
    return _Unpacked(aval.shape, tuple(numbers))


_ELEMENTWISE = """
    abs acos acosh add and asin asinh atan atan2 atanh cbrt ceil clamp convert_element_type copy copy_p cos cosh digamma
    div eq erf erf_inv erfc exp exp2 expm1 floor ge gt integer_pow is_finite le lgamma log log1p logistic lt max min mul
    ne neg nextafter not or pow rem round rsqrt select_n sign sin sinh sqrt square sub tan tanh xor
"""
_RULES: dict[str, Callable[..., _Unpacked]] = {
    **dict.fromkeys(_ELEMENTWISE.split(), _elementwise),
    "broadcast_in_dim": _moved(_broadcast),
    "reshape": _moved(_reshape),
    "squeeze": _moved(_reshape),
    "transpose": _moved(lambda places, equation: places.transpose(equation.params["permutation"])),
    "rev": _moved(lambda places, equation: np.flip(places, equation.params["dimensions"])),
    "slice": _moved(_slice),
    "concatenate": _concatenate,
    "dot_general": _dot,
    "reduce_sum": _reduction(lax.add),
    "reduce_prod": _reduction(lax.mul),
    "reduce_max": _reduction(lax.max),
    "reduce_min": _reduction(lax.min),
    "reduce_and": _reduction(lax.bitwise_and),
    "reduce_or": _reduction(lax.bitwise_or),
}
