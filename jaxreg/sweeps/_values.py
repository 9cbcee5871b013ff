"""The values of a sweep while they are filled in: block by block, computed or read from a store."""

import functools
import itertools
import math
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np

from jaxreg import _blocks, _trace
from jaxreg._names import is_status, leaf_names
from jaxreg.status import Status
from jaxreg.store._blocks import Division, Place, Store
from jaxreg.store._filling import fill, stand_ins
from jaxreg.sweeps._programs import Program, block_program
from jaxreg.sweeps._study import Study, choice_of


class Values:
    """The values of a sweep while they are filled in, block by block; if that ``may_end`` early, what stands for the
    rest is there from the start.
    """

    def __init__(self, study: Study, division: Division, store: Store | None, *, may_end: bool) -> None:
        self.study, self.division, self.store = study, division, store
        self.num_members = math.prod(division.static) * study.num_members
        self.block = study.as_ordered(division.block)
        counts = [math.ceil(length / part) for length, part in zip(study.grid, self.block, strict=True)]
        self.places = list(itertools.product(*map(range, division.static), *map(range, counts)))
        # A program leaves the members last, and so they stay: the caller sees these arrays with their axes moved.
        leaves = jax.tree.leaves(study.shapes)
        try:
            self.arrays = [np.empty((*division.static, *leaf.shape, *study.grid), leaf.dtype) for leaf in leaves]
        except (MemoryError, ValueError):  # numpy raises the latter beyond what can be addressed
            num_bytes = self.num_members * sum(math.prod(leaf.shape) * leaf.dtype.itemsize for leaf in leaves)
            raise MemoryError(
                f"the values of {self.num_members} members take {num_bytes / 2**30:.1f} GiB: return less from fn"
            ) from None
        for array, stand_in in zip(self.arrays, stand_ins(study.shapes), strict=True) if may_end else ():
            array[...] = stand_in
        self.statuses = [number for number, name in enumerate(leaf_names(study.shapes)) if is_status(name)]

    def gathered(self) -> Any:
        """All values as a pytree, the members' axes first and in the order given."""
        for array in self.arrays:
            _blocks.exchange(self.places, functools.partial(self._part, array))
        static = len(self.division.static)
        return jax.tree.unflatten(
            jax.tree.structure(self.study.shapes), [self._members_first(array, static) for array in self.arrays]
        )

    def fill(self, devices: tuple[jax.Device, ...], workers: int, bar: _blocks.Progress) -> None:
        """Compute this process's share of what is not in the store yet."""
        fill(
            self.places,
            self.store,
            restored=functools.partial(self._restored, bar),
            compute=functools.partial(self._computed, devices, workers, bar),
        )

    def _computed(
        self, devices: tuple[jax.Device, ...], workers: int, bar: _blocks.Progress, missing: list[Place]
    ) -> None:
        for choice, places in itertools.groupby(missing, key=lambda place: place[: len(self.division.static)]):
            program = self._program(choice, devices)
            if not program.may_share and len(devices) > 1:
                devices = devices[:1]
                program = self._program(choice, devices)
            memory = _blocks.memory_of(devices[0])
            if program.num_bytes > memory:
                raise MemoryError(too_large(self.division, f" ({program.num_bytes / 2**30:.1f} GiB)"))
            groups = _groups(list(places), len(devices))
            most = max(memory // max(program.num_bytes, 1), 1) if program.may_share else 1
            _blocks.run(
                groups,
                functools.partial(self._compute, program, len(devices)),
                workers=min(workers, len(groups), most),
                finished=lambda group, diverged: bar.advance(sum(map(self._size, group)), diverged),
            )

    def _program(self, choice: Place, devices: tuple[jax.Device, ...]) -> Program:
        picked = (options[index] for options, index in zip(self.study.static.values(), choice, strict=True))
        values = choice_of(self.study.static, picked)
        x64 = _trace.x64()
        return block_program(self.study.fn, values, self.study.forms, self.block, devices, x64)

    def _compute(self, program: Program, num_devices: int, group: tuple[Place, ...]) -> int:
        """Compute a block for each device and keep the values; how many members diverged."""
        starts = [[first for first, _ in self._spans(place)] for place in group]
        starts += starts[-1:] * (num_devices - len(group))  # a device without a block repeats the last
        points = [
            program.points(number, axis.leaves, [start[number] for start in starts], length)
            for number, (axis, length) in enumerate(zip(self.study.axes, self.block, strict=True))
        ]
        leaves = list(map(_on_each_device, program.compiled(*points)))
        for device, place in enumerate(group):
            for array, leaf in zip(self.arrays, leaves, strict=True):
                _copy_tiles(leaf[device], self._part(array, place), program.tile)
            if self.store is not None:
                self.store.write(
                    self._in_store(place), [self._members_first(self._part(array, place)) for array in self.arrays]
                )
        return sum(map(self._diverged, group))

    def _restored(self, bar: _blocks.Progress, place: Place) -> bool:
        """Whether a block was in the store, whole; its values are then here."""
        leaves = None if self.store is None else self.store.read(self._in_store(place))
        if leaves is None:
            return False
        for array, leaf in zip(self.arrays, leaves, strict=True):
            self._members_first(self._part(array, place))[...] = leaf
        bar.advance(self._size(place), self._diverged(place), restored=True)
        return True

    def _spans(self, place: Place) -> list[tuple[int, int]]:
        """First row, and the one after the last, along each axis."""
        indices = place[len(self.division.static) :]
        return [
            (index * part, min((index + 1) * part, length))
            for index, part, length in zip(indices, self.block, self.study.grid, strict=True)
        ]

    def _size(self, place: Place) -> int:
        return math.prod(last - first for first, last in self._spans(place))

    def _part(self, array: np.ndarray, place: Place) -> np.ndarray:
        """A block's part of one of the arrays: (shape of the leaf…, members…)."""
        static = len(self.division.static)
        where: Any = (*place[:static], ..., *(slice(*span) for span in self._spans(place)))
        return array[where]

    def _members_first(self, array: np.ndarray, static: int = 0) -> np.ndarray:
        """(static…, shape of the leaf…, members…) as (static…, members in the order given…, shape of the leaf…)."""
        before = array.ndim - len(self.study.given)
        return array.transpose(
            *range(static), *(before + number for number in self.study.given), *range(static, before)
        )

    def _in_store(self, place: Place) -> Place:
        static = len(self.division.static)
        return (*place[:static], *self.study.as_given(place[static:]))

    def _diverged(self, place: Place) -> int:
        return sum(
            int(np.count_nonzero(self._part(self.arrays[number], place) == Status.DIVERGED)) for number in self.statuses
        )


def _groups(places: Sequence[Place], size: int) -> list[tuple[Place, ...]]:
    return [tuple(places[start : start + size]) for start in range(0, len(places), size)]


def _on_each_device(leaf: jax.Array) -> list[np.ndarray]:
    """The parts of an array along its leading axis, one to a device; as one array they would be copied first."""
    shards = sorted(leaf.addressable_shards, key=lambda shard: shard.index[0].start or 0)
    return [np.asarray(shard.data)[0] for shard in shards]


def _copy_tiles(leaf: np.ndarray, target: np.ndarray, tile: tuple[int, ...]) -> None:
    """Values (tiles along each axis…, shape of the leaf…, lengths in a tile…) into (shape of the leaf…, members…)."""
    axes = len(tile)
    for place in np.ndindex(leaf.shape[:axes]):
        spans = (slice(index * length, (index + 1) * length) for index, length in zip(place, tile, strict=True))
        where: Any = (..., *spans)
        part = target[where]
        filled: Any = (..., *map(slice, part.shape[part.ndim - axes :]))  # a tile may reach beyond the end
        part[...] = leaf[place][filled]


def too_large(division: Division, needs: str = "") -> str:
    """What to say of blocks that do not fit in memory."""
    members = math.prod(division.block)
    return f"a block of {members} members does not fit in memory{needs}: give a smaller chunk_size"
