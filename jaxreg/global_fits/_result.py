"""From the parameters that a global fit ended with to its result: covariances from the triangles of all data sets."""

import functools
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxreg._linear_algebra import inverse_upper
from jaxreg._shapes import Bool, Float, Int
from jaxreg.covariance._factors import safe_root
from jaxreg.covariance._rows import moments, variance_of_sums
from jaxreg.global_fits._fit import GlobalFit
from jaxreg.global_fits._view import Blocks
from jaxreg.least_squares import Fit
from jaxreg.least_squares._fit import Pooled
from jaxreg.least_squares._flat_problem import FlatProblem
from jaxreg.least_squares._look import Look, compressed
from jaxreg.least_squares._result import culprit_of, of_terms, residuals_of, scales_of
from jaxreg.least_squares._triangles import Triangles, joined, split
from jaxreg.losses._kinds import Kind
from jaxreg.status import Status, is_optimum

_UNSETTLED = 1e-6  # of ‖ψ‖²: combinations so weak that the whole step, damped, does not see them


class _Set(NamedTuple):
    """A data set at the end: what its part of the covariance is made of, and its part of the result."""

    look: Look  # of the rows weighted by ψ', not as in a step
    rows: Float[Array, ""]  # that are there
    moments: Any  # of ψ'; None for the squared loss
    chi2: Float[Array, ""]
    chi2_prior: Any
    residuals: Any
    scale: Any
    params: Any  # all of them, shaped like p0
    spread: Float[Array, "all q"]  # how they follow the free ones
    culprit: Int[Array, "3"]  # if it took no part


def _set(flat: FlatProblem, params: Float[Array, "q"], blocks: Blocks) -> _Set:
    residual, jacobian = flat.linearise(params)
    noise = flat.noise(residual)
    slope = flat.slope(residual, noise)
    weight = None if flat.loss is None else jnp.where(flat.counted, flat.information(residual, noise), 0)
    root = jnp.ones_like(slope) if weight is None else safe_root(weight)
    columns, rest, unit, length = compressed(root[None] * jacobian, slope / jnp.where(root > 0, root, 1))
    own, shared = blocks.columns.own_of(columns), blocks.columns.shared_of(columns)
    cost, square = flat.cost(residual, noise), jnp.sum(slope**2)
    smooth, failed = jnp.isfinite(jacobian).all(), jnp.int32(Status.NONFINITE)
    return _Set(
        look=Look(cost, cost, noise, Triangles(own, shared, rest), unit, length, square, smooth),
        rows=flat.counted.sum().astype(slope.dtype),
        moments=None if weight is None else moments(weight, flat.counted),
        chi2=flat.chi2(residual, priors=False),
        chi2_prior=flat.chi2(residual, priors=True) if any(term.is_prior for term in flat.terms) else None,
        residuals=of_terms(flat, residuals_of(flat, params)),
        scale=of_terms(flat, scales_of(flat, residual)) if flat.scaled else None,
        params=flat.restore(params),
        spread=flat.spread(params, jnp.eye(params.size, dtype=params.dtype)),
        culprit=culprit_of(flat, failed, params, residual, jacobian, jnp.zeros(params.shape, bool)),
    )


class _Errors(NamedTuple):
    """What the data say about the parameters, in units of these."""

    shared: Float[Array, "s s"]
    each: Float[Array, "m q q"]  # of a data set's own parameters, and then of the shared ones
    stderr: Float[Array, "m q"]
    regular: Bool[Array, ""]  # whether the shared ones are determined
    regular_each: Bool[Array, "m"]  # and the own ones of each set
    undetermined: Float[Array, "s"]  # the combination of shared ones that is least so
    undetermined_each: Float[Array, "m o"]


def _errors(look: Look, free: Bool[Array, "p"], variance: Float[Array, ""], num_rows: int) -> _Errors:
    """C = (RᵀR)⁻¹ of the shared parameters, R⁻¹(I + S C Sᵀ)R⁻ᵀ of a set's own, and -R⁻¹S C of these with those."""
    m, o, s = look.triangles.own.shape[0], look.triangles.own.shape[2], look.triangles.shared.shape[2]
    lengths = look.triangles.lengths()
    lengths = jnp.where(free & (lengths > 0), lengths, 1)
    triangles = look.triangles.without(~free).scaled(1 / lengths)
    # A parameter that is held stands alone in a row of its own.
    factors = triangles.damped((~free).astype(lengths.dtype))
    own_unit, shared_unit = split(lengths * look.unit, m, o)
    own_free, shared_free = split(free, m, o)

    def regular(least: Array, count: int) -> Array:
        return least > max(count, num_rows) * jnp.finfo(lengths.dtype).eps * max(count, 1) ** 0.5

    def safe(root: Float[Array, "k k"]) -> tuple[Array, Array, Array]:
        inverse, least, direction = inverse_upper(root)
        known = regular(least, root.shape[0])
        return jnp.where(known, inverse, jnp.eye(root.shape[0], dtype=root.dtype)), known, direction

    inverse, known, direction = safe(factors.shared[:, :s])
    own_inverse, own_known, own_direction = (
        jax.vmap(safe)(factors.own[:, :, :o]) if o else (factors.own[:, :, :0], jnp.ones(m, bool), jnp.zeros((m, 0)))
    )
    left = jnp.sum(factors.own[:, :, -1] ** 2, axis=1)
    own_known &= ~(left > _UNSETTLED * look.square / m) | ~own_free.all(axis=1)

    size = jnp.sqrt(variance)
    half = jnp.where(shared_free[:, None], inverse * size, 0)  # shared = half·(errors of variance 1)
    follows = jnp.einsum("mij,mjk->mik", own_inverse, factors.own[:, :, o : o + s])
    beside = -jnp.einsum("mik,kl->mil", follows, half)
    alone = jnp.where(own_free[:, :, None], own_inverse * size, 0)
    beside = jnp.where(own_free[:, :, None], beside, 0)
    whole = jnp.concatenate(
        [
            jnp.concatenate([alone, beside], axis=2),
            jnp.concatenate([jnp.zeros((m, s, o), half.dtype), jnp.broadcast_to(half[None], (m, s, s))], axis=2),
        ],
        axis=1,
    )
    unit = jnp.concatenate([own_unit, jnp.broadcast_to(shared_unit[None], (m, s))], axis=1)
    matrix = jnp.einsum("mik,mjk->mij", whole, whole) / unit[:, :, None] / unit[:, None]
    return _Errors(
        shared=half @ half.T / shared_unit[:, None] / shared_unit[None],
        each=matrix,
        stderr=jnp.sqrt(jnp.sum(whole**2, axis=2)) / unit,
        regular=known if s else jnp.asarray(True),
        regular_each=own_known,
        undetermined=_unit(direction / shared_unit),
        undetermined_each=jax.vmap(_unit)(own_direction / own_unit),
    )


def _unit(direction: Float[Array, "k"]) -> Float[Array, "k"]:
    """Of length 1."""
    if not direction.size:
        return direction
    direction = direction / jnp.max(jnp.abs(direction))
    return direction / jnp.linalg.norm(direction)


def finish(blocks: Blocks, params: Float[Array, "p"], status: Int[Array, ""], num_steps: Int[Array, ""]) -> GlobalFit:
    """The result of a global fit that ended with these free parameters and this ``status_of`` its state."""
    columns, form, kept = blocks.columns, blocks.problem.form, blocks.kept
    m, o = len(kept), len(columns.own)
    sets: _Set = blocks.of_each(lambda flat, params: _set(flat, params, blocks), params)
    look = blocks.gathered(sets.look)
    own_free, shared_free = split(blocks.free(params, look.triangles.gradient()), m, o)
    own_free &= kept[:, None]
    free = joined(own_free, shared_free)
    count = jnp.where(kept, sets.rows, 0)
    used = free.sum().astype(count.dtype)
    variance = 1 / blocks.unit / blocks.unit
    if not blocks.problem.absolute_sigma or form.one.has(Kind.ROBUST):
        variance = variance_of_sums(count.sum(), look.square, _merged(sets.moments, count), used)
    errors = _errors(look, free, variance, blocks.rows_of_one)

    status = jnp.where(is_optimum(status) & ~errors.regular, jnp.int32(Status.SINGULAR), status)
    lost = ~jnp.isfinite(params).all() | jnp.isinf(jnp.where(kept[:, None], errors.stderr, 0)).any()
    status = jnp.where(is_optimum(status) & lost, jnp.int32(Status.NONFINITE), status)
    own_status = jnp.where(errors.regular_each, Status.OK, Status.SINGULAR)
    status_each = jnp.where(is_optimum(status), own_status, status)
    status_each = jnp.where(kept, status_each, blocks.status_of_left_out).astype(jnp.int32)

    # From the columns [own | shared] to all parameters in their own order.
    spread = jnp.concatenate([columns.own_of(sets.spread), columns.shared_of(sets.spread)], axis=2)
    held = jnp.concatenate([~own_free, jnp.broadcast_to(~shared_free[None], (m, shared_free.size))], axis=1)
    held = jnp.any((spread != 0) & held[:, None], axis=2)
    matrix = jnp.einsum("mai,mij,mbj->mab", spread, errors.each, spread)
    if form.one.tie is None:
        stderr = jnp.einsum("mai,mi->ma", spread, errors.stderr)
    else:
        stderr = jnp.sqrt(jnp.diagonal(matrix, axis1=1, axis2=2))
    known = is_optimum(status_each)[:, None] & ~held
    undetermined = jnp.concatenate(
        [
            jnp.where(errors.regular_each[:, None], 0, errors.undetermined_each),
            jnp.broadcast_to(jnp.where(errors.regular, 0, errors.undetermined)[None], (m, shared_free.size)),
        ],
        axis=1,
    )
    undetermined = jnp.where((status_each == Status.SINGULAR)[:, None], undetermined, 0)
    shape = functools.partial(_shaped, sets.params)
    each = Fit(
        params=sets.params,
        stderr=shape(jnp.where(known, stderr, jnp.nan)),
        covariance=jnp.where(known[:, :, None] & known[:, None], matrix, jnp.nan),
        residuals=sets.residuals,
        chi2=sets.chi2,
        dof=(sets.rows.astype(jnp.int32) - own_free.sum(axis=1, dtype=jnp.int32)).astype(jnp.int32),
        status=status_each,
        num_steps=jnp.broadcast_to(jnp.maximum(num_steps, 0), (m,)),
        at_bound=None if blocks.bounds is None else shape(held),
        undetermined=jnp.einsum("mai,mi->ma", spread, undetermined),
        scale=sets.scale,
        culprit=jnp.where(is_optimum(status_each)[:, None], jnp.array([0, -1, -1], jnp.int32)[None], sets.culprit),
        chi2_prior=sets.chi2_prior,
    )
    together = functools.partial(_together, form.shared, jnp.argmax(kept))
    bounded = is_optimum(status) & shared_free
    chi2, dof = jnp.where(kept, each.chi2, 0).sum(), (count.sum() - used).astype(jnp.int32)
    pooled = jax.tree.map(lambda one: jnp.broadcast_to(one, (m,)), Pooled(chi2, dof, count.sum()))
    return GlobalFit(
        params=together(each.params),
        stderr=together(each.stderr),
        covariance=jnp.where(bounded[:, None] & bounded[None], errors.shared, jnp.nan),
        chi2=chi2,
        dof=dof,
        status=status,
        num_steps=jnp.maximum(num_steps, 0),
        at_bound=None if each.at_bound is None else together(each.at_bound),
        undetermined=jnp.where(status == Status.SINGULAR, errors.undetermined, 0),
        chi2_prior=None if each.chi2_prior is None else jnp.where(kept, each.chi2_prior, 0).sum(),
        each=each.replace(pooled=pooled),
    )


def _merged(moments: Any, count: Float[Array, "m"]) -> Any:
    """Mean and variance of ψ' over the rows of all data sets."""
    if moments is None:
        return None
    mean, spread = (jnp.where(count > 0, each, 0) for each in moments)
    total = count.sum()
    middle = jnp.vdot(count, mean) / total
    return middle, jnp.vdot(count, spread + (mean - middle) ** 2) / total


def _shaped(like: Any, values: Float[Array, "m all"]) -> Any:
    """Numbers of all parameters of each data set, shaped like these."""
    leaves, structure = jax.tree.flatten(like)
    ends = np.cumsum([0, *(leaf[0].size for leaf in leaves)])
    parts = [
        values[:, low:high].reshape(leaf.shape) for low, high, leaf in zip(ends[:-1], ends[1:], leaves, strict=True)
    ]
    return jax.tree.unflatten(structure, parts)


def _together(shared: Sequence[str], place: Int[Array, ""], each: Any) -> Any:
    """Parameters of each data set, of which those that are shared stand once, as in one that took part."""
    return {
        name: jax.tree.map(lambda leaf: leaf[place], value) if name in shared else value for name, value in each.items()
    }
