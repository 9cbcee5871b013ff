"""What ``gpu.py`` times in a process of its own, on one platform in one precision: a line of JSON for each result."""

import functools
import json
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import _common as common
import jax
import jax.numpy as jnp
import numpy as np

import jaxreg
from _benchmark import measure
from jaxreg import losses, models
from jaxreg._blocks import _devices
from jaxreg.fits import _batch
from jaxreg.sweeps import _sweep

NUM_ROWS = 64
NOISE = 0.02
START = {"amplitude": 2.5, "rate": 1.5}
COMPARED = 10**6  # members kept for the comparison
ENOUGH = 2.0  # seconds of second calls
# By group and whether float64, in a difference's unit: ten times what two of XLA's compilers for one CPU differ by.
TOLERANCE = {("sweeps", False): 1e-5, ("fits", False): 1e-3, ("fits", True): 1e-7}


class Found(NamedTuple):
    """The numbers of a task, and what a difference from another platform's is measured in."""

    values: np.ndarray  # (p, members)
    unit: np.ndarray  # of the same shape: standard errors, or 1 + |value|


class Task(NamedTuple):
    """Something to be timed: ``make(size)`` draws the data, and what it returns is timed."""

    group: str
    name: str
    sizes: tuple[int, ...]  # at full scale
    make: Callable[[int], Callable[[], Found]]
    float64: bool = True  # timed in that precision too


class Size(NamedTuple):
    """A size that the package chooses: constants of a module that are scaled together while a task is timed."""

    name: str
    module: ModuleType
    constants: tuple[str, ...]
    factors: tuple[float, ...]
    task: str
    members: int  # at full scale
    on_cpu: bool = True  # chosen on a CPU too


def _elementwise(size: int) -> Callable[[], Found]:
    points = np.linspace(0, 10, size, dtype=_dtype())
    return functools.partial(_swept, _damped, "x", points)


def _damped(x: jax.Array) -> jax.Array:
    return jnp.exp(-x / 4) * jnp.sin(3 * x)


def _sgd(size: int, *, loss: Any) -> Callable[[], Found]:
    """One epoch on the exercises' line: 32 steps."""
    key_data, key_train = jax.random.split(jax.random.key(0))
    rows, _ = common.line_data(key_data)

    def run(learning_rate: jax.Array) -> Any:
        return common.fit_line(key_train, learning_rate, rows, loss=loss, epochs=1).params

    return functools.partial(_swept, run, "learning_rate", np.geomspace(1e-3, 0.5, size, dtype=_dtype()))


def _swept(fn: Callable[..., Any], axis: str, points: np.ndarray) -> Found:
    values = jax.tree.leaves(jaxreg.sweep(fn, {axis: points}, progress=False).values)
    found = np.vstack([np.asarray(leaf).reshape(len(points), -1).T for leaf in values])
    return Found(found, 1 + np.abs(found))


def _fits(size: int, *, outliers: float, **options: Any) -> Callable[[], Found]:
    """Decays with two parameters, each from 64 points, a share of them far off."""
    rng, x = np.random.default_rng(0), np.linspace(0, 2, NUM_ROWS, dtype=np.float32)
    amplitude, rate = (rng.uniform(low, high, (size, 1)).astype(np.float32) for low, high in ((2, 3), (1, 2)))
    y = amplitude * np.exp(-rate * x)
    y += np.float32(NOISE) * rng.standard_normal(y.shape, np.float32)
    if outliers:
        y += rng.random(y.shape, np.float32) < outliers
    x, y = x.astype(_dtype()), y.astype(_dtype())
    return functools.partial(_fitted, x, y, **options)


def _fitted(x: np.ndarray, y: np.ndarray, **options: Any) -> Found:
    fits = jaxreg.fit_many(DECAY, x, y, START, sigma=NOISE, residuals=False, progress=False, **options)
    return Found(*(np.stack([np.asarray(part[name]) for name in START]) for part in (fits.params, fits.stderr)))


def _dtype() -> Any:
    return jnp.zeros(()).dtype


DECAY = models.exponential()
TASKS = (
    Task("sweeps", "sweep of an elementwise function", (10**6, 10**7), _elementwise, float64=False),
    Task("sweeps", "sweep of SGD", (10**6, 10**7), functools.partial(_sgd, loss=losses.squared), float64=False),
    Task("sweeps", "sweep of SGD, Huber", (10**6,), functools.partial(_sgd, loss=losses.huber), float64=False),
    Task("fits", "fits of a decay", (10**6,), functools.partial(_fits, outliers=0.0)),
    Task("fits", "robust fits of a decay", (10**5,), functools.partial(_fits, outliers=0.05, loss="huber")),
)
SGD, PLAIN, ROBUST = (task.name for task in TASKS[2:])
CHUNK = "_CHUNK", "_CHUNK_NUMBERS"
SIZES = (
    Size("members of a block", _sweep, ("WIDE",), (0.25, 1, 4, 16), SGD, 10**6),
    Size("blocks on their way", _devices, ("_ON_THEIR_WAY",), (0.5, 1, 2, 4), SGD, 10**6, on_cpu=False),
    # A tile is no larger than its chunk, so that goes along.
    Size("plain fits of a tile", _batch, ("_ON_ACCELERATOR", *CHUNK), (0.25, 1, 4), PLAIN, 250_000, on_cpu=False),
    Size("data sets of a chunk", _batch, CHUNK, (0.25, 1, 4), PLAIN, 250_000),
    Size("fits at once at first", _batch, ("_FIRST_LANES",), (0.25, 1, 4, 32), ROBUST, 20_000),
    Size("fits at once later", _batch, ("_LATER_LANES",), (0.25, 1, 4, 32), ROBUST, 20_000),
)
GROUPS = ("sweeps", "fits", "sizes")


def tasks(asked: dict[str, Any]) -> Iterator[tuple[dict[str, Any], Callable[[], dict[str, Any]]]]:
    """What is asked for, by its description, and what times it."""
    for task in TASKS:
        for size in task.sizes if task.group in asked["groups"] and (task.float64 or not asked["x64"]) else ():
            count = scaled(size, asked["scale"])
            yield {"task": task.name, "size": count}, functools.partial(_timed, task, count, Path(asked["folder"]))
    for one in SIZES if "sizes" in asked["groups"] and not asked["x64"] else ():
        if one.on_cpu or jax.default_backend() != "cpu":
            task = next(task for task in TASKS if task.name == one.task)
            count = scaled(one.members, asked["scale"])
            for factor in one.factors:
                about = {"choice": one.name, "constants": one.constants, "factor": factor, "task": one.task}
                yield about | {"size": count}, functools.partial(_timed_at, one, factor, task, count)


def scaled(size: int, scale: float) -> int:
    """A number of members."""
    return max(round(size * scale), 8)


def _timed(task: Task, count: int, folder: Path | None) -> dict[str, Any]:
    run = task.make(count)
    timing = measure.Timing(measure.timed(run)[0], [], [])
    while not timing.times or (len(timing.times) < 5 and sum(timing.times) < ENOUGH):
        seconds, work, found = measure.timed(run)
        timing.times.append(seconds)
        timing.work.append(work)
    failed = int(count - np.isfinite(found.values).all(axis=0).sum())
    answer = {"seconds": timing.minimum, "work": min(timing.work), "compilation": timing.compilation, "failed": failed}
    if folder is None:
        return answer
    every, file = -(-count // COMPARED), folder / f"{task.name} {count}.npz"
    np.savez(file, values=found.values[:, ::every], unit=found.unit[:, ::every])
    return answer | {"file": str(file), "tolerance": TOLERANCE[task.group, _dtype() == np.float64]}


def _timed_at(one: Size, factor: float, task: Task, count: int) -> dict[str, Any]:
    chosen = {name: getattr(one.module, name) for name in one.constants}
    for name, value in chosen.items():
        setattr(one.module, name, max(int(value * factor), 1))
    try:
        value = getattr(one.module, one.constants[0])
        return _timed(task, count, None) | {"value": value}
    finally:
        for name, value in chosen.items():
            setattr(one.module, name, value)


def serve() -> None:
    """Do what the last argument asks for, as JSON, until its seconds are spent."""
    asked = json.loads(sys.argv[-1])
    end = time.monotonic() + asked["seconds"]
    jax.config.update("jax_enable_x64", asked["x64"])
    _say({"machine": measure.machine(), "platform": jax.default_backend()})
    for about, run in tasks(asked):
        if time.monotonic() > end:
            _say(about | {"left": True})
            continue
        try:
            _say(about | run())
        except Exception as error:  # one that fails on a card must not hide how the others go
            _say(about | {"error": f"{type(error).__name__}: {error}"})


def _say(line: dict[str, Any]) -> None:
    print(json.dumps(line), flush=True)


if __name__ == "__main__":
    serve()
