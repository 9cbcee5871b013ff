"""What all figures share: colours, line styles, axes."""

from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from jax.typing import ArrayLike
from matplotlib.axes import Axes

COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#8C6D1F")
STYLES = ("-", "--", "-.", ":")


def style(index: int) -> dict[str, Any]:
    """Colour and line style of the index-th series.

    >>> style(1)
    {'color': '#D55E00', 'linestyle': '--'}
    """
    return {"color": COLORS[index % len(COLORS)], "linestyle": STYLES[index % len(STYLES)]}


def is_many(x: ArrayLike) -> bool:
    """Whether markers are too many for a vector file: they become pixels inside it."""
    return np.size(x) > 300


def axes_or_new(ax: Axes | None) -> Axes:
    """The axes given, or those of a new figure."""
    return plt.subplots(figsize=(6.4, 4.2), layout="constrained")[1] if ax is None else ax


def finish(ax: Axes, xlabel: str, ylabel: str, *, yscale: str = "linear", legend: bool = True) -> Axes:
    """Label the axes and draw grid and legend."""
    ax.set_xlabel(xlabel)
    ax.set_ylabel(ylabel)
    ax.set_yscale(yscale)
    ax.grid(alpha=0.25)
    if legend:
        ax.legend(fontsize="small", framealpha=0.8)
    return ax
