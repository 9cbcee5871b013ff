"""From the parameters that a global fit ended with to its result: covariances from the triangles of all data sets."""

import functools
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from jaxreg._shapes import Bool, Float, Int
from jaxreg.covariance._factors import safe_root
from jaxreg.covariance._rows import moments, variance_of_sums
from jaxreg.global_fits._errors import Bread, errors_of
from jaxreg.global_fits._fit import GlobalFit
from jaxreg.global_fits._problem import Columns, GlobalProblem
from jaxreg.global_fits._view import At, Blocks, of_each, of_kept
from jaxreg.least_squares import Fit
from jaxreg.least_squares._fit import Pooled
from jaxreg.least_squares._flat_problem import FlatProblem
from jaxreg.least_squares._look import Look, compressed
from jaxreg.least_squares._result import adjusted_of, culprit_of, of_terms, residuals_of, scales_of
from jaxreg.least_squares._triangles import Triangles, joined, of_blocks, split
from jaxreg.losses._kinds import Kind
from jaxreg.status import Status, is_optimum

_OF_THOSE_THAT_TOOK_PART = ("residuals", "chi2", "chi2_prior", "scale")


class Ends(NamedTuple):
    """Each data set at the end: what its part of the covariance is made of, and its part of the result."""

    look: Look  # of the rows weighted by ψ', not as in a step
    rows: Float[Array, "m"]  # that are there
    moments: Any  # of ψ'; None for the squared loss
    chi2: Float[Array, "m"]
    chi2_prior: Any
    residuals: Any
    adjusted_x: Any
    scale: Any
    params: Any  # all of them, shaped like p0
    spread: Float[Array, "m all q"]  # how they follow the free ones
    culprit: Int[Array, "m 3"]  # if it took no part
    gradient: Float[Array, "m q"]  # Σ ψ J of [own | shared], in the units of the look
    negative: Any  # (m, q, q), Σ min(ψ', 0) J Jᵀ of the same, and the derivatives of Σ ψ' J Jᵀ; None without both


def ends(problem: GlobalProblem, at: At, *, differentiable: bool = False) -> Ends:
    """The end of each data set."""
    one = functools.partial(_end, columns=problem.columns, differentiable=differentiable)
    return of_each(one, problem, at)


def _end(flat: FlatProblem, params: Float[Array, "q"], *, columns: Columns, differentiable: bool) -> Ends:
    residual, jacobian = flat.linearise(params)
    noise = flat.noise(residual)
    slope = flat.slope(residual, noise)
    weight = None if flat.loss is None else jnp.where(flat.counted, flat.information(residual, noise), 0)
    root = jnp.ones_like(slope) if weight is None else safe_root(weight)
    rows = lax.stop_gradient((root[None] * jacobian, slope / jnp.where(root > 0, root, 1)))
    slopes, rest, unit, length = compressed(*rows, alone=flat.alone)
    own, shared = columns.own_of(slopes), columns.shared_of(slopes)
    ordered = (jacobian / unit[:, None])[np.array([*columns.own, *columns.shared], int)]
    negative = None if weight is None else (ordered * jnp.minimum(weight, 0)[None]) @ ordered.T
    if differentiable:  # a triangle of fewer rows than columns has no derivative, but its products have
        products = (ordered if weight is None else ordered * weight[None]) @ ordered.T
        moved = products - lax.stop_gradient(products)
        negative = moved if negative is None else moved + lax.stop_gradient(negative)
    cost, square = lax.stop_gradient(flat.cost(residual, noise)), jnp.sum(slope**2)
    smooth, failed = jnp.isfinite(jacobian).all(), jnp.int32(Status.NONFINITE)
    return Ends(
        look=Look(cost, cost, noise, Triangles(own, shared, rest), unit, length, square, smooth),
        rows=flat.counted.sum().astype(slope.dtype),
        moments=None if weight is None else moments(weight, flat.counted),
        chi2=flat.chi2(residual, priors=False),
        chi2_prior=flat.chi2(residual, priors=True) if any(term.is_prior for term in flat.terms) else None,
        residuals=of_terms(flat, residuals_of(flat, params)),
        adjusted_x=adjusted_of(flat, flat.restore(params)),
        scale=of_terms(flat, scales_of(flat, residual)) if flat.scaled else None,
        params=flat.restore(params),
        spread=flat.spread(params, jnp.eye(params.size, dtype=params.dtype)),
        culprit=culprit_of(flat, failed, params, residual, jacobian, jnp.zeros(params.shape, bool)),
        gradient=lax.stop_gradient(ordered @ slope),
        negative=negative,
    )


def _bread(blocks: Blocks, params: Float[Array, "p"], sets: Ends) -> Bread:
    """What the errors are made of, of all data sets that took part, in the units of one look."""
    columns, (m, o) = blocks.plan.columns, (len(blocks.kept), len(blocks.plan.columns.own))
    look = blocks.gathered(sets.look)
    unit = of_blocks(*split(look.unit, m, o))
    each = jnp.concatenate([columns.own_of(sets.look.unit), columns.shared_of(sets.look.unit)], axis=1) / unit
    kept = blocks.kept[:, None]
    gradient = jnp.where(kept, each * sets.gradient, 0)
    gradient = joined(gradient[:, :o], gradient[:, o:].sum(axis=0))
    negative = sets.negative
    if negative is not None:
        negative = jnp.where(kept[:, None], each[:, :, None] * each[:, None] * negative, 0)
    own_free, shared_free = split(blocks.free(params, gradient), m, o)
    free = joined(own_free & kept, shared_free)
    return Bread(look, params, gradient, negative, free, blocks.size, m * blocks.plan.rows)


def _variance(blocks: Blocks, sets: Ends, square: Float[Array, ""], used: Float[Array, ""]) -> Float[Array, "*m"]:
    """Of a weighted residual: one for all, or of each data set where each has its own unit of the loss."""
    form, count = blocks.plan.form.one, jnp.where(blocks.kept, sets.rows, 0)
    if blocks.scaled:
        share = used * count / count.sum()
        return jnp.where(blocks.kept, jax.vmap(variance_of_sums)(count, sets.look.square, sets.moments, share), 1)
    if form.absolute_sigma and not form.has(Kind.ROBUST):
        return 1 / blocks.unit / blocks.unit
    return variance_of_sums(count.sum(), square, _merged(sets.moments, count), used)


def finish(
    blocks: Blocks, params: Float[Array, "p"], status: Int[Array, ""], num_steps: Int[Array, ""], sets: Ends
) -> GlobalFit:
    """The result of a global fit that ended with these free parameters and this ``status_of`` its state."""
    columns, form, kept = blocks.plan.columns, blocks.plan.form, blocks.kept
    m, o = len(kept), len(columns.own)
    bread = _bread(blocks, params, sets)
    own_free, shared_free = split(bread.free, m, o)
    used = bread.free.sum().astype(params.dtype)
    errors = errors_of(bread, _variance(blocks, sets, bread.look.square, used))

    known = errors.regular if blocks.scaled else errors.regular & errors.definite
    status = jnp.where(is_optimum(status) & ~known, jnp.int32(Status.SINGULAR), status)
    lost = ~jnp.isfinite(params).all() | jnp.isinf(jnp.where(kept[:, None], errors.stderr, 0)).any()
    status = jnp.where(is_optimum(status) & lost, jnp.int32(Status.NONFINITE), status)
    own_status = jnp.where(errors.regular_each, Status.OK, Status.SINGULAR)
    status_each = jnp.where(is_optimum(status), own_status, status)
    left_out = jnp.where(blocks.facts.valid, Status.NONFINITE, Status.INVALID_INPUT)
    status_each = jnp.where(kept, status_each, left_out).astype(jnp.int32)

    # From the columns [own | shared] to all parameters in their own order.
    spread = jnp.concatenate([columns.own_of(sets.spread), columns.shared_of(sets.spread)], axis=2)
    held = jnp.any((spread != 0) & of_blocks(~own_free, ~shared_free)[:, None], axis=2)
    matrix = jnp.einsum("mai,mij,mbj->mab", spread, errors.each, spread)
    if form.one.tie is None:
        stderr = jnp.einsum("mai,mi->ma", spread, errors.stderr)
    else:
        stderr = safe_root(jnp.diagonal(matrix, axis1=1, axis2=2))
    known = is_optimum(status_each)[:, None] & ~held
    undetermined = of_blocks(
        jnp.where(errors.regular_each[:, None], 0, errors.undetermined_each),
        jnp.where(errors.regular, 0, errors.undetermined),
    )
    undetermined = jnp.where((status_each == Status.SINGULAR)[:, None], undetermined, 0)
    shape = functools.partial(_shaped, sets.params)
    sets = sets._replace(**{name: _of_kept(kept, getattr(sets, name)) for name in _OF_THOSE_THAT_TOOK_PART})
    each = Fit(
        params=sets.params,
        stderr=shape(jnp.where(known, stderr, jnp.nan)),
        covariance=jnp.where(known[:, :, None] & known[:, None], matrix, jnp.nan),
        residuals=sets.residuals,
        adjusted_x=sets.adjusted_x,
        chi2=sets.chi2,
        dof=jnp.where(kept, sets.rows.astype(jnp.int32) - own_free.sum(axis=1, dtype=jnp.int32), 0),
        status=status_each,
        num_steps=jnp.broadcast_to(jnp.maximum(num_steps, 0), (m,)),
        at_bound=None if blocks.bounds is None else shape(held & kept[:, None]),
        undetermined=jnp.einsum("mai,mi->ma", spread, undetermined),
        scale=sets.scale,
        culprit=jnp.where(is_optimum(status_each)[:, None], jnp.array([0, -1, -1], jnp.int32)[None], sets.culprit),
        chi2_prior=sets.chi2_prior,
    )
    together = functools.partial(_together, form.shared, jnp.argmax(kept))
    joint = shape(jnp.where(is_optimum(status) & ~held, stderr, jnp.nan))  # whatever becomes of one data set
    bounded = is_optimum(status) & shared_free
    rows = jnp.where(kept, sets.rows, 0).sum()
    chi2, dof = jnp.where(kept, each.chi2, 0).sum(), jnp.where(kept.any(), rows - used, 0).astype(jnp.int32)
    pooled = jax.tree.map(lambda one: jnp.broadcast_to(one, (m,)), Pooled(chi2, dof, rows))
    return GlobalFit(
        params=together(each.params),
        stderr=together(each.stderr | {name: joint[name] for name in form.shared}),
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


def with_left_out(fit: GlobalFit, problem: GlobalProblem, at: At, kept: Bool[Array, "m"]) -> GlobalFit:
    """A fit that has other numbers in place of the data sets that took no part, with what these say themselves."""

    def seen(flat: FlatProblem, params: Float[Array, "q"]) -> tuple[Any, Array]:
        residual, jacobian = flat.linearise(params)
        nothing = jnp.zeros(params.shape, bool)
        return flat.restore(params), culprit_of(flat, jnp.int32(Status.NONFINITE), params, residual, jacobian, nothing)

    start, culprit = of_each(seen, problem, at)
    each = fit.each.replace(
        params=_of_kept(kept, fit.each.params, start), culprit=jnp.where(kept[:, None], fit.each.culprit, culprit)
    )
    own = {name: value for name, value in each.params.items() if name not in problem.form.shared}
    return fit.replace(params=fit.params | own, each=each)


def _of_kept(kept: Bool[Array, "m"], values: Any, others: Any = None) -> Any:
    """Of the data sets that took part; else others, NaN if none are given."""

    one = functools.partial(of_kept, kept)
    return (
        jax.tree.map(lambda leaf: one(leaf, jnp.nan), values) if others is None else jax.tree.map(one, values, others)
    )


def _merged(moments: Any, count: Float[Array, "m"]) -> Any:
    """Mean and variance of ψ' over the rows of all data sets."""
    if moments is None:
        return None
    mean, spread = (jnp.where(count > 0, each, 0) for each in moments)
    total = count.sum()
    middle = jnp.vdot(count, mean) / total
    return middle, jnp.vdot(count, spread + (mean - middle) ** 2) / total


def _shaped(like: Any, values: Float[Array, "m all"] | Bool[Array, "m all"]) -> Any:
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
