"""Figures: functions from results to matplotlib axes. Each draws on ``ax`` (a new figure if None) and returns it.

Colours are those of Okabe and Ito, which colour-blind readers can tell apart; line styles repeat what they say.
Failed members are always shown. Nothing global is set.
"""

import itertools
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
from jax import Array
from jax.flatten_util import ravel_pytree
from jax.typing import ArrayLike
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from jaxreg.least_squares import CurveFit
from jaxreg.models import Apply, Model, apply_of
from jaxreg.status import Status
from jaxreg.training import Training

COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#8C6D1F")
STYLES = ("-", "--", "-.", ":")


def style(index: int) -> dict[str, Any]:
    """Colour and line style of the index-th series.

    >>> style(1)
    {'color': '#D55E00', 'linestyle': '--'}
    """
    return {"color": COLORS[index % len(COLORS)], "linestyle": STYLES[index % len(STYLES)]}


def training(result: Training, *, label: str = "", index: int = 0, ax: Axes | None = None) -> Axes:
    """Loss of each minibatch against the step, and the validation loss after each epoch beside it; log axis.

    A run that diverged ends in a cross at the step that failed.

    Args:
        result: of one run.
        label: the run's name in the legend.
        index: the series' number, for its colour.
    """
    ax = _axes(ax)
    color = style(index)["color"]
    loss = np.asarray(result.train_loss)
    ax.plot(np.arange(len(loss)), loss, color=color, alpha=0.5, linewidth=1, label=f"{label} minibatch".strip())
    if result.validation_loss is not None:
        per_epoch = len(loss) // max(1, len(result.validation_loss))
        ends = per_epoch * np.arange(1, len(result.validation_loss) + 1)
        validation = np.asarray(result.validation_loss)
        ax.plot(ends, validation, "o-", color=color, markersize=5, label=f"{label} validation".strip())
    if int(result.status) != Status.OK:
        step = int(result.num_steps)
        finite = loss[np.isfinite(loss)]
        ending = finite[-1] if len(finite) else 1.0
        ax.plot(
            step, ending, "X", color=color, markersize=10, label=f"{label} {Status(int(result.status)).name}".strip()
        )
    return _finish(ax, "step", "loss", yscale="log")


def loss_curves(
    epochs: ArrayLike,
    curves: Mapping[str, ArrayLike],
    *,
    predicted: Mapping[str, ArrayLike] | None = None,
    ylabel: str = "loss",
    ax: Axes | None = None,
) -> Axes:
    """Losses against epochs on a log axis, many replicates to a curve: the median, with the range of 90 % shaded.

    A curve whose median becomes non-finite ends in a cross, at the top edge where it would flatten the others.

    Args:
        epochs: (k,).
        curves: name -> (replicates, k).
        predicted: name -> (k,), drawn as black dots over the curve of the same name.
    """
    ax = _axes(ax)
    # A loss that is not finite counts as larger than any other.
    losses = [np.where(np.isfinite(values), values, np.inf) for values in curves.values()]
    ranges = [np.percentile(values, [5, 50, 95], axis=0, method="nearest") for values in losses]
    settled = np.array([median for _, median, _ in ranges if np.isfinite(median).all()])
    top = 1e3 * settled.max() if 0 < len(settled) < len(curves) else np.inf
    for index, (name, members, (low, median, high)) in enumerate(zip(curves, losses, ranges, strict=True)):
        lost = np.isinf(members[:, -1]).mean()
        ax.plot(epochs, median, label=f"{name} ({100 * lost:.0f} % not finite)" if lost else name, **style(index))
        ax.fill_between(epochs, low, high, color=style(index)["color"], alpha=0.2, linewidth=0)
        finite = np.flatnonzero(np.isfinite(median))
        if len(finite) and finite[-1] + 1 < len(median):
            place = np.asarray(epochs)[finite[-1]], min(median[finite[-1]], top)
            ax.plot(*place, "X", color=style(index)["color"], markersize=10, clip_on=False)
    for index, values in enumerate((predicted or {}).values()):
        ax.plot(epochs, values, "o", color="black", markersize=3, label="" if index else "predicted")
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    if np.isfinite(top):
        ax.set_ylim(settled.min(where=settled > 0, initial=top) / 3, top)
    return _finish(ax, "epoch", ylabel, yscale="log")


def rate_sweep(
    learning_rate: ArrayLike,
    loss: ArrayLike,
    status: ArrayLike,
    *,
    start_loss: float,
    predicted_edge: float | None = None,
    measured_edge: float | None = None,
    ax: Axes | None = None,
) -> Axes:
    """Final loss against learning rate, both on log axes: median over members, range of 90 %, diverging rates hatched.

    Args:
        learning_rate: (k,), rising.
        loss: (members, k), final losses.
        status: (members, k), status codes.
        start_loss: the loss before training, a horizontal line; rates that end above it are hatched.
        predicted_edge: the critical learning rate, a vertical line.
        measured_edge: the rate at which the final loss first exceeds its start, a vertical line.
    """
    ax = _axes(ax)
    rate = np.asarray(learning_rate)
    failed = (np.asarray(status) != Status.OK) | ~np.isfinite(loss)
    low, median, high = np.percentile(np.where(failed, np.inf, loss), [5, 50, 95], axis=0, method="nearest")
    ax.plot(rate, median, **style(0), label="final loss, median")
    ax.fill_between(rate, low, high, color=style(0)["color"], alpha=0.2, linewidth=0, label="90 % of the members")
    ax.axhline(start_loss, color="gray", linewidth=1, label="loss before training")
    diverges = median > start_loss
    if diverges.any():
        hatch: dict[str, Any] = {"facecolor": "none", "edgecolor": "gray", "hatch": "//", "alpha": 0.5}
        ax.fill_between(rate, 0, 1, where=diverges, transform=ax.get_xaxis_transform(), label="diverges", **hatch)
    # Beyond the top the curve only says that it explodes.
    ax.set_ylim(0.3 * np.min(np.where(failed, start_loss, loss)), 1e4 * start_loss)
    for edge, index, name in ((predicted_edge, 1, "predicted edge 2/λmax"), (measured_edge, 2, "measured edge")):
        if edge is not None:
            ax.axvline(edge, **style(index), label=f"{name} = {edge:.4g}")
    ax.set_xscale("log")
    return _finish(ax, "learning rate", "loss", yscale="log")


def curve(
    model: Model | Apply,
    fit: CurveFit,
    x: ArrayLike,
    y: ArrayLike,
    *,
    sigma: ArrayLike | None = None,
    xlabel: str = "x",
    ylabel: str = "y",
    ax: Axes | None = None,
) -> Axes:
    """Data, the fitted curve of one feature, and its 95 % confidence band from the covariance (first order).

    Args:
        model: the fitted model.
        fit: its ``curve_fit``.
        x: (n,).
        y: (n,).
        sigma: scalar or (n,), drawn as error bars.
        xlabel: with its unit.
        ylabel: with its unit.
    """
    ax = _axes(ax)
    flat, unravel = ravel_pytree(fit.params)
    grid = jnp.linspace(jnp.min(jnp.asarray(x)), jnp.max(jnp.asarray(x)), 400)

    def predict(parameters: Array) -> Array:
        return apply_of(model)(unravel(parameters), grid)

    slope = jax.jacfwd(predict)(flat)
    half_width = np.asarray(1.96 * jnp.sqrt(jnp.einsum("ni,ij,nj->n", slope, fit.covariance, slope)))
    middle = np.asarray(predict(flat))
    # Matplotlib looks into what it is given element by element, for which JAX compiles a program.
    across, x, y = np.asarray(grid), np.asarray(x), np.asarray(y)
    ax.plot(across, middle, **style(0), label="fit")
    band = {"color": style(1)["color"], "alpha": 0.4, "linewidth": 0}
    ax.fill_between(across, middle - half_width, middle + half_width, label="95 % band", **band)
    # Few points are drawn large, over the curve; many small, below it.
    many = _many(x)
    marker: dict[str, Any] = {
        "color": "gray" if many else "black",
        "markersize": 3 if many else 5,
        "zorder": 1 if many else 3,
    }
    if sigma is None:
        ax.plot(x, y, ".", label="data", rasterized=many, **marker)
    else:
        ax.errorbar(x, y, sigma, fmt=".", label="data ± σ", rasterized=many, **marker)
    return _finish(ax, xlabel, ylabel)


def residuals(
    x: ArrayLike, residual: ArrayLike, sigma: ArrayLike, *, xlabel: str = "x", ax: Axes | None = None
) -> Axes:
    """Residuals in units of their standard deviation, with the ±2 band.

    Args:
        x: (n,).
        residual: (n,), y - model.
        sigma: scalar or (n,), in the same units.
        xlabel: with its unit.
    """
    ax = _axes(ax)
    ax.axhspan(-2, 2, color="gray", alpha=0.15, linewidth=0)
    ax.axhline(0, color="gray", linewidth=1)
    values = np.asarray(residual) / np.asarray(sigma)
    ax.plot(np.asarray(x), values, ".", color=style(0)["color"], markersize=4, rasterized=_many(x))
    return _finish(ax, xlabel, "residual / σ", legend=False)


def distribution(
    samples: ArrayLike, *, marks: Mapping[str, float] | None = None, xlabel: str, ax: Axes | None = None
) -> Axes:
    """Histogram of replicates, the range of 99 % shaded; the legend counts those that are not finite.

    Args:
        samples: (replicates,).
        marks: name -> value, drawn as vertical lines, such as a published number or the truth.
        xlabel: with its unit.
    """
    ax = _axes(ax)
    values = np.asarray(samples, float).ravel()
    finite = values[np.isfinite(values)]
    lost = f" ({len(values) - len(finite)} not finite)" if len(finite) < len(values) else ""
    if len(finite):
        low, high = np.percentile(finite, [0.5, 99.5])
        ax.hist(finite, bins=40, color=style(0)["color"], alpha=0.5, label=f"{len(values)} replicates{lost}")
        ax.axvspan(low, high, color="gray", alpha=0.15, linewidth=0, label="99 % of them")
        ax.set_ylim(top=1.5 * ax.dataLim.y1)  # room for the legend
    for index, (name, value) in enumerate((marks or {}).items(), start=1):
        ax.axvline(value, **style(index), label=f"{name} {value:.5g}")
    return _finish(ax, xlabel, "replicates")


def points(x: ArrayLike, series: Mapping[str, ArrayLike], *, xlabel: str, ylabel: str, ax: Axes | None = None) -> Axes:
    """Scatter of named series over one axis.

    Args:
        x: (n,).
        series: name -> (n,).
        xlabel: with its unit.
        ylabel: with its unit.
    """
    ax = _axes(ax)
    for index, ((name, values), marker) in enumerate(zip(series.items(), itertools.cycle("os^Dv"), strict=False)):
        look: dict[str, Any] = {"color": style(index)["color"], "markersize": 2.5, "alpha": 0.6, "label": name}
        ax.plot(np.asarray(x), np.asarray(values), marker, rasterized=_many(x), **look)
    return _finish(ax, xlabel, ylabel)


def lines(
    x: ArrayLike,
    series: Mapping[str, ArrayLike],
    *,
    xlabel: str,
    ylabel: str,
    xscale: str = "linear",
    yscale: str = "linear",
    failed: Mapping[str, ArrayLike] | None = None,
    ax: Axes | None = None,
) -> Axes:
    """Named series over one axis, with crosses along the top where a member of a series failed.

    Args:
        x: (k,).
        series: name -> (k,).
        failed: name -> (k,) booleans, such as ``status != Status.OK``; drawn at the top edge of the axes.
    """
    ax = _axes(ax)
    x = np.asarray(x)
    for index, (name, values) in enumerate(series.items()):
        ax.plot(x, np.asarray(values, float), label=name, **style(index))
        lost = np.asarray((failed or {}).get(name, np.zeros(np.shape(x), bool)))
        if lost.any():
            top = np.full(int(lost.sum()), 0.97 - 0.03 * index)
            ax.plot(
                x[lost],
                top,
                "x",
                color=style(index)["color"],
                transform=ax.get_xaxis_transform(),
                label=f"{name}: diverged",
            )
    ax.set_xscale(xscale)
    return _finish(ax, xlabel, ylabel, yscale=yscale)


def comparison(groups: Mapping[str, ArrayLike], *, ylabel: str, yscale: str = "log", ax: Axes | None = None) -> Axes:
    """One box for each group of replicates (quartiles, whiskers at 5 % and 95 %).

    A cross and a share mark a group with diverged members; where most are, the axis is cut for the others' sake.

    Args:
        groups: name -> (replicates,); values that are not finite count as diverged.
        ylabel: with its unit.
    """
    ax = _axes(ax)
    finite = [np.asarray(values, float)[np.isfinite(values)] for values in groups.values()]
    boxes = ax.boxplot(finite, whis=(5, 95), widths=0.6, showfliers=False, patch_artist=True)
    for index, box in enumerate(boxes["boxes"]):
        box.set(facecolor=style(index)["color"], alpha=0.5)
    for line in boxes["medians"]:
        line.set_color("black")
    labels, settled = [], []
    for place, (name, values, kept) in enumerate(zip(groups, groups.values(), finite, strict=True), start=1):
        lost = 1 - len(kept) / np.size(values)
        labels.append(f"{name}\n{100 * lost:.0f} % diverged" if lost else name)
        if lost:
            ax.plot(place, 0.95, "X", color="black", markersize=10, transform=ax.get_xaxis_transform())
        if lost < 0.5:
            settled.append(np.percentile(kept, [5, 95]))
    if 0 < len(settled) < len(groups):
        ax.set_ylim(np.min(settled) / 3, 10 * np.max(settled))
    ax.set_xticks(range(1, len(groups) + 1), labels)
    return _finish(ax, "", ylabel, yscale=yscale, legend=False)


def _many(x: ArrayLike) -> bool:
    """Whether markers are too many for a vector file: they become pixels inside it."""
    return np.size(x) > 300


def _axes(ax: Axes | None) -> Axes:
    return plt.subplots(figsize=(6.4, 4.2), layout="constrained")[1] if ax is None else ax


def _finish(ax: Axes, xlabel: str, ylabel: str, *, yscale: str = "linear", legend: bool = True) -> Axes:
    ax.set_xlabel(xlabel)
    ax.set_ylabel(ylabel)
    ax.set_yscale(yscale)
    ax.grid(alpha=0.25)
    if legend:
        ax.legend(fontsize="small", framealpha=0.8)
    return ax
