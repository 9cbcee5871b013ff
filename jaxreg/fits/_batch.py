"""A batch of fits on the host: plain steps for all, then Levenberg-Marquardt's for those that need them, compacted."""

import copy
import functools
import hashlib
import math
from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np

from jaxreg import _blocks, _trace
from jaxreg._cache import kept
from jaxreg._version import __version__
from jaxreg.fits._programs import Job, member_of, programs
from jaxreg.least_squares import Fit
from jaxreg.least_squares._result import UNRESOLVED
from jaxreg.status import Status

# On a CPU, numbers in an array of a tile, so that a few arrays stay in the second-level cache, and the lanes of a tile.
_CACHED = 2**14
_FEWEST, _MOST = 64, 256
_ON_ACCELERATOR = 2**14  # lanes of a tile: a guess
# Lanes and steps of the fits that plain steps lose, or that have none (robust ones): most end in the first round, and
# those that do not are few. A fit's lanes depend on its own steps alone, and with them its bits. Measured on a CPU; for
# an accelerator the same numbers are a guess, and so are those of a chunk.
_FIRST_LANES, _FIRST_STEPS, _FIRST_STEPS_OF_ALL = 128, 24, 64
_LATER_LANES, _MOST_STEPS = 32, 512
_CHUNK = 2**14  # data sets read, fitted and stored together, of up to
_CHUNK_NUMBERS = 2**22  # numbers


class Batch:
    """Data sets to be fitted.

    Attributes:
        num_sets: m.
        chunk: data sets that are fitted together.
        member: the shapes of one fit.
    """

    def __init__(
        self,
        job: Job,
        numbers: Sequence[Any],
        dtypes: Sequence[Any],
        num_rows: int,
        num_params: int,
        devices: tuple[jax.Device, ...],
    ) -> None:
        self.job, self.num_params = job._replace(options=job.options._replace(careful=False)), num_params
        self._use(devices)
        pairs = list(zip(numbers, dtypes, strict=True))
        self.shared = [np.asarray(*pair) for pair, own in zip(pairs, job.own, strict=True) if not own]
        self.own = [number for number, own in zip(numbers, job.own, strict=True) if own]
        self.dtypes = [dtype for dtype, own in zip(dtypes, job.own, strict=True) if own]
        self.num_sets, self.num_rows = len(self.own[0]), num_rows
        self.width = self._lanes(_width(devices[0].platform, num_rows))
        self.chunk = max(self.width, min(_CHUNK, _CHUNK_NUMBERS // num_rows // self.width * self.width))
        self.chunk = min(self.chunk, self.num_sets)
        tiles = math.ceil(self.chunk / self.width)
        self.tiles = math.ceil(tiles / (2 * self.workers * len(devices)))  # of a job: a few jobs for each thread
        self.member: Fit = _shapes_of_member(self.job, *_form(self._one()))

    def _use(self, devices: tuple[jax.Device, ...]) -> None:
        self.devices = devices
        self.workers = _blocks.workers_on(devices)
        self.programs = programs(self.job, self.num_params, devices)

    def _one(self) -> Any:
        """What stands for one data set: the numbers that all share, and its own."""
        return self.shared, [np.asarray(leaf[0], dtype) for leaf, dtype in zip(self.own, self.dtypes, strict=True)]

    def fingerprint(self) -> dict[str, str]:
        """What must be the same for a store to be gone on with."""
        text = jax.jit(functools.partial(member_of, self.job)).lower(*_shapes(*_form(self._one()))).as_text()
        digest = hashlib.sha256()
        for leaf in (*self.shared, *self.own):
            step = max(self.chunk, 1) if np.ndim(leaf) else 1
            for first in range(0, len(leaf) if np.ndim(leaf) else 1, step):
                part = leaf[first : first + step] if np.ndim(leaf) else leaf
                digest.update(np.ascontiguousarray(part).tobytes())
        return {
            "jax": jax.__version__,
            "jaxreg": __version__,
            "platform": jax.default_backend(),
            "x64": str(_trace.x64()),
            "data, starts and sigmas that hash to": digest.hexdigest()[:16],
            "program": hashlib.sha256(text.encode()).hexdigest(),
        }

    def fitted(self, first: int, last: int, end: _blocks.Deadline) -> list[np.ndarray]:
        """The leaves of the fits of some data sets, TIMEOUT those that are not done at the end."""
        sets = np.arange(first, last)
        if self.programs.whole is not None:
            return jax.tree.leaves(self._mapped("whole", sets, (self._lanes(_FIRST_LANES),)))
        if self.programs.plain is None:
            return jax.tree.leaves(self._stepped(sets, end))
        fits, settled, startable = self._mapped("plain", sets, (self.tiles, self.width))
        results = jax.tree.leaves(fits)
        left, unstarted = np.flatnonzero(startable & ~settled), np.flatnonzero(~startable)
        if len(left):
            _fill(results, left, self._stepped(sets[left], end))
        if len(unstarted):  # as in a map with holes
            _fill(results, unstarted, self._mapped("unstarted", sets[unstarted], (self._lanes(_FIRST_LANES),)))
        return results

    def _stepped(self, sets: np.ndarray, end: _blocks.Deadline) -> Fit:
        """Fits by Levenberg-Marquardt's steps; after every few, those that are not finished are put together."""
        first, later = (self._lanes(_FIRST_LANES),), (self._lanes(_LATER_LANES),)
        states = self._mapped("begin", sets, first)
        most = _FIRST_STEPS_OF_ALL if self.programs.plain is None else _FIRST_STEPS
        active, lanes = np.arange(len(sets)), first
        while len(active) and not end.has_passed():
            after, finished = self._mapped("advance", sets[active], lanes, _taken(states, active), most)
            _fill(jax.tree.leaves(states), active, after)
            active, lanes, most = active[~finished], later, min(2 * most, _MOST_STEPS)
        fits = self._mapped("close", sets, first, states)
        fits.status[active] = Status.TIMEOUT
        unresolved = np.flatnonzero(fits.status == UNRESOLVED)
        if len(unresolved):
            _fill(jax.tree.leaves(fits), unresolved, self._careful()._stepped(sets[unresolved], end))
        return fits

    def _careful(self) -> "Batch":
        other = copy.copy(self)
        other.job = self.job._replace(options=self.job.options._replace(careful=True))
        other._use(self.devices)
        return other

    def _lanes(self, wanted: int) -> int:
        """As many as are wanted, or as few as fit in memory where each data set is large."""
        numbers = self.num_rows * (self.num_params + 4)
        return max(1, min(wanted, _CHUNK_NUMBERS // numbers))

    def _mapped(self, name: str, sets: np.ndarray, lanes: tuple[int, ...], states: Any = None, most: int = 0) -> Any:
        """A program over data sets and their states, as many at once as fill its lanes, the last ones repeated."""
        shape = (len(self.devices), *lanes)
        size = math.prod(shape)
        blocks_of_sets = [slice(start, start + size) for start in range(0, len(sets), size)]

        def inputs(rows: slice) -> Any:
            own = [
                _in_lanes(np.asarray(leaf[sets[rows]], dtype), shape)
                for leaf, dtype in zip(self.own, self.dtypes, strict=True)
            ]
            return self.shared, own, jax.tree.map(lambda leaf: _in_lanes(leaf[rows], shape), states), np.int32(most)

        program = name, self.num_params, self.devices, _trace.x64()
        compiled, may_share = _compiled(self.job, program, *_form(inputs(blocks_of_sets[0])))
        if not may_share and len(self.devices) > 1:
            self._use(self.devices[:1])
            return self._mapped(name, sets, lanes, states, most)
        parts: dict[int, list[np.ndarray]] = {}

        def compute(rows: slice) -> Any:
            return jax.tree.map(lambda leaf: _out_of_lanes(np.asarray(leaf), len(shape)), compiled(*inputs(rows)))

        def keep(rows: slice, found: Any) -> None:
            parts[rows.start] = found

        workers = min(self.workers, len(blocks_of_sets)) if may_share else 1
        _blocks.run(blocks_of_sets, compute, workers=workers, finished=keep)
        return jax.tree.map(lambda *leaves: np.concatenate(leaves)[: len(sets)], *(parts[key] for key in sorted(parts)))


def _fill(leaves: list[np.ndarray], rows: np.ndarray, tree: Any) -> None:
    for leaf, found in zip(leaves, jax.tree.leaves(tree), strict=True):
        leaf[rows] = found


def _width(platform: str, num_rows: int) -> int:
    if platform != "cpu":
        return _ON_ACCELERATOR
    return max(_FEWEST, min(_MOST, 2 ** int(math.log2(_CACHED / num_rows)))) if num_rows < _CACHED else _FEWEST


def _taken(tree: Any, rows: np.ndarray) -> Any:
    return jax.tree.map(lambda leaf: leaf[rows], tree)


def _in_lanes(leaf: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    missing = math.prod(shape) - len(leaf)
    whole = np.concatenate([leaf, np.repeat(leaf[-1:], missing, axis=0)]) if missing else leaf
    return whole.reshape(*shape, *leaf.shape[1:])


def _out_of_lanes(leaf: np.ndarray, axes: int) -> np.ndarray:
    return leaf.reshape(math.prod(leaf.shape[:axes]), *leaf.shape[axes:])  # which may be empty


def _form(arguments: Any) -> tuple[Any, tuple[tuple[tuple[int, ...], Any], ...]]:
    """The structure and the shapes of arguments: hashable."""
    leaves, structure = jax.tree.flatten(arguments)
    return structure, tuple((np.shape(leaf), jax.dtypes.canonicalize_dtype(leaf.dtype)) for leaf in leaves)


def _shapes(structure: Any, shapes: tuple[Any, ...]) -> Any:
    return jax.tree.unflatten(structure, [jax.ShapeDtypeStruct(*shape) for shape in shapes])


@kept(1)
def _shapes_of_member(job: Job, structure: Any, shapes: tuple[Any, ...]) -> Any:
    return jax.eval_shape(functools.partial(member_of, job), *_shapes(structure, shapes))


@kept(1)
def _compiled(job: Job, program: tuple[Any, ...], structure: Any, shapes: Any) -> tuple[Callable[..., Any], bool]:
    """Compiled on the caller's thread, once; and whether several threads may call it at once."""
    name, num_params, devices, _ = program
    jitted = getattr(programs(job, num_params, devices), name)()
    compiled = jitted.lower(*_shapes(structure, shapes)).compile()
    return compiled, _blocks.may_share(compiled)
