"""Figures of fits: the curve with its band, and the residuals."""

from typing import Any

import jax
import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import ListedColormap, Normalize

from jaxreg import _names, uncertainty
from jaxreg.global_fits import GlobalFit
from jaxreg.least_squares import Fit
from jaxreg.likelihoods import Likelihood
from jaxreg.plots._style import COLORS, axes_or_new, finish, is_many, style
from jaxreg.status import Status, is_optimum
from jaxreg.uncertainty._followed import follows, pool_of, problem_of


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
    known, sigma_x = _known(fit, y), _sigma_x(fit)
    if known.any():
        sigma, sigma_x = (None if one is None else np.broadcast_to(one, x.shape)[known] for one in (sigma, sigma_x))
        x, y = x[known], y[known]
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
        ax.errorbar(x, y, sigma, sigma_x, fmt=".", label="data ± σ", rasterized=many, **marker)
    return finish(ax, xlabel, ylabel)


@follows
def residuals(fit: Fit | GlobalFit, *, xlabel: str = "x", ax: Axes | None = None) -> Axes:
    """Residuals in units of their standard deviation, with the ±2 band.

    Args:
        fit: one fit of one feature, or a global one; without its sigma the unit is √(chi2/dof). With errors in x each
            point's distance from the curve in sigmas, with the sign of y's residual.
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
        if one.adjusted_x is not None:
            residual, unit = _distances(one, residual), unit if sigma is None else 1.0
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
    there = [_known(one, y) for one, (_, y, *_) in zip(sets, data, strict=True)]
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
    if fit.residuals is None:
        raise ValueError("this fit has not kept its residuals: draw uncertainty.band(fit, x)")
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


def _known(fit: Fit, y: np.ndarray) -> np.ndarray:
    """Which points count."""
    mask = problem_of(fit).mask
    return np.isfinite(y) if mask is None else np.asarray(mask)


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


def _distances(fit: Fit, residual: np.ndarray) -> np.ndarray:
    """Of each point from the curve: √(dx²/v + (dy - c·dx/v)²/(σ² - c²/v)), v the variance of x, c that with y.

    dx and dy lead from the observed point to its place on the curve.
    """
    problem = problem_of(fit)
    sigma_x, sigma = np.asarray(problem.sigma_x), np.asarray(problem.sigma)
    variance = sigma_x[:, 0, 0] if sigma_x.ndim == 3 else sigma_x**2
    across = sigma_x[:, 0, 1] if sigma_x.shape[1:] == (2, 2) else 0.0
    variance = np.where(variance > 0, variance, np.inf)  # an exact x has not moved
    away = np.asarray(fit.adjusted_x) - problem.x
    rest = (-residual - across / variance * away) / np.sqrt(sigma**2 - across**2 / variance)
    return np.copysign(np.sqrt(away**2 / variance + rest**2), residual)


def _sigma_x(fit: Fit) -> Any:
    """The standard deviation of each x; None where it is exact."""
    sigma_x = problem_of(fit).sigma_x
    return sigma_x if sigma_x is None or np.ndim(sigma_x) < 3 else np.sqrt(np.asarray(sigma_x)[:, 0, 0])


def _sigma(fit: Fit) -> Any:
    """The standard deviation of each point; None where none was given, which are ones that are not absolute."""
    problem = problem_of(fit)
    sigma = np.asarray(problem.sigma)
    if not problem.absolute_sigma and np.all(sigma == 1):
        return None
    return np.sqrt(np.diagonal(sigma)) if sigma.ndim == 2 else sigma
