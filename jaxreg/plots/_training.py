"""Figures of training: losses against steps and epochs."""

from collections.abc import Mapping

import numpy as np
from jax.typing import ArrayLike
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from jaxreg.plots._style import axes_or_new, finish, style
from jaxreg.status import Status
from jaxreg.training import Training


def training(result: Training, *, label: str = "", index: int = 0, ax: Axes | None = None) -> Axes:
    """Loss of each minibatch against the step, and the validation loss after each epoch beside it; log axis.

    A run that diverged ends in a cross at the step that failed.

    Args:
        result: of one run.
        label: the run's name in the legend.
        index: the series' number, for its colour.
    """
    ax = axes_or_new(ax)
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
    return finish(ax, "step", "loss", yscale="log")


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
    ax = axes_or_new(ax)
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
    return finish(ax, "epoch", ylabel, yscale="log")
