"""The compiled program of a sweep's blocks: tiles chosen, compiled once, measured, and kept for the next call."""

import functools
import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from jaxreg import blocks
from jaxreg._cache import kept
from jaxreg.sweeps._study import Choice, Points, member_of
from jaxreg.sweeps._tiles import FULL_LANES, NARROW, block_of, fits_cache, full_registers, mapped, padded, tile_shape

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
    tile = mapped(member_of(fn, choice, forms), [form.draws for form in forms])
    on_cpu = devices[0].platform == "cpu"
    lengths = full_registers(tile_shape(block, NARROW))
    if not (on_cpu and math.prod(block) > NARROW and _runs_in_cache(tile, forms, lengths)):
        lengths = block
    program = _compiled(tile, forms, block, lengths, devices)
    lanes = math.prod(lengths)
    if on_cpu and program.num_bytes > _WORKING_SET and lanes > FULL_LANES:
        smaller = max(FULL_LANES, lanes * _WORKING_SET // program.num_bytes)
        program = _compiled(tile, forms, block, tile_shape(block, smaller), devices)
    return program


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
    options = blocks.compiler_options(devices[0].platform)
    shared = jax.jit(parts_of_block.shared, out_shardings=everywhere, compiler_options=options)()
    program = blocks.on_devices(on_device, devices, apart=(False, *(True for _ in forms)))
    shapes = [form.leaves(len(devices), part, length) for form, part, length in zip(forms, parts, lengths, strict=True)]
    compiled = program.lower(shared, *shapes).compile()
    memory = compiled.memory_analysis()
    num_bytes = 0 if memory is None else memory.temp_size_in_bytes + memory.output_size_in_bytes
    return Program(functools.partial(compiled, shared), lengths, num_bytes, blocks.may_share(compiled))
