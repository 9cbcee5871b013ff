"""Any pure function over a grid of hyperparameters: few compiled programs, block by block on threads and devices."""

import functools
import hashlib
import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh

from jaxreg import _checks, _trace, blocks
from jaxreg._block_program import Program, block_program
from jaxreg._study import Study, choice_of, member_of, spoken, study_of
from jaxreg._tiles import WIDE, block_shape
from jaxreg.results import Sweep, leaf_names
from jaxreg.status import Status
from jaxreg.store import Division, Store, open_store

_FEW = 256  # members that are not worth another thread

Place = tuple[int, ...]  # of a block: indices of the static values, then of the block along each axis as given


def sweep(
    fn: Callable[..., Any],
    axes: Mapping[str, Any],
    *,
    static: Mapping[str, Sequence[Any]] | None = None,
    chunk_size: int | None = None,
    mesh: Mesh | None = None,
    store: Any = None,
    progress: bool | None = None,
) -> Sweep:
    """Compute a pure function at every point of a grid: ``fn(**point)`` for all combinations of the axes' points.

    All members are one compiled program for each combination of static values, run block by block on all cores or
    devices. What does not depend on an axis is computed once along it: a key's shuffled rows serve all learning rates.
    A member's value depends on its place in the grid alone, not on blocks, threads, devices or other members. The
    program, with the data that ``fn`` closes over, is kept for the next call with the same ``fn`` and shapes.

    Args:
        fn: ``fn(**point) -> pytree of arrays``, pure; its shapes are the same at all points.
        axes: name → points: numbers (k,), random keys (r,), or any pytree of arrays with a common leading axis, which
            is a list of points. In this order they are the axes of the result.
        static: name → list of Python values (losses, batch sizes, models, epochs), one program each. They lead.
        chunk_size: members computed, stored and reported together, rounded to a rectangle of the grid; None chooses.
        mesh: the devices to compute on; None takes all devices of this process.
        store: a directory to keep every finished chunk in (``pip install 'jaxreg[store]'``). The same call with the
            same directory goes on where a killed one stopped, in the chunks it was begun with, and ends with the same
            bits; on another kind of processor they agree to rounding.
        progress: whether to draw a bar (``pip install 'jaxreg[progress]'``); None draws one on a terminal.

    Returns:
        Sweep, whose values have the axes (static…, axes…, those of a member's value).

    Raises:
        ValueError: for axes without points or without a leading axis, names that ``fn`` does not take, values that
            shapes depend on, shapes that differ between static values, a store that cannot be written or is another's.
        MemoryError: for chunks that do not fit in memory.

    With several processes (``jax.distributed``) make the same call in each: every one computes its share of the blocks
    and returns the whole. A store must then be in a file system that all of them see.

    >>> import jax.numpy as jnp
    >>> import optax
    >>> from jaxreg import data, losses, models, train
    >>> rows = data.linear(jax.random.key(0), 1000, jnp.array([2.0, -3.4]), 4.2, noise=0.01)
    >>> def run(learning_rate, key):
    ...     return train(models.linear(2), losses.squared, rows, optimizer=optax.sgd(learning_rate), epochs=3,
    ...                  batch_size=32, key=key)
    >>> rates, keys = jnp.geomspace(1e-3, 3.0, 100), jax.random.split(jax.random.key(1), 4)
    >>> atlas = sweep(run, {"learning_rate": rates, "key": keys})
    >>> atlas.values.train_loss.shape
    (100, 4, 96)
    """
    if not _trace.at_top_level():
        raise ValueError("sweep is for the host: inside jit, vmap or grad use jax.vmap, one for each axis")
    study = study_of(fn, axes, static)
    devices = _devices(mesh)
    workers = blocks.workers_on(devices)
    division = _division(study, chunk_size, max(workers, len(devices)) * jax.process_count())
    kept = None if store is None else _opened(store, study, division, axes)
    values = _Values(study, division if kept is None else kept.division, kept)
    with blocks.Progress(values.num_members, progress) as bar:
        try:
            values.fill(devices, workers, bar)
        except KeyboardInterrupt:
            raise KeyboardInterrupt(bar.stopped(stored=kept is not None)) from None
        except jax.errors.JaxRuntimeError as error:
            if "RESOURCE_EXHAUSTED" not in str(error):
                raise
            raise MemoryError(_too_large(values.division)) from error
    return Sweep({**study.static, **axes}, values.gathered(), tuple(study.static))


def _devices(mesh: Mesh | None) -> tuple[jax.Device, ...]:
    devices = jax.local_devices() if mesh is None else mesh.devices.flat
    mine = tuple(device for device in devices if device.process_index == jax.process_index())
    if not mine:
        raise ValueError(f"mesh must have a device of this process ({jax.process_index()}), got {mesh}")
    return mine


def _division(study: Study, chunk_size: int | None, shares: int) -> Division:
    if chunk_size is None:
        most = max(min(WIDE, math.ceil(study.num_members / shares)), _FEW)
    else:
        most = _checks.count("chunk_size", chunk_size, least=1)
    block = block_shape(study.grid, [form.costly for form in study.forms], most)
    return Division(tuple(map(len, study.static.values())), study.as_given(study.grid), study.as_given(block))


def _opened(path: Any, study: Study, division: Division, axes: Mapping[str, Any]) -> Store:
    """The sweep's store, begun by the first process where there are several."""
    fingerprint = {
        "jax": jax.__version__,
        "platform": jax.default_backend(),
        "x64": str(_trace.x64()),
    }
    for index, choice in enumerate(study.choices):
        one = jax.jit(member_of(study.fn, choice, study.forms)).lower(*(form.leaves() for form in study.forms))
        name = f"program ({spoken(choice)})" if choice else "program"
        name = f"{name} {index}" if name in fingerprint else name
        fingerprint[name] = hashlib.sha256(one.as_text().encode()).hexdigest()

    def opened() -> Store:
        return open_store(
            path,
            axes={**study.static, **axes},
            static=tuple(study.static),
            shapes=study.shapes,
            division=division,
            fingerprint=fingerprint,
        )

    return blocks.first_then_all(opened)


def _too_large(division: Division, needs: str = "") -> str:
    members = math.prod(division.block)
    return f"a block of {members} members does not fit in memory{needs}: give a smaller chunk_size"


class _Values:
    """The values of a sweep while they are filled in, block by block."""

    def __init__(self, study: Study, division: Division, store: Store | None) -> None:
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
        names = leaf_names(study.shapes)
        self.statuses = [number for number, name in enumerate(names) if name.split(".")[-1] == "status"]

    def gathered(self) -> Any:
        """All values as a pytree, the members' axes first and in the order given."""
        for array in self.arrays if jax.process_count() > 1 else ():
            blocks.exchange([[self._part(array, place) for place in share] for share in blocks.shares(self.places)])
        static = len(self.division.static)
        return jax.tree.unflatten(
            jax.tree.structure(self.study.shapes), [self._members_first(array, static) for array in self.arrays]
        )

    def fill(self, devices: tuple[jax.Device, ...], workers: int, bar: blocks.Progress) -> None:
        """Compute this process's share of what is not in the store yet."""
        missing = []
        for place in blocks.shares(self.places)[jax.process_index()]:
            if self._restored(place):
                bar.advance(self._size(place), self._diverged(place), restored=True)
            else:
                missing.append(place)
        for choice, places in itertools.groupby(missing, key=lambda place: place[: len(self.division.static)]):
            program = self._program(choice, devices)
            if not program.may_share and len(devices) > 1:
                devices = devices[:1]
                program = self._program(choice, devices)
            memory = blocks.memory_of(devices[0])
            if program.num_bytes > memory:
                raise MemoryError(_too_large(self.division, f" ({program.num_bytes / 2**30:.1f} GiB)"))
            groups = _groups(list(places), len(devices))
            most = max(memory // max(program.num_bytes, 1), 1) if program.may_share else 1
            blocks.run(
                groups,
                functools.partial(self._compute, program, len(devices)),
                workers=min(workers, len(groups), most),
                finished=lambda group, diverged: bar.advance(sum(map(self._size, group)), diverged),
            )
        if self.store is not None:
            blocks.wait_for_all("blocks stored")
            if jax.process_index() == 0:
                self.store.finish()

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

    def _restored(self, place: Place) -> bool:
        """Whether a block was in the store, whole; its values are then here."""
        if self.store is None or not self.store.is_finished(self._in_store(place)):
            return False
        leaves = self.store.read(self._in_store(place))
        if leaves is None:
            return False
        for array, leaf in zip(self.arrays, leaves, strict=True):
            self._members_first(self._part(array, place))[...] = leaf
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
