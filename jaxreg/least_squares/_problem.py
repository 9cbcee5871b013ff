"""A fit as the solver sees it: weighted residuals of the free parameters, the loss that they are under, the box."""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax
from jax.flatten_util import ravel_pytree
from jax.scipy.linalg import solve_triangular

from jaxreg import _checks
from jaxreg._linear_algebra import power_of_two
from jaxreg._shapes import Bool, Float, Int
from jaxreg.data import Dataset
from jaxreg.least_squares._limits import one_sided_derivative
from jaxreg.models import Apply, Model, Params, apply_of
from jaxreg.objective import Loss, neutral_rows


class Options(NamedTuple):
    """What chooses the program of a fit: hashable."""

    model: Model | Apply
    free: tuple[bool, ...] | None  # the numbers of ravel_pytree(p0) that are fitted; None for all
    loss: Loss | None  # elementwise, of (prediction, target) in units of sigma; None for the squared one
    scale: str | None  # "mad": the loss's unit is sigma times a scale estimated from the residuals
    absolute_sigma: bool
    covariance: str
    max_steps: int
    careful: bool = True  # whether kinks are resolved, and derivatives that are not finite sought as limits


class Task(NamedTuple):
    """The numbers of one fit: all may be traced, and may have a leading axis under ``vmap``."""

    p0: Params
    x: Array
    y: Array
    sigma: Array  # (), (n,) or (n, n)
    mask: Array | None = None  # (n,)
    bounds: tuple[Params, Params] | None = None  # each shaped like p0
    thresholds: dict[str, Any] | None = None  # keywords of the loss


class Problem(NamedTuple):
    """Pure functions of the free parameters, flat, and of the residuals, (model - y)/(sigma·unit).

    The unit keeps sums of their squares in the range of floats, whatever units y and sigma are in.
    """

    start: Float[Array, "p"]
    unit: Float[Array, ""]  # a power of two near the largest y/sigma, so that it rounds nothing
    places: Int[np.ndarray, "p"]  # of the free parameters among all
    spread: Callable[[Array], Array]  # (p, …) -> the same of all parameters, 0 for the fixed ones
    unravel: Callable[[Array], Params]  # all, flat -> shaped like p0
    restore: Callable[[Array], Params]  # (p,) -> shaped like p0, the fixed ones as they were
    residual: Callable[[Array], Array]  # (p,) -> (n,), zero where masked
    raw: Callable[[Array], Array]  # (p,) -> (n,), y - model, unweighted
    counted: Bool[Array, "n"]  # rows that are there
    size: Float[Array, ""]  # ‖y/(sigma·unit)‖
    valid: Bool[Array, ""]
    bounds: tuple[Float[Array, "p"], Float[Array, "p"]] | None
    loss: Callable[[Array], Array] | None  # elementwise, of residuals in units of the noise
    scale: str | None
    careful: bool
    unusable: Bool[Array, "3 n"]  # rows that are there, where x, y or sigma is not finite, or sigma not positive

    @property
    def num_rows(self) -> int:
        return self.counted.size

    def linearise(self, params: Float[Array, "p"]) -> tuple[Float[Array, "n"], Float[Array, "p n"]]:
        """The residuals and their derivatives, of one side where there is none."""
        residual, slope = jax.linearize(self.residual, params)
        jacobian = jax.vmap(slope)(jnp.eye(params.size, dtype=params.dtype))
        if not self.careful:
            return residual, jacobian
        poles = ~jnp.isfinite(jacobian) & jnp.isfinite(residual)[None]
        # Where a function has none it is 0·∞, as of √(a·x) at x = 0, whose derivative by a is 0.
        mended = lax.cond(
            poles.any() & jnp.isfinite(params).all(),
            lambda: jnp.where(poles, one_sided_derivative(self.residual, params, residual, jacobian), jacobian),
            lambda: jacobian,
        )
        return residual, mended

    def chi2(self, residual: Float[Array, "n"]) -> Float[Array, ""]:
        """Σ ((model - y)/sigma)²: 0 or infinite where that is out of the range of floats."""
        return jnp.vdot(residual, residual) * self.unit * self.unit

    def second_derivative(
        self, params: Float[Array, "p"], one: Float[Array, "p"], other: Float[Array, "p"]
    ) -> Float[Array, "n"]:
        """The residuals' second derivative along two directions; 0 for a row that has none, which has no say then."""

        def along(point: Array) -> Array:
            return jax.jvp(self.residual, (point,), (one,))[1]

        bend = jax.jvp(along, (params,), (other,))[1]
        return jnp.where(jnp.isfinite(bend), bend, 0)

    def noise(self, residual: Float[Array, "n"]) -> Float[Array, ""]:
        """The unit of the loss, in that of the residuals: sigma, or the normalised median absolute residual."""
        if self.scale is None:
            return 1 / self.unit
        size = jnp.sort(jnp.where(self.counted, jnp.abs(residual), jnp.inf))
        middle = self.counted.sum() - 1
        median = (size[middle // 2] + size[(middle + 1) // 2]) / 2
        # More than half the residuals may be exactly zero: then the unit is the rounding of the targets.
        least = jnp.finfo(size.dtype).eps * self.size / math.sqrt(size.size)
        return jnp.maximum(median / _NORMAL_QUARTILE, jnp.where(least > 0, least, 1))

    def cost(self, residual: Float[Array, "n"], noise: Float[Array, ""]) -> Float[Array, ""]:
        """Twice the loss, in units of the residuals squared: Σ r² for the squared loss."""
        if self.loss is None:
            return jnp.vdot(residual, residual)
        return 2 * noise * (noise * jnp.sum(jnp.where(self.counted, self.loss(residual / noise), 0)))

    def slope(self, residual: Float[Array, "n"], noise: Float[Array, ""]) -> Float[Array, "n"]:
        """ψ: the derivative of half the cost by each residual."""
        return residual if self.loss is None else noise * _derivative(self.loss)(residual / noise)

    def curvature(self, residual: Float[Array, "n"], noise: Float[Array, ""]) -> Float[Array, "n"]:
        """ψ': the second derivative of half the cost by each residual."""
        if self.loss is None:
            return jnp.ones_like(residual)
        return _derivative(_derivative(self.loss))(residual / noise)

    def weights(
        self, residual: Float[Array, "n"], noise: Float[Array, ""]
    ) -> tuple[Float[Array, "n"], Float[Array, "n"]]:
        """ψ and the square roots of the rows' weights in a step.

        The weights are ψ' where that is positive, as in Newton's method, but at least a hundredth of ψ/r, the weight of
        iteratively reweighted least squares: so they are never negative, and ψ/√weight stays of the residuals' size.
        """
        slope = self.slope(residual, noise)
        if self.loss is None:
            return slope, jnp.ones_like(slope)
        curvature = self.curvature(residual, noise)
        at_zero = residual == 0
        reweighted = jnp.where(at_zero, curvature, slope / jnp.where(at_zero, 1, residual))
        return slope, jnp.sqrt(jnp.maximum(jnp.maximum(curvature, _LEAST_WEIGHT * reweighted), 0))

    def gradient(self, params: Float[Array, "p"]) -> Float[Array, "p"]:
        """Half the cost's gradient."""
        residual, transposed = jax.vjp(self.residual, params)
        return transposed(self.slope(residual, self.noise(residual)))[0]

    def free(self, params: Float[Array, "p"], gradient: Float[Array, "p"]) -> Bool[Array, "p"]:
        """Whether each parameter can move: it has room, and is not at a bound that the gradient pushes it against."""
        if self.bounds is None:
            return jnp.ones(params.shape, bool)
        lower, upper = self.bounds
        # A gradient of zero pushes nothing: of a parameter that moves no prediction it says that it is not determined.
        pushed = ((params <= lower) & (gradient > 0)) | ((params >= upper) & (gradient < 0))
        return ~pushed & (lower < upper)

    def stationarity(self, params: Float[Array, "p"]) -> Float[Array, "p"]:
        """Zero at the optimum: the gradient, and for a parameter at a bound its distance to that."""
        gradient = self.gradient(params)
        if self.bounds is None:
            return gradient
        lower, upper = self.bounds
        free = self.free(params, gradient)
        return jnp.where(free, gradient, params - jnp.where(params <= lower, lower, upper))


_NORMAL_QUARTILE = 0.6744897501960817
_LEAST_WEIGHT = 0.01


def _derivative(fn: Callable[[Array], Array]) -> Callable[[Array], Array]:
    """Of an elementwise function."""
    return lambda value: jax.jvp(fn, (value,), (jnp.ones_like(value),))[1]


def problem_of(task: Task, options: Options) -> Problem:
    """The problem of one fit."""
    task = jax.tree.map(jnp.asarray, task)
    layout = _layout(task, options)
    dtype, num_rows = layout.start.dtype, task.y.shape[0]
    counted = jnp.ones(num_rows, bool) if task.mask is None else task.mask
    data = task if task.mask is None else neutral_rows(Dataset(task.x, task.y, task.mask))
    root, valid = _root(task.sigma.astype(dtype), counted)
    valid &= counted.sum() >= layout.start.size
    target = _whitened(root, jnp.where(counted, data.y, 0).astype(dtype))
    unit = power_of_two(jnp.max(jnp.abs(target)))
    root = root * unit
    bounds = None
    if task.bounds is not None:
        lower, upper = map(layout.of_free, task.bounds)
        bounds = lower, upper
        valid &= ((lower <= layout.start) & (layout.start <= upper)).all()

    def raw(params: Float[Array, "p"]) -> Float[Array, "n"]:
        prediction = apply_of(options.model)(layout.restore(params), data.x)
        _checks.shape("the model's prediction", prediction, (num_rows,))
        return (data.y - prediction).astype(dtype)

    def residual(params: Float[Array, "p"]) -> Float[Array, "n"]:
        difference = -raw(params)
        return _whitened(root, difference if task.mask is None else jnp.where(counted, difference, 0))

    return Problem(
        start=layout.start,
        unit=unit,
        places=layout.places,
        spread=layout.spread,
        unravel=layout.unravel,
        restore=layout.restore,
        residual=residual,
        raw=raw,
        counted=counted,
        size=jnp.linalg.norm(target / unit),
        valid=valid,
        bounds=bounds,
        loss=_of_residual(options.loss, task.thresholds, dtype),
        scale=options.scale,
        careful=options.careful,
        unusable=_unusable(task, counted),
    )


def _unusable(task: Task, counted: Bool[Array, "n"]) -> Bool[Array, "3 n"]:
    x = jnp.isfinite(task.x).reshape(counted.size, -1).all(axis=1)
    sigma = positive(task.sigma) if task.sigma.ndim < 2 else jnp.isfinite(task.sigma).all(axis=1)
    return ~jnp.stack([x, jnp.isfinite(task.y), jnp.broadcast_to(sigma, counted.shape)]) & counted[None]


class _Layout(NamedTuple):
    """Where the free parameters stand among all."""

    start: Float[Array, "p"]
    places: Int[np.ndarray, "p"]
    of_free: Callable[[Params], Array]  # shaped like p0 -> (p,)
    spread: Callable[[Array], Array]
    unravel: Callable[[Array], Params]
    restore: Callable[[Array], Params]


def _layout(task: Task, options: Options) -> _Layout:
    dtype = jnp.result_type(task.x, task.y, *jax.tree.leaves(task.p0))
    whole, unravel = ravel_pytree(jax.tree.map(lambda leaf: leaf.astype(dtype), task.p0))
    is_free = np.ones(whole.size, bool) if options.free is None else np.array(options.free)
    places = np.flatnonzero(is_free)
    source = np.full(whole.size, places.size)  # of each parameter among the free ones, or beyond them
    source[places] = np.arange(places.size)

    def of_free(like_p0: Params) -> Float[Array, "p"]:
        return ravel_pytree(jax.tree.map(lambda leaf: leaf.astype(dtype), like_p0))[0][places]

    def spread(values: Float[Array, "p *k"]) -> Float[Array, "all *k"]:
        return values if is_free.all() else jnp.pad(values, [(0, 1), *[(0, 0)] * (values.ndim - 1)])[source]

    def restore(params: Float[Array, "p"]) -> Params:
        return unravel(params if is_free.all() else jnp.where(is_free, spread(params), whole))

    return _Layout(whole[places], places.astype(np.int32), of_free, spread, unravel, restore)


def _of_residual(loss: Loss | None, thresholds: Any, dtype: Any) -> Callable[[Array], Array] | None:
    if loss is None:
        return None
    keywords = {name: value.astype(dtype) for name, value in (thresholds or {}).items()}
    traceable = _checks.traceable("loss")(loss)
    return lambda residual: traceable(residual, jnp.zeros_like(residual), **keywords)


def _root(sigma: Array, counted: Bool[Array, "n"]) -> tuple[Array, Bool[Array, ""]]:
    """sigma, or its Cholesky factor where it is a covariance, and whether it is usable; ones where it is not."""
    if sigma.ndim < 2:
        usable = positive(sigma)
        # A sigma that XLA takes for zero, below the normal range, makes 0/0 even of a row that is not there.
        root = jnp.where(usable & counted if sigma.ndim else usable, sigma, 1)
        return root, (usable | ~counted if sigma.ndim else usable).all()
    # The rows that are there have the covariance's block, so the others may have any: the identity's.
    both = counted[:, None] & counted[None]
    identity = jnp.eye(sigma.shape[0], dtype=sigma.dtype)
    factor = jnp.linalg.cholesky(jnp.where(both, sigma, identity), symmetrize_input=False)
    usable = jnp.isfinite(factor).all()
    return jnp.where(usable, factor, identity), usable


def _whitened(root: Array, residual: Float[Array, "n"]) -> Float[Array, "n"]:
    return residual / root if root.ndim < 2 else solve_triangular(root, residual, lower=True)


def positive(sigma: Any) -> Any:
    """Whether each sigma is positive and finite."""
    return (sigma > 0) & (sigma < np.inf)
