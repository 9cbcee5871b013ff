"""A problem as the solver sees it: weighted residuals of the free parameters, flat, their loss, the box."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from jaxreg._linear_algebra import power_of_two
from jaxreg._shapes import Bool, Float, Int
from jaxreg.covariance import Rows
from jaxreg.least_squares._flat_term import (
    FlatTerm,
    counts_are_usable,
    errors_of,
    flat_of,
    flat_term,
    joined,
    loss_of_all,
    parts_of,
    unusable_rows,
    whitened,
)
from jaxreg.least_squares._layout import dtype_of, layout_of
from jaxreg.least_squares._limits import one_sided_derivative
from jaxreg.least_squares._true_x import rows_are_apart, with_errors_in_x
from jaxreg.models import Params
from jaxreg.problems import Problem
from jaxreg.problems._starts import start_of


class Options(NamedTuple):
    """What chooses the program of a fit beside its problem: hashable."""

    covariance: str = "classic"
    max_steps: int = 5000
    careful: bool = True  # whether kinks are resolved, and derivatives that are not finite sought as limits


class FlatProblem(NamedTuple):
    """Pure functions of the free parameters, flat, and of the residuals, (model - y)/(sigma·unit).

    The unit keeps sums of their squares in the range of floats, whatever units y and sigma are in.
    """

    start: Float[Array, "p"]
    unit: Float[Array, ""]  # a power of two near the largest y/sigma, so that it rounds nothing
    places: Int[np.ndarray, "p"]  # of the free parameters among all
    restore: Callable[[Array], Params]  # (p,) -> all, the fixed ones as they were and the tied ones as they follow
    spread: Callable[[Array, Array], Array]  # (p,), changes of these (p, …) -> changes of all
    residual: Callable[[Array], Array]  # (p,) -> (n,), zero where masked
    terms: tuple[FlatTerm, ...]
    counted: Bool[Array, "n"]  # rows that are there
    size: Float[Array, ""]  # ‖y/(sigma·unit)‖
    valid: Bool[Array, ""]
    startable: Bool[Array, ""]  # and all x are finite, whatever the model is there
    bounds: tuple[Float[Array, "p"], Float[Array, "p"]] | None
    loss: Callable[[Array], Array] | None  # elementwise, of residuals in units of the noise; None if all are squared
    scaled: bool  # whether a term estimates the unit of its loss
    tied: bool  # whether parameters follow from others
    held: Float[Array, "*k"] | None  # that unit, where it does not follow the residuals
    careful: bool
    unusable: Bool[Array, "4 n"]  # rows that are there, where x, y, sigma or sigma_x cannot be used

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

    @property
    def rows(self) -> Rows:
        """What they are, for the covariance."""
        firsts = np.cumsum([0, *(int(term.units.max(initial=-1)) + 1 for term in self.terms)])
        # A term that estimates the unit of its loss has errors of its own size.
        kinds = [
            (term.is_robust, (place + 1) * (term.scale is not None), term.is_prior, first)
            for place, (term, first) in enumerate(zip(self.terms, firsts[:-1], strict=True))
        ]
        counts = [term.units.size for term in self.terms]
        robust, sizes, prior, first = (np.repeat(values, counts) for values in zip(*kinds, strict=True))
        return Rows(robust, sizes, prior, np.concatenate([term.units for term in self.terms]) + first)

    def chi2(self, residual: Float[Array, "n"], *, priors: bool | None = None) -> Float[Array, ""]:
        """Σ ((model - y)/sigma)² or the deviance, of all terms, the priors, or the data: 0 or ∞ beyond floats."""
        wanted = [term for term in self.terms if priors is None or term.is_prior == priors]
        parts = [residual if len(self.terms) == 1 else residual[term.rows] for term in wanted]
        found = [term.chi2(part, self.unit) for term, part in zip(wanted, parts, strict=True)]
        return sum(found, jnp.zeros_like(self.unit)) if len(found) != 1 else found[0]

    def second_derivative(
        self, params: Float[Array, "p"], one: Float[Array, "p"], other: Float[Array, "p"]
    ) -> Float[Array, "n"]:
        """The residuals' second derivative along two directions; 0 for a row that has none, which has no say then."""

        def along(point: Array) -> Array:
            return jax.jvp(self.residual, (point,), (one,))[1]

        bend = jax.jvp(along, (params,), (other,))[1]
        return jnp.where(jnp.isfinite(bend), bend, 0)

    def noise(self, residual: Float[Array, "n"]) -> Float[Array, "*k"]:
        """The unit of the loss of each residual, or of all."""
        if self.held is not None:
            return self.held
        if len(self.terms) == 1 or not self.scaled:
            return self.terms[0].noise(residual, self.unit, self.size)
        parts = [
            jnp.broadcast_to(term.noise(residual[term.rows], self.unit, self.size), term.counted.shape)
            for term in self.terms
        ]
        return jnp.concatenate(parts)

    @property
    def noise_shape(self) -> tuple[int, ...]:
        if self.held is not None:
            return self.held.shape
        return (self.num_rows,) if self.scaled and len(self.terms) > 1 else ()

    def cost(self, residual: Float[Array, "n"], noise: Float[Array, "*k"]) -> Float[Array, ""]:
        """Twice the loss, in units of the residuals squared: Σ r² for the squared loss."""
        if self.loss is None:
            return jnp.vdot(residual, residual)
        each = jnp.where(self.counted, self.loss(residual / noise), 0)
        if noise.ndim:
            return 2 * jnp.sum(noise * (noise * each))
        return 2 * noise * (noise * jnp.sum(each))

    def slope(self, residual: Float[Array, "n"], noise: Float[Array, "*k"]) -> Float[Array, "n"]:
        """ψ: the derivative of half the cost by each residual."""
        return residual if self.loss is None else noise * _derivative(self.loss)(residual / noise)

    def curvature(self, residual: Float[Array, "n"], noise: Float[Array, "*k"]) -> Float[Array, "n"]:
        """ψ': the second derivative of half the cost by each residual."""
        if self.loss is None:
            return jnp.ones_like(residual)
        return _derivative(_derivative(self.loss))(residual / noise)

    def weights(
        self, residual: Float[Array, "n"], noise: Float[Array, "*k"]
    ) -> tuple[Float[Array, "n"], Float[Array, "n"]]:
        """ψ and the square roots of the rows' weights in a step.

        The weights are ψ' where that is positive, as in Newton's method, but at least a share of ψ/r, the weight of
        iteratively reweighted least squares: so they are never negative, and ψ/√weight stays of the residuals' size.
        Where the unit is estimated the share is larger: long steps change that, and lead to another optimum.
        """
        slope = self.slope(residual, noise)
        if self.loss is None:
            return slope, jnp.ones_like(slope)
        curvature = self.curvature(residual, noise)
        at_zero = residual == 0
        reweighted = jnp.where(at_zero, curvature, slope / jnp.where(at_zero, 1, residual))
        weight = jnp.maximum(curvature, (_LEAST_WEIGHT_SCALED if self.scaled else _LEAST_WEIGHT) * reweighted)
        return slope, jnp.sqrt(jnp.maximum(self._informed(weight, residual, noise), 0))

    def information(self, residual: Float[Array, "n"], noise: Float[Array, "*k"]) -> Float[Array, "n"]:
        """What the curvature is expected to be: of likelihoods, and of all other losses ψ' itself."""
        found = self._informed(self.curvature(residual, noise), residual, noise)
        return jnp.where(self._at_edge(found), 0, found) if self.has_domain else found

    @property
    def has_errors_in_x(self) -> bool:
        """Whether points have a true x each: acceleration would take twice the steps, of twice the time."""
        return any(term.true_x is not None for term in self.terms)

    @property
    def has_domain(self) -> bool:
        """Whether a loss is infinite for some predictions."""
        return any(term.information is not None for term in self.terms)

    def _at_edge(self, information: Float[Array, "n"]) -> Bool[Array, "n"]:
        """Rows of likelihoods at the edge of the domain to rounding: an expectation of no count determines nothing."""
        counts = np.concatenate([np.full(term.units.size, term.information is not None) for term in self.terms])
        return jnp.asarray(counts) & (information >= 1 / jnp.finfo(information.dtype).eps)

    def leads_beyond(
        self,
        residual: Float[Array, "n"],
        jacobian: Float[Array, "p n"],
        slope: Float[Array, "n"],
        noise: Float[Array, "*k"],
    ) -> Bool[Array, "p"]:
        """Which parameters the cost would go on to move, if rows at the edge of their domain did not hold them."""
        inside = ~self._at_edge(self._informed(self.curvature(residual, noise), residual, noise))
        parts = jnp.where(inside[None], jacobian * slope[None], 0)
        return jnp.abs(parts.sum(axis=1)) > jnp.finfo(slope.dtype).eps ** 0.25 * jnp.abs(parts).sum(axis=1)

    def _informed(
        self, weight: Float[Array, "n"], residual: Float[Array, "n"], noise: Float[Array, "*k"]
    ) -> Float[Array, "n"]:
        """The weights with those of likelihoods in their place, which are of the prediction alone."""
        if not self.has_domain:
            return weight
        parts = [
            weight[term.rows] if term.information is None else term.information((residual / noise)[term.rows])
            for term in self.terms
        ]
        return joined(parts)

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


_LEAST_WEIGHT, _LEAST_WEIGHT_SCALED = 0.01, 0.3


def _derivative(fn: Callable[[Array], Array]) -> Callable[[Array], Array]:
    """Of an elementwise function."""
    return lambda value: jax.jvp(fn, (value,), (jnp.ones_like(value),))[1]


def flat_problem(problem: Problem, *, careful: bool = True) -> FlatProblem:
    """The solver's view of a problem."""
    form = problem.form
    numbers = jax.tree.map(jnp.asarray, (problem.p0, problem.bounds, problem.terms))
    p0, box, terms = numbers
    layout = layout_of(start_of(p0, box, terms, form), form, dtype_of(numbers))
    dtype = layout.start.dtype
    errors, targets, counted, valid = [], [], [], jnp.asarray(True)
    for term, form_of in zip(terms, form.terms, strict=True):
        there = flat_of(jnp.ones(term.y.shape, bool) if term.mask is None else term.mask, term.y)
        sizes, usable = errors_of(term, there, dtype)
        errors.append(sizes)
        targets.append(whitened(sizes[0], jnp.where(there, parts_of(term.y), 0).astype(dtype)))
        counted.append(there)
        valid &= usable & counts_are_usable(term, form_of, there)
    there, target = joined(counted), joined(targets)
    valid &= there.sum() >= layout.start.size
    unit = power_of_two(jnp.max(jnp.abs(target)))
    bounds = None
    if box is not None:
        lower, upper = map(layout.of_free, box)
        bounds = lower, upper
        valid &= ((lower <= layout.start) & (layout.start <= upper)).all()
    unusable = jnp.concatenate([unusable_rows(*pair) for pair in zip(terms, counted, strict=True)], axis=1)

    flat, first = [], 0
    for term, one, sizes, rows in zip(terms, form.terms, errors, counted, strict=True):
        root, factors = jax.tree.map(lambda leaf: leaf * unit, sizes)
        flat.append(flat_term(term, one, root, rows, first, dtype))
        if factors is not None:
            valid &= rows_are_apart(flat[-1], term, one, layout.restore(layout.start))
            flat[-1] = with_errors_in_x(flat[-1], term, factors, dtype)
        first += rows.size

    def residual(params: Float[Array, "p"]) -> Float[Array, "n"]:
        everything = layout.restore(params)
        return joined([term.residual(everything) for term in flat])

    return FlatProblem(
        start=layout.start,
        unit=unit,
        places=layout.places,
        spread=layout.spread,
        restore=layout.restore,
        residual=residual,
        terms=tuple(flat),
        counted=there,
        size=jnp.linalg.norm(target / unit),
        valid=valid,
        startable=valid & ~unusable[0].any(),
        bounds=bounds,
        loss=loss_of_all(flat),
        scaled=any(term.scale is not None for term in flat),
        tied=form.tie is not None,
        held=None,
        careful=careful,
        unusable=unusable,
    )
