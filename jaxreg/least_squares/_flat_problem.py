"""A problem as the solver sees it: weighted residuals of the free parameters, flat, their loss, the box."""

import functools
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from jaxreg._shapes import Bool, Float, Int
from jaxreg.covariance import Rows
from jaxreg.least_squares._flat_term import FlatTerm, joined
from jaxreg.least_squares._layout import room
from jaxreg.least_squares._limits import one_sided_derivative
from jaxreg.least_squares._look import Look, compressed, multiplied
from jaxreg.least_squares._triangles import Triangles
from jaxreg.models import Params


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
    accelerates: bool  # whether a look keeps its Jacobian, for an acceleration of steps
    alone: bool  # whether it is known to be none of many lanes
    unusable: Bool[Array, "4 n"]  # rows that are there, where x, y, sigma or sigma_x cannot be used

    @property
    def num_rows(self) -> int:
        return self.counted.size

    def linearise(
        self, params: Float[Array, "p"], along: Float[Array, "p p"] | None = None
    ) -> tuple[Float[Array, "n"], Float[Array, "p n"]]:
        """The residuals and their derivatives, of one side where there is none, or those along other directions."""
        residual, slope = jax.linearize(self.residual, params)
        jacobian = jax.vmap(slope)(jnp.eye(params.size, dtype=params.dtype) if along is None else along)
        if not self.careful or along is not None:
            return residual, jacobian
        poles = ~jnp.isfinite(jacobian) & jnp.isfinite(residual)[None]
        # Where a function has none it is 0·∞, as of √(a·x) at x = 0, whose derivative by a is 0.
        mended = lax.cond(
            poles.any() & jnp.isfinite(params).all(),
            lambda: jnp.where(poles, one_sided_derivative(self.residual, params, residual, jacobian), jacobian),
            lambda: jacobian,
        )
        return residual, mended

    def look(
        self, params: Float[Array, "p"], noise: Float[Array, "*k"], along: Float[Array, "p p"] | None = None
    ) -> Look:
        """All that a step needs to know at parameters, and the cost in a unit of the loss from before.

        With directions, along which the Jacobian's columns are nearly orthonormal, it ends in products, not in rows.
        """
        return self.look_of(*self.linearise(params, along), noise, products=along is not None)

    def look_of(
        self,
        residual: Float[Array, "n"],
        jacobian: Float[Array, "p n"],
        before: Float[Array, "*k"],
        *,
        products: bool = False,
    ) -> Look:
        """The same of residuals and their derivatives."""
        noise = before if self.loss is None else self.noise(residual)
        slope, root = self.weights(residual, noise)
        values, weighted = slope, jacobian
        if root is not None:
            values, weighted = slope / jnp.where(root > 0, root, 1), root[None] * jacobian
        compression = multiplied if products else functools.partial(compressed, alone=self.alone)
        columns, rest, unit, length = compression(weighted, values)
        none = jnp.zeros((1, *rest.shape, 0), rest.dtype)
        return Look(
            cost=self.cost(residual, noise),
            before=self.cost(residual, before),
            noise=noise,
            triangles=Triangles(none, columns[None], rest[None]),
            unit=unit,
            length=length,
            square=length**2 if root is None else jnp.sum(slope**2),
            smooth=jnp.isfinite(columns).all(),  # as is the triangle of a Jacobian that is
            jacobian=weighted if self.accelerates else None,
            root=root if self.accelerates else None,
        )

    def unseen(self) -> Look:
        """In its shape, before the first look, with the unit of the loss at residuals of 1."""
        p, n, dtype = self.start.size, self.num_rows, self.start.dtype
        one, rows = jnp.ones((), dtype), jnp.zeros((p, n), dtype)
        nothing = Triangles(*(jnp.zeros((1, p, *columns), dtype) for columns in ((0,), (p,), ())))
        look = Look(
            one, one, jnp.ones(self.noise_shape, dtype), nothing, jnp.ones(p, dtype), one, one, jnp.asarray(True)
        )
        if not self.accelerates:
            return look
        return look._replace(jacobian=rows, root=None if self.loss is None else rows[0])

    def cost_at(self, params: Float[Array, "p"], noise: Float[Array, "*k"]) -> Float[Array, ""]:
        """The cost in a given unit of the loss."""
        return self.cost(self.residual(params), noise)

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
    ) -> tuple[Float[Array, "n"], Float[Array, "n"] | None]:
        """ψ and the square roots of the rows' weights in a step; None for the squared loss, where they are 1.

        The weights are ψ' where that is positive, as in Newton's method, but at least a share of ψ/r, the weight of
        iteratively reweighted least squares: so they are never negative, and ψ/√weight stays of the residuals' size.
        Where the unit is estimated the share is larger: long steps change that, and lead to another optimum.
        """
        slope = self.slope(residual, noise)
        if self.loss is None:
            return slope, None
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
        parts = self.slopes_inside(residual, jacobian, slope, noise)
        return moved_by(parts.sum(axis=1), jnp.abs(parts).sum(axis=1))

    def slopes_inside(
        self,
        residual: Float[Array, "n"],
        jacobian: Float[Array, "p n"],
        slope: Float[Array, "n"],
        noise: Float[Array, "*k"],
    ) -> Float[Array, "p n"]:
        """Half the derivative of each row's cost, 0 of rows at the edge of their domain."""
        inside = ~self._at_edge(self._informed(self.curvature(residual, noise), residual, noise))
        return jnp.where(inside[None], jacobian * slope[None], 0)

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
        return room(self.bounds, params, gradient)

    def stationarity(self, params: Float[Array, "p"]) -> Float[Array, "p"]:
        """Zero at the optimum: the gradient, and for a parameter at a bound its distance to that."""
        gradient = self.gradient(params)
        if self.bounds is None:
            return gradient
        lower, upper = self.bounds
        free = self.free(params, gradient)
        return jnp.where(free, gradient, params - jnp.where(params <= lower, lower, upper))


_LEAST_WEIGHT, _LEAST_WEIGHT_SCALED = 0.01, 0.3


def moved_by(slope: Float[Array, "p"], size: Float[Array, "p"]) -> Bool[Array, "p"]:
    """Which parameters a sum of slopes moves, of this size if all had one sign."""
    return jnp.abs(slope) > jnp.finfo(slope.dtype).eps ** 0.25 * size


def _derivative(fn: Callable[[Array], Array]) -> Callable[[Array], Array]:
    """Of an elementwise function."""
    return lambda value: jax.jvp(fn, (value,), (jnp.ones_like(value),))[1]
