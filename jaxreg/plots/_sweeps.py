"""Figures of sweeps: what became of every member."""

from typing import Any

import numpy as np
from jax.typing import ArrayLike
from matplotlib.axes import Axes

from jaxreg.plots._style import axes_or_new, finish, style
from jaxreg.status import Status


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
    ax = axes_or_new(ax)
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
    return finish(ax, "learning rate", "loss", yscale="log")
