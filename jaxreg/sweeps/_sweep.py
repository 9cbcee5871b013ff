"""Any pure function over a grid of hyperparameters: few compiled programs, block by block on threads and devices."""

import hashlib
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh

from jaxreg import _blocks, _checks, _trace
from jaxreg.results import Sweep
from jaxreg.store._blocks import Division, Store
from jaxreg.store._opening import open_store
from jaxreg.sweeps._study import Study, member_of, spoken, study_of
from jaxreg.sweeps._tiles import WIDE, block_shape
from jaxreg.sweeps._values import Values, too_large

_FEW = 256  # members that are not worth another thread; on an accelerator a guess


@_trace.undisturbed
def sweep(
    fn: Callable[..., Any],
    axes: Mapping[str, Any],
    *,
    static: Mapping[str, Sequence[Any]] | None = None,
    chunk_size: int | None = None,
    mesh: Mesh | Sequence[jax.Device] | None = None,
    store: Any = None,
    progress: bool | None = None,
    timeout: float | None = None,
) -> Sweep:
    """Compute a pure function at every point of a grid: ``fn(**point)`` for all combinations of the axes' points.

    All members are one compiled program for each combination of static values, run block by block on all cores or
    devices. What does not depend on an axis is computed once along it: a key's shuffled rows serve all learning rates.
    A member's value depends on its place in the grid alone. Threads, devices and the values of other members change no
    bit of it; another ``chunk_size`` is another program, which rounds in its own way. Along an axis that keys of XLA's
    own generator (``rbg``, ``unsafe_rbg``) depend on, members are computed one after the other, as ``vmap`` would draw
    for all of them from one key. The program, with the data that ``fn`` closes over, is kept for the next call with the
    same shapes while ``fn`` lives.

    Args:
        fn: ``fn(**point) -> pytree of arrays``, pure; its shapes are the same at all points.
        axes: name → points: numbers (k,), random keys (r,), or any pytree of arrays with a common leading axis, which
            is a list of points. In this order they are the axes of the result.
        static: name → list of Python values (losses, batch sizes, models, epochs), one program each. They lead.
        chunk_size: members computed, stored and reported together, rounded to a rectangle of the grid; None chooses by
            the number of cores and devices.
        mesh: the devices to compute on, or a list of them; None takes all devices of this process.
        store: a directory to keep every finished chunk in (``pip install 'jaxreg[store]'``). The same call with the
            same directory goes on where a killed one stopped, in the chunks it was begun with, and ends with the same
            bits; on another kind of processor they agree to rounding. Calls that run at the same time share the store
            and compute everything each.
        progress: whether to draw a bar (``pip install 'jaxreg[progress]'``); None draws one on a terminal.
        timeout: seconds, compilation included, after which no other chunk is begun. Members without a value are then
            NaN, or -1 where they are integers, and a leaf called "status" is ``Status.TIMEOUT``; with a store the same
            call goes on from there.

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
    _checks.seconds("timeout", timeout)
    end = _blocks.Deadline(timeout)
    study = study_of(fn, axes, static)
    devices = _devices(mesh)
    workers = _blocks.workers_on(devices)
    division = _division(study, chunk_size, max(workers, len(devices)) * jax.process_count())
    kept = None if store is None else _opened(store, study, division, axes)
    values = Values(study, division if kept is None else kept.division, kept, may_end=timeout is not None)
    with _blocks.Progress(values.num_members, progress, stored=kept is not None, end=end) as bar:
        try:
            values.fill(devices, workers, bar)
        except jax.errors.JaxRuntimeError as error:
            if "RESOURCE_EXHAUSTED" not in str(error):
                raise
            raise MemoryError(too_large(values.division)) from error
    return Sweep({**study.static, **axes}, values.gathered(), tuple(study.static))


def _devices(mesh: Mesh | Sequence[jax.Device] | None) -> tuple[jax.Device, ...]:
    given: Any = jax.local_devices() if mesh is None else getattr(mesh, "devices", mesh)
    here = jax.process_index()
    mine = tuple(dict.fromkeys(one for one in np.ravel(given) if getattr(one, "process_index", None) == here))
    if not mine:
        raise ValueError(f"mesh must have a device of this process ({here}), got {mesh}")
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

    return _blocks.first_then_all(opened)
