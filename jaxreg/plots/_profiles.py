"""Figures of profiles and contours."""

from collections.abc import Mapping
from typing import Any

import jax
import numpy as np
from jax.typing import ArrayLike
from matplotlib.axes import Axes

from jaxreg import _names, uncertainty
from jaxreg.global_fits import GlobalFit
from jaxreg.least_squares import Fit
from jaxreg.plots._style import axes_or_new, finish, style
from jaxreg.status import is_optimum
from jaxreg.uncertainty._followed import distribution_of


def profile(
    profile: uncertainty.Profile,
    fit: Fit | GlobalFit,
    parameter: str,
    *,
    level: float = 0.95,
    distribution: str | None = None,
    xlabel: str | None = None,
    ax: Axes | None = None,
) -> Axes:
    """A parameter's profile: tau against its value, beside the straight line of a linear model.

    The horizontal lines cut the curve at the ends of the profile's interval and the straight line at those of
    ``uncertainty.intervals``. Refits that failed are crosses.

    Args:
        profile: of ``uncertainty.profile``.
        fit: the fit that was profiled.
        parameter: its name, as in ``report.summary``.
        level: of the interval.
        distribution: as for ``uncertainty.intervals``.
        xlabel: with its unit; the name if None.
    """
    ax = axes_or_new(ax)
    distribution = distribution_of(fit, distribution)
    fit = fit.of_shared if isinstance(fit, GlobalFit) else fit
    names = _names.of(fit.params)
    if parameter not in names:
        raise ValueError(f"parameter must be one of {', '.join(names)}, got {parameter!r}")
    place = names.index(parameter)
    num = np.shape(jax.tree.leaves(profile.tau)[0])[-1]
    values, tau, status = (_rows(part, num)[place] for part in (profile.values, profile.tau, profile.status))
    estimate, stderr = (_rows(part, 1)[place, 0] for part in (fit.params, fit.stderr))
    failed = ~is_optimum(np.asarray(status))
    ax.plot(values, np.where(failed, np.nan, tau), **style(0), label="profile")
    if np.isfinite(stderr):  # it is not at a bound
        ax.plot(values, (values - estimate) / stderr, **style(1), label="± standard error")
    if failed.any():
        ax.plot(values[failed], np.clip(tau[failed], -9, 9), "x", color=style(0)["color"], label="refit failed")
    edge = float(uncertainty.quantile(fit.dof, level, distribution))
    for sign in (-1, 1):
        ax.axhline(sign * edge, color="gray", linewidth=1, label=f"{100 * level:g} %" if sign > 0 else None)
    return finish(ax, xlabel or parameter, "tau")


def contour(
    edges: Mapping[str, uncertainty.Contour],
    estimate: tuple[ArrayLike, ArrayLike],
    *,
    xlabel: str,
    ylabel: str,
    ax: Axes | None = None,
) -> Axes:
    """Joint confidence regions of two parameters, with the estimate; a gap where an edge was not found.

    Args:
        edges: name -> ``uncertainty.profile_contour``, such as one for each level.
        estimate: of the two parameters.
        xlabel: the first parameter, with its unit.
        ylabel: the second.
    """
    ax = axes_or_new(ax)
    for index, (name, edge) in enumerate(edges.items()):
        points = np.where(np.isfinite(edge.points), edge.points, np.nan)
        closed = np.concatenate([points, points[:1]])
        ax.plot(closed[:, 0], closed[:, 1], label=name, **style(index))
    ax.plot(
        float(np.asarray(estimate[0])),
        float(np.asarray(estimate[1])),
        "+",
        color="black",
        markersize=10,
        label="estimate",
    )
    return finish(ax, xlabel, ylabel)


def _rows(params: Any, num: int) -> np.ndarray:
    """(p, num)."""
    return np.concatenate([np.reshape(leaf, (-1, num)) for leaf in jax.tree.leaves(params)])
