"""Figures of numbers: samples, points, lines and boxes."""

import itertools
from collections.abc import Mapping
from typing import Any

import numpy as np
from jax.typing import ArrayLike
from matplotlib.axes import Axes

from jaxreg.plots._style import axes_or_new, finish, is_many, style


def distribution(
    samples: ArrayLike, *, marks: Mapping[str, float] | None = None, xlabel: str, ax: Axes | None = None
) -> Axes:
    """Histogram of replicates, the range of 99 % shaded; the legend counts those that are not finite.

    Args:
        samples: (replicates,).
        marks: name -> value, drawn as vertical lines, such as a published number or the truth.
        xlabel: with its unit.
    """
    ax = axes_or_new(ax)
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
    return finish(ax, xlabel, "replicates")


def points(x: ArrayLike, series: Mapping[str, ArrayLike], *, xlabel: str, ylabel: str, ax: Axes | None = None) -> Axes:
    """Scatter of named series over one axis.

    Args:
        x: (n,).
        series: name -> (n,).
        xlabel: with its unit.
        ylabel: with its unit.
    """
    ax = axes_or_new(ax)
    for index, ((name, values), marker) in enumerate(zip(series.items(), itertools.cycle("os^Dv"), strict=False)):
        look: dict[str, Any] = {"color": style(index)["color"], "markersize": 2.5, "alpha": 0.6, "label": name}
        ax.plot(np.asarray(x), np.asarray(values), marker, rasterized=is_many(x), **look)
    return finish(ax, xlabel, ylabel)


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
    ax = axes_or_new(ax)
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
    return finish(ax, xlabel, ylabel, yscale=yscale)


def comparison(groups: Mapping[str, ArrayLike], *, ylabel: str, yscale: str = "log", ax: Axes | None = None) -> Axes:
    """One box for each group of replicates (quartiles, whiskers at 5 % and 95 %).

    A cross and a share mark a group with diverged members; where most are, the axis is cut for the others' sake.

    Args:
        groups: name -> (replicates,); values that are not finite count as diverged.
        ylabel: with its unit.
    """
    ax = axes_or_new(ax)
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
    return finish(ax, "", ylabel, yscale=yscale, legend=False)
