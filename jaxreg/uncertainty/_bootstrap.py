"""The bootstrap: the spread of the parameters over refits of resampled data."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array
from jax.flatten_util import ravel_pytree
from jax.typing import ArrayLike

from jaxreg import _checks, _trace
from jaxreg.least_squares import CurveFit, curve_fit
from jaxreg.models import Apply, Model, Params, apply_of
from jaxreg.status import Status

KINDS = ("pairs", "residual", "parametric")


class Bootstrap(NamedTuple):
    """Refits of resampled data.

    Attributes:
        params: like the fit's, with a leading axis (num,); NaN where a refit failed.
        stderr: shaped like params: the standard deviation over the refits that did not.
        lower: shaped like params, their quantile at (1 - level)/2.
        upper: shaped like params, their quantile at (1 + level)/2.
        status: (num,), of each refit.
    """

    params: Params
    stderr: Params
    lower: Params
    upper: Params
    status: Array


def bootstrap(
    key: Array,
    model: Model | Apply,
    x: ArrayLike,
    y: ArrayLike,
    fit: CurveFit,
    *,
    kind: str = "pairs",
    num: int = 1000,
    sigma: ArrayLike | None = None,
    absolute_sigma: bool = False,
    level: ArrayLike = 0.95,
    batch_size: int = 250,
    **options: Any,
) -> Bootstrap:
    """Refit resampled data: standard errors and percentile intervals that do not rest on the covariance.

    Args:
        key: PRNG key.
        model: as given to ``curve_fit``, and so are x, y, sigma and absolute_sigma.
        fit: the result; each refit starts at it.
        kind: "pairs" draws the points (x, y, sigma) with replacement, right also where the errors' variance varies in
            an unknown way; "residual" keeps x and sigma and draws the residuals in units of sigma, raised by
            1/√(1 - leverage) and centred; "parametric" adds normal noise of the standard deviation sigma, if absolute,
            or else sigma·√(chi2/dof), to the fitted curve.
        num: refits, static.
        level: of the percentile intervals.
        batch_size: refits at once, static: bounds memory.
        options: others of ``curve_fit``, such as a loss or bounds; not a mask.

    Returns:
        Bootstrap.

    Source: A. C. Davison and D. V. Hinkley, Bootstrap Methods and their Application (1997), sections 6.2 and 7.

    >>> import jaxreg
    >>> x = jnp.arange(5.0)
    >>> y = jnp.array([0.0, 1.1, 1.9, 3.1, 3.9])
    >>> fit = jaxreg.curve_fit(jaxreg.models.ohm(), x, y)
    >>> found = bootstrap(jax.random.key(0), jaxreg.models.ohm(), x, y, fit, kind="residual", num=200)
    >>> print(f"{found.stderr['resistance']:.2f}, {fit.stderr['resistance']:.2f} by the covariance")
    0.02, 0.02 by the covariance
    """
    _checks.one_of("kind", kind, KINDS)
    num = _checks.count("num", num, least=2)
    batch_size = _checks.count("batch_size", batch_size, least=1)
    if options.get("mask") is not None:
        raise ValueError("mask must be None, for the points drawn must be there: leave the missing ones out")
    x, y = jnp.asarray(x), jnp.asarray(y)
    num_rows = _checks.rows(x, y)
    if sigma is not None and jnp.ndim(sigma) > 1:
        raise ValueError(f"sigma must be a scalar or of shape {(num_rows,)}, got {jnp.shape(sigma)}")
    spread = None if sigma is None else jnp.broadcast_to(jnp.asarray(sigma, y.dtype), y.shape)
    arrays = {name: value for name, value in options.items() if _is_arrays(value)}
    rest = tuple(sorted((name, value) for name, value in options.items() if name not in arrays))
    run = _run_compiled if _trace.at_top_level() else _run
    statics: dict[str, Any] = {"model": model, "kind": kind, "num": num, "batch_size": batch_size, "rest": rest}
    return run(key, x, y, spread, fit, jnp.asarray(level), arrays, absolute_sigma=absolute_sigma, **statics)


def _run(
    key: Array,
    x: Array,
    y: Array,
    sigma: Array | None,
    fit: CurveFit,
    level: Array,
    arrays: dict[str, Any],
    *,
    model: Model | Apply,
    kind: str,
    num: int,
    batch_size: int,
    absolute_sigma: bool,
    rest: tuple[tuple[str, Any], ...],
) -> Bootstrap:
    unit = jnp.ones_like(y) if sigma is None else sigma
    curve = apply_of(model)(fit.params, x)
    residual = _standardised(model, x, fit, unit)
    noise = unit if absolute_sigma else unit * jnp.sqrt(fit.chi2 / fit.dof)

    def one(key: Array) -> tuple[Params, Array]:
        rows = jax.random.randint(key, y.shape, 0, y.size)
        if kind == "pairs":
            drawn = (x[rows], y[rows], None if sigma is None else sigma[rows])
        elif kind == "residual":
            drawn = (x, curve + unit * residual[rows], sigma)
        else:
            drawn = (x, curve + noise * jax.random.normal(key, y.shape, y.dtype), sigma)
        refit = curve_fit(
            model, *drawn[:2], fit.params, sigma=drawn[2], absolute_sigma=absolute_sigma, **arrays, **dict(rest)
        )
        good = refit.status == Status.OK
        return jax.tree.map(lambda leaf: jnp.where(good, leaf, jnp.nan), refit.params), refit.status

    params, status = jax.lax.map(one, jax.random.split(key, num), batch_size=min(batch_size, num))
    ends = jnp.stack([(1 - level) / 2, (1 + level) / 2])
    bounds = jax.tree.map(lambda leaf: jnp.nanquantile(leaf, ends.astype(leaf.dtype), axis=0), params)
    return Bootstrap(
        params=params,
        stderr=jax.tree.map(lambda leaf: jnp.nanstd(leaf, axis=0, ddof=1), params),
        lower=jax.tree.map(lambda leaf: leaf[0], bounds),
        upper=jax.tree.map(lambda leaf: leaf[1], bounds),
        status=status,
    )


_run_compiled = jax.jit(_run, static_argnames=("model", "kind", "num", "batch_size", "absolute_sigma", "rest"))


def _standardised(model: Model | Apply, x: Array, fit: CurveFit, unit: Array) -> Array:
    """Residuals in sigmas of the same variance each, r/√(1 - leverage), centred."""
    flat, unravel = ravel_pytree(fit.params)
    jacobian = jax.jacfwd(lambda free: apply_of(model)(unravel(free), x) / unit)(flat)
    norms = jnp.linalg.norm(jacobian, axis=0)
    q, _ = jnp.linalg.qr(jacobian / jnp.where(norms > 0, norms, 1)[None])
    leverage = jnp.clip(jnp.sum(q**2, axis=1), 0, 1 - jnp.sqrt(jnp.finfo(flat.dtype).eps))
    residual = fit.residuals / unit / jnp.sqrt(1 - leverage)
    return residual - residual.mean()


def _is_arrays(value: Any) -> bool:
    """Whether an option is a pytree of numbers, to be traced, rather than a word or a function."""
    leaves = jax.tree.leaves(value)
    return bool(leaves) and all(isinstance(leaf, float | jax.Array) or hasattr(leaf, "dtype") for leaf in leaves)
