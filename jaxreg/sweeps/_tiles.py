"""One compiled program for a rectangle of members: a nest of ``vmap`` for a tile of it, loops over its tiles outside.

A nest of ``vmap``, one for each axis, computes what does not depend on an axis once along it; so do the loops, each of
which takes in only what depends on its axis. Members come last in every array that is computed.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
from jax import Array, lax

from jaxreg import _jaxprs, _members

NARROW = 320  # members in a tile whose inner loops stay in the first-level cache, and are not worth a thread to XLA
# Members in a tile otherwise: each operation is one call for all of them. On an accelerator, where a block is one tile,
# the same number is a guess.
WIDE = 8192
_REGISTER = 16  # float32 numbers in the widest one
_CACHE = 24 * 1024  # bytes that an inner loop may touch

FULL_LANES = 64  # members that fill the vector registers

Points = Any  # a pytree of arrays with a leading axis


def tile_shape(grid: Sequence[int], most: int) -> tuple[int, ...]:
    """The lengths of a tile: the last axis is cut into equal parts of at most ``most``, then the one before, …"""
    lengths = []
    for length in reversed(grid):
        parts = math.ceil(length / max(most, 1))
        lengths.append(math.ceil(length / parts))
        most //= lengths[-1]
    return tuple(reversed(lengths))


def full_registers(lengths: tuple[int, ...]) -> tuple[int, ...]:
    """The lengths of a tile with a last axis of whole vector registers: what is left over is computed one by one."""
    return (*lengths[:-1], math.ceil(lengths[-1] / _REGISTER) * _REGISTER)


def block_shape(grid: Sequence[int], costly: Sequence[bool], most: int) -> tuple[int, ...]:
    """The lengths of a block of at most ``most`` members: cut along the costly axes first, then as a tile is.

    What is computed from the points of one axis is computed again in each block along another. The last axis keeps
    enough members to fill the vector unit.
    """
    lengths = list(grid)
    for axis in (axis for axis, dear in enumerate(costly) if dear):
        others = math.prod(lengths) // lengths[axis]
        least = FULL_LANES if axis == len(grid) - 1 else 1
        parts = max(min(math.ceil(lengths[axis] / max(most // others, 1)), lengths[axis] // least), 1)
        lengths[axis] = math.ceil(lengths[axis] / parts)
    return tile_shape(lengths, most)


def mapped(member: Callable[..., Any], draws: Sequence[bool]) -> Callable[..., Any]:
    """``member(*points)`` over a rectangle: points with leading axes in, results with the members' axes last out."""
    count = len(draws)
    for position in reversed(range(count)):
        member = jax.vmap(
            member,
            in_axes=tuple(0 if position == other else None for other in range(count)),
            out_axes=position - count,
            axis_name=_members.axis_name(position, draws=draws[position]),
        )
    return member


def fits_cache(program: Any, lane: int) -> bool:
    """Whether all innermost loops over members touch so little that they run in the first-level cache.

    A call that sums over rows counts as such a loop. ``program`` is the jaxpr of a tile whose last axis has
    ``lane`` members; an array without an axis of that length is shared by them.
    """
    sizes = [_bytes_of_members(loop, lane) for loop in _innermost_loops(program.jaxpr)]
    return any(sizes) and max(sizes) <= _CACHE


def _innermost_loops(jaxpr: Any) -> list[Any]:
    loops = []
    for equation in jaxpr.eqns:
        inner = [loop for part in _jaxprs.inner_jaxprs(equation) for loop in _innermost_loops(part)]
        if _jaxprs.sums_rows(equation) or (not inner and equation.primitive.name in ("scan", "while")):
            inner = [equation]
        loops += inner
    return loops


def _bytes_of_members(loop: Any, lane: int) -> int:
    avals = [atom.aval for atom in (*loop.invars, *loop.outvars)]
    return sum(math.prod(aval.shape) * aval.dtype.itemsize for aval in avals if lane in aval.shape)


class Block(NamedTuple):
    """A block's program in two parts.

    Attributes:
        shared: ``shared() -> values``, what depends on no axis.
        run: ``run(values, *points) -> leaves``. Points have leading axes (tiles, length in a tile); leaves have one
            leading axis for each axis, its tiles.
    """

    shared: Callable[[], list[Array]]
    run: Callable[..., list[Array]]


def block_of(tile: Callable[..., Any], shapes: Sequence[Points]) -> Block:
    """A function of tiles as one of blocks: loops over the tiles along each axis.

    Args:
        tile: ``tile(*points) -> pytree``, the points of each axis with its length in a tile leading.
        shapes: the shapes of those points.
    """
    counts = [len(jax.tree.leaves(part)) for part in shapes]
    instructions, results = _instructions(jax.make_jaxpr(tile)(*shapes), counts)
    at_level = [[one for one in instructions if one.level == level] for level in range(len(shapes) + 1)]
    computed = {slot for one in at_level[0] for slot in one.results}
    needed = {slot for later in at_level[1:] for one in later for slot in one.operands} | set(results)
    kept = sorted(computed & needed)

    def carried_out(level: int, values: dict[Any, Any]) -> dict[Any, Any]:
        values = dict(values)
        for instruction in at_level[level]:
            found = instruction.evaluate([values[slot] for slot in instruction.operands])
            values.update(zip(instruction.results, found, strict=True))
        return values

    def shared() -> list[Array]:
        values = carried_out(0, {})
        return [jax.numpy.asarray(values[slot]) for slot in kept]

    def over_axis(level: int, values: dict[Any, Any], points: Sequence[list[Array]]) -> list[Array]:
        if level == len(shapes):
            return [values[slot] for slot in results]

        def of_tile(leaves: list[Array]) -> list[Array]:
            bound = {(level, number): leaf for number, leaf in enumerate(leaves)}
            return over_axis(level + 1, carried_out(level + 1, {**values, **bound}), points)

        if points[level][0].shape[0] == 1:
            return [leaf[None] for leaf in of_tile([leaf[0] for leaf in points[level]])]
        return lax.map(of_tile, points[level])

    def run(values: list[Array], *points: list[Array]) -> list[Array]:
        return over_axis(0, dict(zip(kept, values, strict=True)), points)

    return Block(shared, run)


class _Instruction(NamedTuple):
    evaluate: Callable[[list[Any]], list[Any]]
    operands: list[Any]  # slots
    results: list[Any]
    level: int  # how many axes must be bound


def _instructions(program: Any, leaves: Sequence[int]) -> tuple[list[_Instruction], list[Any]]:
    """A jaxpr as a flat list, calls read in place, each instruction with the number of axes that it depends on.

    A point of the axis ``i`` is in the slots ``(i, 0), (i, 1), …``.
    """
    found: list[_Instruction] = []
    levels: dict[Any, int] = {}

    def constant(value: Any) -> Any:
        return assign(lambda _: [value], [], 1, 0)[0]

    def assign(evaluate: Callable[..., Any], operands: list[Any], count: int, level: int) -> list[Any]:
        slots: list[Any] = [len(levels) + number for number in range(count)]
        levels.update(dict.fromkeys(slots, level))
        found.append(_Instruction(evaluate, operands, slots, level))
        return slots

    def read(jaxpr: Any, consts: Sequence[Any], args: Sequence[Any]) -> list[Any]:
        slots = dict(zip(jaxpr.invars, args, strict=True))
        slots |= {atom: constant(value) for atom, value in zip(jaxpr.constvars, consts, strict=True)}

        def slot_of(atom: Any) -> Any:
            return constant(atom.val) if _jaxprs.is_literal(atom) else slots[atom]

        for equation in jaxpr.eqns:
            operands = [slot_of(atom) for atom in equation.invars]
            inner = _jaxprs.called(equation)
            if inner is not None:
                outputs = read(inner.jaxpr, inner.consts, operands)
            else:
                outputs = assign(
                    lambda values, equation=equation: _jaxprs.evaluate(jaxpr, equation, values),
                    operands,
                    len(equation.outvars),
                    max((levels[slot] for slot in operands), default=0),
                )
            slots.update(zip(equation.outvars, outputs, strict=True))
        return [slot_of(atom) for atom in jaxpr.outvars]

    inputs = [(axis, number) for axis, count in enumerate(leaves) for number in range(count)]
    levels.update({slot: slot[0] + 1 for slot in inputs})
    return found, read(program.jaxpr, program.consts, inputs)


def padded(points: Points, start: int, parts: int, length: int) -> Points:
    """The points ``start … start + parts·length - 1`` as (parts, length, …); beyond the end the last is repeated."""
    rows = np.arange(start, start + parts * length)

    def cut(leaf: np.ndarray) -> np.ndarray:
        chosen = leaf[np.minimum(rows, leaf.shape[0] - 1)]
        return chosen.reshape(parts, length, *leaf.shape[1:])

    return jax.tree.map(cut, points)
