"""The compiled program of a sweep's blocks: tiles chosen, compiled once, measured, and kept for the next call."""

import functools
import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from jaxreg import _blocks
from jaxreg._cache import kept
from jaxreg._jaxprs import keys_of_xla
from jaxreg.sweeps._study import Choice, Points, member_of
from jaxreg.sweeps._tiles import FULL_LANES, NARROW, block_of, fits_cache, full_registers, mapped, padded, tile_shape

_UNUSUAL = 7919  # the length of no axis that a member would have of its own
_WORKING_SET = 2**26  # bytes of temporary arrays from which on smaller tiles are tried


class Program(NamedTuple):
    """A compiled block of a rectangle's shape for each of some devices.

    Attributes:
        compiled: takes the points of each axis as leaves (devices, tiles, length in a tile, …); gives the leaves of the
            values as (devices, tiles along each axis…, shape of a leaf…, lengths in a tile…).
        tile: the shape of a tile.
        num_bytes: device memory that a call takes.
        may_share: whether several threads may call it at once.
    """

    compiled: Callable[..., Any]
    tile: tuple[int, ...]
    num_bytes: int
    may_share: bool

    def points(self, axis: int, leaves: Sequence[np.ndarray], starts: Sequence[int], length: int) -> list[np.ndarray]:
        """The points of one axis for the blocks that begin at ``starts``, one to a device."""
        parts = math.ceil(length / self.tile[axis])
        return [np.stack([padded(leaf, start, parts, self.tile[axis]) for start in starts]) for leaf in leaves]


@kept(2)
def block_program(
    fn: Callable[..., Any],
    choice: Choice,
    forms: tuple[Points, ...],
    block: tuple[int, ...],
    devices: tuple[jax.Device, ...],
    x64: bool,
) -> Program:
    """Compile ``fn`` for blocks of one shape."""
    del x64  # tells programs under one setting from those under the other
    member = member_of(fn, choice, forms)
    tile = mapped(member, [form.draws for form in forms])
    alone = _drawing(member, tile, forms)
    whole = tuple(1 if draws else part for draws, part in zip(alone, block, strict=True))
    on_cpu = devices[0].platform == "cpu"
    lengths = full_registers(tile_shape(block, NARROW))
    if any(alone) or not (on_cpu and math.prod(block) > NARROW and _runs_in_cache(tile, forms, lengths)):
        lengths = whole
    program = _compiled(tile, forms, block, lengths, devices)
    lanes = math.prod(lengths)
    if on_cpu and program.num_bytes > _WORKING_SET and lanes > FULL_LANES:
        smaller = max(FULL_LANES, lanes * _WORKING_SET // program.num_bytes)
        program = _compiled(tile, forms, block, tile_shape(whole, smaller), devices)
    return program


def _drawing(member: Callable[..., Any], tile: Callable[..., Any], forms: Sequence[Points]) -> list[bool]:
    """Along which axes keys of XLA's own generator (``rbg``) differ: they must not be mapped over.

    ``vmap`` of that generator draws for all members from the first one's key, so that their numbers would depend on who
    is computed with whom.
    """
    lengths = range(_UNUSUAL, _UNUSUAL + len(forms))  # each tells its axis from all others
    found: set[int] = set()
    if keys_of_xla(jax.make_jaxpr(member)(*(form.leaves() for form in forms)).jaxpr):
        traced = jax.make_jaxpr(tile)(*(form.leaves(length) for form, length in zip(forms, lengths, strict=True)))
        found = found.union(*keys_of_xla(traced.jaxpr))
    return [length in found for length in lengths]


def _runs_in_cache(tile: Callable[..., Any], forms: Sequence[Points], lengths: Sequence[int]) -> bool:
    shapes = [form.leaves(length) for form, length in zip(forms, lengths, strict=True)]
    return fits_cache(jax.make_jaxpr(tile)(*shapes), lengths[-1])


def _compiled(
    tile: Callable[..., Any],
    forms: Sequence[Points],
    block: tuple[int, ...],
    lengths: tuple[int, ...],
    devices: tuple[jax.Device, ...],
) -> Program:
    parts = [math.ceil(whole / length) for whole, length in zip(block, lengths, strict=True)]
    parts_of_block = block_of(tile, [form.leaves(length) for form, length in zip(forms, lengths, strict=True)])

    def on_device(shared: list[jax.Array], *points: list[jax.Array]) -> list[jax.Array]:
        leaves = parts_of_block.run(shared, *([leaf[0] for leaf in part] for part in points))
        return [leaf[None] for leaf in leaves]

    everywhere = NamedSharding(Mesh(np.asarray(devices), ("block",)), PartitionSpec())
    options = _blocks.compiler_options(devices[0].platform)
    shared = jax.jit(parts_of_block.shared, out_shardings=everywhere, compiler_options=options)()
    program = _blocks.on_devices(on_device, devices, apart=(False, *(True for _ in forms)))
    shapes = [form.leaves(len(devices), part, length) for form, part, length in zip(forms, parts, lengths, strict=True)]
    compiled = program.lower(shared, *shapes).compile()
    memory = compiled.memory_analysis()
    num_bytes = 0 if memory is None else memory.temp_size_in_bytes + memory.output_size_in_bytes
    return Program(functools.partial(compiled, shared), lengths, num_bytes, _blocks.may_share(compiled))
