"""Figures of fits: the curve with its band, the residuals, profiles and contours."""

from collections.abc import Mapping
from typing import Any

import jax
import matplotlib.pyplot as plt
import numpy as np
from jax.typing import ArrayLike
from matplotlib.axes import Axes
from matplotlib.colors import ListedColormap, Normalize

from jaxreg import _names, uncertainty
from jaxreg.global_fits import GlobalFit
from jaxreg.least_squares import Fit
from jaxreg.likelihoods import Likelihood
from jaxreg.plots._style import COLORS, axes_or_new, finish, is_many, style
from jaxreg.status import Status, is_optimum
from jaxreg.uncertainty._followed import distribution_of, follows, pool_of, problem_of


@follows
def fit(
    fit: Fit | GlobalFit,
    *,
    level: float = 0.95,
    distribution: str | None = None,
    xlabel: str = "x",
    ylabel: str = "y",
    axes: tuple[Axes, Axes] | None = None,
) -> tuple[Axes, Axes]:
    """Data with error bars, the fitted curve and its confidence band; below, on the same x axis, the residuals.

    Args:
        fit: one fit of one feature. Error bars are drawn where its sigma was given, and of counts; without either the
            residuals' unit is √(chi2/dof). Of a global fit all data sets, as ``curve`` has them.
        level: of the band.
        distribution: of the band, as for ``uncertainty.band``.
        xlabel: with its unit.
        ylabel: with its unit.
        axes: upper and lower axes to draw on, sharing x; a new figure if None.

    Returns:
        The upper and the lower axes.
    """
    if axes is None:
        panels = {"height_ratios": (3, 1)}
        axes = tuple(plt.subplots(2, 1, sharex=True, figsize=(6.4, 5.6), layout="constrained", gridspec_kw=panels)[1])
    upper, lower = axes
    curve(fit, level=level, distribution=distribution, ylabel=ylabel, xlabel="", ax=upper)
    residuals(fit, xlabel=xlabel, ax=lower)
    upper.tick_params(labelbottom=False)
    if (drawn := upper.get_figure()) is not None:
        drawn.align_ylabels(axes)
    return upper, lower


@follows
def curve(
    fit: Fit | GlobalFit,
    *,
    level: float = 0.95,
    distribution: str | None = None,
    xlabel: str = "x",
    ylabel: str = "y",
    ax: Axes | None = None,
) -> Axes:
    """Data, the fitted curve of one feature, and its confidence band from the covariance (first order).

    The legend says how a fit that failed has ended; a band that is not known is not drawn.

    Args:
        fit: one fit of one feature; error bars are drawn where its sigma was given. Of a global fit all data sets, by
            their numbers: up to eight with error bars, bands and a legend, more along a map of colours; those that took
            no part are grey crosses.
        level: of the band.
        distribution: of the band, as for ``uncertainty.band``.
        xlabel: with its unit.
        ylabel: with its unit.
    """
    ax = axes_or_new(ax)
    if isinstance(fit, GlobalFit):
        _curves(fit, level, distribution, ax)
        return finish(ax, xlabel, ylabel, legend=bool(ax.get_legend_handles_labels()[0]))
    x, y, sigma, _ = _data(fit)
    # Of NumPy: JAX compiles a program for each step, and for each element that matplotlib looks at.
    grid = np.linspace(x.min(), x.max(), 400, dtype=x.dtype)
    band = jax.tree.map(np.asarray, uncertainty.band(fit, grid, level=level, distribution=distribution))
    status = Status(int(fit.status))
    ax.plot(grid, band.prediction, **style(0), label="fit" if is_optimum(status) else f"fit: {status.name}")
    if np.isfinite(band.stderr).any():
        look = {"color": style(1)["color"], "alpha": 0.4, "linewidth": 0}
        ax.fill_between(grid, band.lower, band.upper, label=f"{100 * level:g} % band", **look)
    # Few points are drawn large, over the curve; many small, below it.
    many = is_many(x)
    marker: dict[str, Any] = {
        "color": "gray" if many else "black",
        "markersize": 3 if many else 5,
        "zorder": 1 if many else 3,
    }
    if sigma is None:
        ax.plot(x, y, ".", label="data", rasterized=many, **marker)
    else:
        ax.errorbar(x, y, sigma, fmt=".", label="data ± σ", rasterized=many, **marker)
    return finish(ax, xlabel, ylabel)


@follows
def residuals(fit: Fit | GlobalFit, *, xlabel: str = "x", ax: Axes | None = None) -> Axes:
    """Residuals in units of their standard deviation, with the ±2 band.

    Args:
        fit: one fit of one feature, or a global one; without its sigma the unit is √(chi2/dof).
        xlabel: with its unit.
    """
    ax = axes_or_new(ax)
    sets = _sets(fit) if isinstance(fit, GlobalFit) else [fit]
    ax.axhspan(-2, 2, color="gray", alpha=0.15, linewidth=0)
    ax.axhline(0, color="gray", linewidth=1)
    for one, color in zip(sets, _colors(len(sets)), strict=True):
        x, _, sigma, residual = _data(one)
        pool = pool_of(one)
        unit = np.sqrt(float(pool.chi2) / max(int(pool.dof), 1)) if sigma is None else sigma
        values = residual / (unit if np.any(np.asarray(unit) > 0) else 1.0)
        if one is fit or is_optimum(one.status):
            size = 4 if len(sets) <= len(COLORS) else 2
            ax.plot(x, values, ".", color=color, markersize=size, rasterized=is_many(fit.residuals))
    return finish(ax, xlabel, "residual / σ", legend=False)


def _sets(fit: GlobalFit) -> list[Fit]:
    """Its data sets, on the host: JAX would compile a program for each that is looked at."""
    problem_of(fit)
    return list(jax.tree.map(np.asarray, fit.each))


def _colors(count: int) -> list[Any]:
    """Of a few the colours of series, of many those of a map."""
    return [*COLORS[:count]] if count <= len(COLORS) else [*plt.get_cmap("viridis")(np.linspace(0, 0.95, count))]


def _curves(fit: GlobalFit, level: float, distribution: str | None, ax: Axes) -> None:
    """All data sets with their curves, in one legend or along one bar of colours."""
    sets = _sets(fit)
    data, few = [_data(one) for one in sets], len(sets) <= len(COLORS)
    there = [
        np.isfinite(y) if (mask := one.problem.mask) is None else mask
        for one, (_, y, *_) in zip(sets, data, strict=True)
    ]
    ends = [
        (x[known].min(), x[known].max()) if known.any() else (np.inf, -np.inf)
        for (x, *_), known in zip(data, there, strict=True)
    ]
    grid = np.linspace(min(low for low, _ in ends), max(high for _, high in ends), 400, dtype=data[0][0].dtype)
    bands = jax.tree.map(np.asarray, uncertainty.band(fit, grid, level=level, distribution=distribution))
    alone: str | None = "took no part"
    for place, color in enumerate(_colors(len(sets))):
        (x, y, sigma, _), known, (low, high) = data[place], there[place], ends[place]
        if not is_optimum(sets[place].status):
            ax.plot(x[known], y[known], "x", color="gray", markersize=4, label=alone)
            alone = None
            continue
        inside = (grid >= low) & (grid <= high)
        look = {"color": color, "markersize": 4, "alpha": 1 if few else 0.5}
        if few and sigma is not None:
            ax.errorbar(x[known], y[known], np.broadcast_to(sigma, x.shape)[known], fmt=".", **look)
        else:
            ax.plot(x[known], y[known], ".", rasterized=not few, **look)
        line, lower, upper = (part[place][inside] for part in (bands.prediction, bands.lower, bands.upper))
        look = {**style(place), "label": f"data set {place}"} if few else {"color": color, "linewidth": 0.8}
        ax.plot(grid[inside], line, **look)
        if few and np.isfinite(upper).any():
            ax.fill_between(grid[inside], lower, upper, color=color, alpha=0.2, linewidth=0)
    figure = ax.get_figure()
    if not few and figure is not None:
        colors = plt.cm.ScalarMappable(Normalize(0, len(sets) - 1), ListedColormap(_colors(len(sets))))
        figure.colorbar(colors, ax=ax, label="data set")


def _data(fit: Fit) -> tuple[np.ndarray, np.ndarray, Any, np.ndarray]:
    """x, y, the standard deviation of each point, if any is known, and the residuals.

    Counts are shown as what the model predicts, of successes their share, with the deviation that it expects.
    """
    x, y = map(np.asarray, _points(fit))
    residual, problem = np.asarray(fit.residuals), problem_of(fit)
    place = problem.only("a curve")
    loss, keywords = problem.form.terms[place].loss, problem.terms[place].keywords
    if not isinstance(loss, Likelihood):
        return x, y, _sigma(fit), residual
    expected = loss.saturated(y - residual, **keywords)
    information = np.asarray(loss.information(expected, **keywords))
    y = np.asarray(loss.saturated(y, **keywords))
    return x, y, np.sqrt(1 / np.where(information > 0, information, np.nan)), y - np.asarray(expected)


def _points(fit: Fit) -> tuple[Any, Any]:
    problem = problem_of(fit)
    term = problem.terms[problem.only("a curve", remedy="draw uncertainty.band(fit, x, term=0) for one of them")]
    x, y = term.x, term.y
    if np.ndim(y) != 1 or np.shape(x) != np.shape(y) or np.iscomplexobj(y):
        if np.iscomplexobj(y):
            raise ValueError("y is complex: draw its parts, or their size, against uncertainty.band(fit, x)")
        raise ValueError(
            f"a curve has one feature for each point, got x of shape {_names.shapes(x)} and y of {np.shape(y)}"
        )
    return x, y


def _sigma(fit: Fit) -> Any:
    """The standard deviation of each point; None where none was given, which are ones that are not absolute."""
    problem = problem_of(fit)
    sigma = np.asarray(problem.sigma)
    if not problem.absolute_sigma and np.all(sigma == 1):
        return None
    return np.sqrt(np.diagonal(sigma)) if sigma.ndim == 2 else sigma


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
