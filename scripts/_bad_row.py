"""A line of one feature with one bad row, fitted by each loss for each size of it: what the knob of losses turns."""

from functools import partial
from typing import Any, NamedTuple

import _common as common
import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike
from matplotlib.axes import Axes

import jaxreg
from jaxreg import data, losses, models, plots

CORRUPTIONS = {"target": data.corrupt_target, "leverage": data.corrupt_leverage}
HUBER, CAUCHY, TUKEY = 1.0, 2.0, 3.0
SQUARED = HUBER, 1e9  # Huber's loss is the squared one where no residual reaches the threshold,
ABSOLUTE = HUBER, 0.01  # and the absolute one, but for a factor, where all do

X, ROW = np.linspace(-2, 2, 41), 30
SLOPE, OFFSET, NOISE = 2.0, 4.2, 0.5
VALUES, FIRST_VALUE = np.geomspace(1, 1e4, 49), 24
THRESHOLDS = np.array([0.5, 0.6, 0.8, 1, 1.2, 1.5, 1.8, 2.2, 2.7, 3.3, 3.9, 4.7, 5.6, 6.8, 8.2, 10])
FIRST_THRESHOLD = 7
WITH_THRESHOLD = {"Huber": HUBER, "Cauchy": CAUCHY, "Tukey": TUKEY}
NAMES = ("squared", "absolute", *WITH_THRESHOLD)
MOST_STEPS = 64  # few fits need more, and the programs of a second round would have to be compiled for them


def chosen(prediction: jax.Array, target: jax.Array, *, kind: ArrayLike, delta: ArrayLike) -> jax.Array:
    """One of three losses, chosen inside the program, so that one compilation serves all."""
    huber, cauchy, tukey = (one(prediction, target, delta=delta) for one in (losses.huber, losses.cauchy, losses.tukey))
    kind = jnp.asarray(kind)
    return jnp.where(kind == HUBER, huber, jnp.where(kind == CAUCHY, cauchy, tukey))


def fitted(model: models.Model, each: dict[str, Any], *, scale: str | None = None, max_steps: int = 5000) -> jaxreg.Fit:
    """A fit of each data set: x, y, p0, and the kind and threshold (delta) of ``chosen``."""
    x, y, p0 = (jax.tree.map(lambda leaf: leaf[0], each[name]) for name in ("x", "y", "p0"))
    one = jaxreg.problem(model, x, y, p0, loss=partial(chosen, kind=HUBER, delta=1.0), scale=scale)
    return jaxreg.fit_many(one, each=each, residuals=False, max_steps=max_steps)


class Line(NamedTuple):
    """The rows without the bad one, and the fits by (loss and threshold, corruption, value)."""

    y: np.ndarray
    slope: np.ndarray
    offset: np.ndarray
    status: np.ndarray

    def place(self, name: str, threshold: int = FIRST_THRESHOLD) -> int:
        """Where a loss stands on the first axis of the fits."""
        number = NAMES.index(name)
        return number if number < 2 else 2 + (number - 2) * len(THRESHOLDS) + threshold

    def error(self) -> np.ndarray:
        """The larger relative error of slope and offset."""
        return np.maximum(np.abs(self.slope / SLOPE - 1), np.abs(self.offset / OFFSET - 1))


def fits(seed: int) -> Line:
    """All fits, each from a level line at the median."""
    y = SLOPE * X + OFFSET + NOISE * np.random.default_rng(seed).normal(size=len(X))
    ways = np.array([SQUARED, ABSOLUTE, *((kind, delta) for kind in WITH_THRESHOLD.values() for delta in THRESHOLDS)])
    with jax.enable_x64(True):
        rows = jax.jit(_corrupted)(data.Dataset(jnp.asarray(X[:, None]), jnp.asarray(y)), VALUES)
        shape = (len(ways), len(CORRUPTIONS), len(VALUES))
        x, targets = (np.broadcast_to(leaf, (len(ways), *leaf.shape)).reshape(-1, *leaf.shape[2:]) for leaf in rows[:2])
        kind, delta = np.repeat(ways, shape[1] * shape[2], axis=0).T
        start = {"w": np.zeros((len(targets), 1)), "b": np.median(targets, axis=1)}
        each = {"x": x, "y": targets, "p0": start, "kind": kind, "delta": delta}
        found = fitted(models.linear(1), each, max_steps=MOST_STEPS)
    return Line(y, *(np.reshape(leaf, shape) for leaf in (found.params["w"], found.params["b"], found.status)))


def _corrupted(rows: data.Dataset, values: jax.Array) -> data.Dataset:
    """The rows under each corruption and for each value of the bad one."""
    found = [jax.vmap(partial(corrupt, rows, ROW))(values) for corrupt in CORRUPTIONS.values()]
    return jax.tree.map(lambda *leaves: jnp.stack(leaves), *found)


def measured(found: Line) -> dict[str, Any]:
    """The errors where the knob stands at first."""
    errors = found.error()[:, :, FIRST_VALUE]
    return {
        "value": VALUES[FIRST_VALUE],
        "threshold": THRESHOLDS[FIRST_THRESHOLD],
        "error": {kind: {name: errors[found.place(name), at] for name in NAMES} for at, kind in enumerate(CORRUPTIONS)},
    }


def draw(found: Line, ax: Axes) -> None:
    """The rows, and the lines of all losses where the knob stands at first."""
    ends, lines = np.array([X[0], X[-1]]), {}
    for name in NAMES:
        slope, offset = (leaf[found.place(name), 0, FIRST_VALUE] for leaf in (found.slope, found.offset))
        label = f"{name}, δ = {THRESHOLDS[FIRST_THRESHOLD]:g}" if name in WITH_THRESHOLD else name
        lines[label] = slope * ends + offset
    good = np.arange(len(X)) != ROW
    ax.plot(X[good], found.y[good], "o", color="gray", markersize=4, label="good rows")
    ax.plot(ends, SLOPE * ends + OFFSET, ":", color="black", label="the truth")
    plots.lines(ends, lines, xlabel="x", ylabel="y", ax=ax)


def knob(found: Line) -> common.Knob:
    """Value, corruption, loss and threshold."""
    return common.Knob(
        [
            common.Slider("value", "target of the bad row", len(VALUES), FIRST_VALUE),
            common.Slider("threshold", "threshold δ", len(THRESHOLDS), FIRST_THRESHOLD),
            common.Choice("loss", "loss", dict(zip(NAMES, NAMES, strict=True))),
            common.Choice("row", "the bad row", {"target": "target alone", "leverage": "features too"}),
        ],
        {
            "x": X,
            "y": found.y,
            "row": ROW,
            "truth": [SLOPE, OFFSET],
            "values": VALUES,
            "thresholds": THRESHOLDS,
            "losses": NAMES,
            "corruptions": list(CORRUPTIONS),
            "status": {int(one): jaxreg.Status(one).name for one in np.unique(found.status)},
            "fits": common.packed(np.stack([found.slope, found.offset, found.status], axis=-1)),
        },
        charts=2,
    )
