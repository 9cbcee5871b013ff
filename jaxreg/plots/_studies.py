"""Figures of the studies of the learning rate."""

import itertools
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.colors import ListedColormap, Normalize
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator

from jaxreg._points import labels
from jaxreg.plots._style import COLORS, axes_or_new, finish, style
from jaxreg.plots._sweeps import rate_sweep
from jaxreg.status import Status
from jaxreg.studies import Atlas, PredictedTraining, RangeTest

_STRIPS = {"loss": "loss", "batch_size": "batch size", "init_scale": "factor of the init"}


def divergence_atlas(atlas: Atlas, *, ax: Axes | None = None) -> Axes:
    """What became of every member: a strip for each loss, batch size and init scale, a line in it for each seed.

    Where the loss fell, the colour is by how much; sky blue where it did not; gray and hatched where the run failed,
    the darker the earlier. Lines across each strip show 2/λmax and the mean-square edge.
    """
    ax = axes_or_new(ax)
    runs, names = atlas.sweep.values, _strip_names(atlas)
    # Strips and their seeds down, rates across; the first strip on top.
    final, start, status, steps = (
        np.swapaxes(np.asarray(values), -1, -2)
        for values in (runs.final_loss, runs.start_loss, runs.status, runs.num_steps)
    )
    num_seeds, num_rates = final.shape[-2:]
    failed = (status != Status.OK).reshape(-1, num_rates)
    change = np.log10(np.maximum(final, np.finfo(final.dtype).tiny) / start).reshape(-1, num_rates)
    rate = np.asarray(atlas.sweep.axes["learning_rate"])
    edges = _cell_edges(rate), np.arange(len(failed) + 1) / num_seeds
    cells: dict[str, Any] = {"rasterized": True}
    fell = np.ma.masked_where(failed | (change >= 0), change)
    lowest = min(float(fell.min()), -1.0) if fell.count() else -1.0
    mesh = ax.pcolormesh(*edges, fell, cmap="cividis", norm=Normalize(lowest, 0), **cells)
    grew = np.ma.masked_where(failed | (change < 0), np.ones_like(change))
    ax.pcolormesh(*edges, grew, cmap=ListedColormap([COLORS[5]]), **cells)
    ax.figure.colorbar(mesh, ax=ax, label="log₁₀ of final / first loss", aspect=30, pad=0.01)
    found = [Patch(facecolor=COLORS[5], label="loss did not fall")]
    if failed.any():
        step = np.ma.masked_where(~failed, np.maximum(steps.reshape(-1, num_rates), 1))
        mesh = ax.pcolormesh(*edges, step, cmap="gray", norm=Normalize(0, 1.3 * float(step.max())), **cells)
        ax.figure.colorbar(
            mesh,
            ax=ax,
            label="step of failure",
            aspect=30,
            pad=0.01,
            ticks=MaxNLocator(6, integer=True),
            boundaries=np.linspace(0, step.max(), 64),
        )
        _hatch(ax, rate, failed, num_seeds)
        found.append(Patch(facecolor="gray", edgecolor="white", hatch="////", label="failed"))
    strips = len(names)
    ax.hlines(np.arange(1, strips), *edges[0][[0, -1]], color="white", linewidth=1.5)
    found += _theory(ax, atlas, strips, edges[0])
    ax.set_xscale("log")
    ax.set_xlim(edges[0][0], edges[0][-1])
    ax.set_ylim(strips, 0)
    ax.set_yticks(np.arange(strips) + 0.5, names)
    ax.set_xlabel("learning rate")
    ax.set_ylabel(
        ", ".join(said for axis, said in _STRIPS.items() if axis == "batch_size" or len(atlas.sweep.axes[axis]) > 1)
    )
    ax.legend(handles=found, fontsize="small", loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=2, frameon=False)
    return ax


def predicted_training(result: PredictedTraining, *, ax: Axes | None = None) -> Axes:
    """Loss over all rows against epochs: runs (median, range of 90 % shaded), dots the expectation, dotted the descent.

    A rate at which runs failed says so in the legend; a median that ends in a failure ends in a cross.
    """
    ax = axes_or_new(ax)
    epochs = np.arange(result.measured.shape[-1])
    for index, rate in enumerate(result.learning_rate):
        losses = np.where(np.isfinite(result.measured[:, index]), result.measured[:, index], np.inf)
        low, median, high = np.percentile(losses, [5, 50, 95], axis=0, method="nearest")
        color, failed = style(index)["color"], (result.status[:, index] != Status.OK).mean()
        name = f"rate {rate:.3g}" + (f" ({100 * failed:.0f} % failed)" if failed else "")
        ax.plot(epochs, median, color=color, label=name)
        ax.fill_between(epochs, low, high, color=color, alpha=0.2, linewidth=0)
        last = np.flatnonzero(np.isfinite(median))[-1]
        if last + 1 < len(epochs):
            ax.plot(epochs[last], median[last], "X", color=color, markersize=10)
        descent = np.median(result.descent[:, index], axis=0)
        ax.plot(epochs, descent, ":", color=color, label="" if index else "without noise, from the Hessian")
        if result.expected is not None:
            expected = np.median(result.expected[:, index], axis=0)
            every = max(1, len(epochs) // 20)
            dots: dict[str, Any] = {"color": color, "markeredgecolor": "black", "markersize": 5, "zorder": 3}
            ax.plot(epochs[::every], expected[::every], "o", label="" if index else "expected", **dots)
    finite = np.isfinite(result.measured)
    # Beyond the top a curve only says that it explodes.
    ax.set_ylim(
        0.3 * result.measured[finite].min(),
        min(1e6 * np.median(result.measured[..., 0]), 3 * result.measured[finite].max()),
    )
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    return finish(ax, "epoch", "loss over all rows", yscale="log")


def range_test(result: RangeTest, *, share: float = 0.9, ax: Axes | None = None) -> Axes:
    """Final loss against learning rate (median, 90 % of the seeds), the usable rates shaded, and what theory says.

    Points with bars, of 90 % of the seeds, stand for the steepest and the best rate, the measured
    edge, 1/λmax and 2/λmax.

    Args:
        result: of ``range_test``.
        share: of the seeds for which a rate must be usable.
    """
    ax = axes_or_new(ax)
    rate_sweep(
        result.learning_rate,
        result.final_loss,
        result.status,
        start_loss=float(np.median(result.start_loss)),
        ax=ax,
    )
    low, high = result.usable(share)
    if np.isfinite(low):
        ax.axvspan(
            low,
            high,
            color=COLORS[2],
            alpha=0.15,
            linewidth=0,
            label=f"usable in {100 * share:.0f} %: {low:.3g} to {high:.3g}",
        )
    marks: dict[str, Any] = {
        "steepest": result.rates.steepest,
        "best": result.rates.best,
        "edge": result.rates.edge,
        "1/λmax": result.critical_learning_rate / 2,
        "2/λmax": result.critical_learning_rate,
    }
    for index, (name, values) in enumerate(marks.items(), start=1):
        known = values[np.isfinite(values)]
        if len(known):
            first, middle, last = np.percentile(known, [5, 50, 95])
            height = 0.97 - 0.05 * index
            bar = {"color": style(index)["color"], "transform": ax.get_xaxis_transform()}
            ax.plot([first, last], [height, height], linewidth=2, **bar)
            ax.plot(middle, height, "osD^v"[index - 1], markersize=6, label=f"{name} = {middle:.3g}", **bar)
    ax.legend(fontsize="small", loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=2, frameon=False)
    return ax


def _strip_names(atlas: Atlas) -> list[str]:
    """A name for each strip, of those axes that have more than one value; of the batch size in any case."""
    axes = atlas.sweep.axes
    parts = []
    for name, form in (("loss", "{}"), ("batch_size", "{}"), ("init_scale", "×{:g}")):
        values = labels(name, axes[name], static=name in atlas.sweep.static)[name]
        parts.append([form.format(value) if len(values) > 1 or name == "batch_size" else "" for value in values])
    return [", ".join(filter(None, combination)) for combination in itertools.product(*parts)]


def _cell_edges(rate: np.ndarray) -> np.ndarray:
    """Edges of cells around rates, halfway between them on the log axis."""
    logs = np.log(rate.astype(float))
    if len(logs) == 1:
        return rate * np.array([0.9, 1.1])
    middle = (logs[1:] + logs[:-1]) / 2
    return np.exp(np.concatenate([[2 * logs[0] - middle[0]], middle, [2 * logs[-1] - middle[-1]]]))


def _hatch(ax: Axes, rate: np.ndarray, failed: np.ndarray, num_seeds: int) -> None:
    """Hatch the members that failed, seed by seed, each from its first failing rate on."""
    edges = _cell_edges(rate)
    for number, row in enumerate(failed):
        place = np.array([number, number + 1]) / num_seeds
        steps = np.flatnonzero(np.diff(np.concatenate([[0], row.astype(int), [0]])))
        for first, last in steps.reshape(-1, 2):
            ax.fill_betweenx(
                place, edges[first], edges[last], facecolor="none", edgecolor="white", hatch="////", linewidth=0
            )


def _theory(ax: Axes, atlas: Atlas, strips: int, edges: np.ndarray) -> list[Any]:
    """2/λmax and the mean-square edge across each strip; their entries in the legend."""
    num_scales = len(atlas.sweep.axes["init_scale"])
    critical = np.repeat(atlas.critical_learning_rate, strips // len(atlas.critical_learning_rate))
    mean_square = np.repeat(atlas.mean_square_edge.ravel(), num_scales)
    drawn = []
    for values, line, name in ((critical, "-", "2/λmax"), (mean_square, ":", "mean-square edge")):
        inside = np.isfinite(values) & (values > edges[0]) & (values < edges[-1])
        parts = [[(rate, strip), (rate, strip + 1)] for strip, rate in enumerate(values) if inside[strip]]
        if parts:
            drawn.append(LineCollection(parts, colors=COLORS[1], linestyles=line, linewidths=2.5, label=name))
            ax.add_collection(drawn[-1])
    return drawn
