"""A global fit as one compiled program."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array, lax

from jaxreg import _jit
from jaxreg._shapes import Bool, Float, Int
from jaxreg.global_fits._fit import GlobalFit
from jaxreg.global_fits._problem import GlobalProblem
from jaxreg.global_fits._result import finish, with_left_out
from jaxreg.global_fits._view import Blocks, blocks_of, counted_once
from jaxreg.least_squares import _levenberg_marquardt as levenberg_marquardt
from jaxreg.least_squares._flat_problem import FlatProblem, Options
from jaxreg.least_squares._levenberg_marquardt import State
from jaxreg.least_squares._result import status_of
from jaxreg.least_squares._triangles import joined, split

_OWN_STEPS = 8


def own_steps(blocks: Blocks) -> Blocks:
    """A few steps of each data set alone, the shared parameters held; sets that cannot begin are left out.

    A bad start of one set's parameters would drive the shared ones away; and each set needs a damping of its own.
    """
    if not blocks.columns.own:
        return blocks

    def one(flat: FlatProblem, params: Array) -> tuple[Array, Array]:
        columns = blocks.columns
        shared = columns.shared_of(params)
        own = flat._replace(
            start=columns.own_of(params),
            residual=lambda own: flat.residual(columns.params(own, shared)),
            bounds=None if flat.bounds is None else tuple(map(columns.own_of, flat.bounds)),
        )
        end = levenberg_marquardt.advanced(own, levenberg_marquardt.init(own, own.start), _OWN_STEPS, accelerate=False)
        return end.params, end.startable

    own, startable = blocks.of_each(one, blocks.start)
    _, shared = split(blocks.start, *own.shape)
    kept = blocks.kept & startable
    problem = counted_once(blocks.problem, kept)
    return blocks._replace(problem=problem, start=joined(own, shared), kept=kept, startable=kept.any())


def minimise(blocks: Blocks, max_steps: int) -> State:
    """The joint steps."""
    start = levenberg_marquardt.init(blocks, blocks.start)
    end = levenberg_marquardt.advanced(blocks, start, max_steps, accelerate=False)
    return levenberg_marquardt.ended(blocks, end)


@_jit.compiled("options", "differentiable")
def solve(problem: GlobalProblem, options: Options, *, differentiable: bool) -> GlobalFit:
    """A global fit, pure, without its problem; its derivative by all numbers but bounds only if it is asked for."""
    still = jax.tree.map(lax.stop_gradient, problem)
    begun = own_steps(blocks_of(still))
    end = minimise(begun, options.max_steps)
    ended = status_of(begun, end), end.num_steps
    if not differentiable:
        return finish(begun, end.params, *ended)
    # What is not finite in a data set that takes no part has no derivative of zero: another's numbers stand there.
    m, kept, place = len(begun.kept), begun.kept, jnp.argmax(begun.kept)
    own, shared = split(end.params, m, len(begun.columns.own))
    params = joined(jnp.where(kept[:, None], own, own[place]), shared)
    problem = counted_once(_with_only(problem, kept, place), kept)
    blocks = begun._replace(problem=problem)
    still = begun._replace(problem=jax.tree.map(lax.stop_gradient, problem))
    fit = finish(blocks, _following(still, blocks, params), *ended, differentiable=True)
    return with_left_out(fit, begun, end.params)


def _with_only(problem: GlobalProblem, kept: Bool[Array, "m"], place: Int[Array, ""]) -> GlobalProblem:
    """With the numbers of one data set in place of those of all that take no part."""

    def of(leaf: Any, is_own: bool) -> Any:
        leaf = jnp.asarray(leaf)
        return jnp.where(kept.reshape(-1, *[1] * (leaf.ndim - 1)), leaf, leaf[place]) if is_own else leaf

    leaves, structure = jax.tree.flatten((problem.p0, problem.bounds, problem.terms))
    p0, bounds, terms = jax.tree.unflatten(structure, map(of, leaves, problem.form.own))
    return dataclasses.replace(problem, p0=p0, bounds=bounds, terms=terms)


def _following(still: Blocks, blocks: Blocks, params: Float[Array, "p"]) -> Float[Array, "p"]:
    """Parameters at an optimum, as the data that they depend on move it: by the implicit function theorem.

    The derivative of -H⁻¹·gradient, with the Hessian's arrow: a block for each data set, and the shared ones beside.
    """
    columns = still.columns
    m, o = len(still.kept), len(columns.own)
    kept = still.kept[:, None]

    def gradients(blocks: Blocks) -> tuple[Array, Array]:
        found = blocks.of_each(lambda flat, params: flat.gradient(params), params)
        return jnp.where(kept, columns.own_of(found), 0), jnp.where(kept, columns.shared_of(found), 0).sum(axis=0)

    def hessian(flat: FlatProblem, params: Float[Array, "q"]) -> Float[Array, "q q"]:
        return jax.jacfwd(flat.gradient)(params)

    bent = jnp.where(kept[:, :, None], still.of_each(hessian, params), 0)
    own_free, shared_free = split(still.free(params, joined(*gradients(still))), m, o)
    own_free &= kept
    of_rows = bent.swapaxes(1, 2)  # symmetric, so a choice of the last axis is one of rows
    own = _held_apart(columns.own_of(columns.own_of(bent).swapaxes(1, 2)), own_free)
    beside = columns.shared_of(columns.own_of(of_rows).swapaxes(1, 2))
    beside = jnp.where(own_free[:, :, None] & shared_free[None, None], beside, 0)
    corner = _held_apart(columns.shared_of(columns.shared_of(bent).swapaxes(1, 2)).sum(axis=0), shared_free)
    of_own, of_shared = (gradient - lax.stop_gradient(gradient) for gradient in gradients(blocks))
    of_own, of_shared = jnp.where(own_free, of_own, 0), jnp.where(shared_free, of_shared, 0)

    solved = jnp.linalg.solve(own, jnp.concatenate([beside, of_own[:, :, None]], axis=2))
    rest = jnp.einsum("mos,mok->sk", beside, solved)
    shared = jnp.linalg.solve(_ridged(corner - rest[:, :-1], corner), of_shared - rest[:, -1])
    return params - joined(solved[:, :, -1] - solved[:, :, :-1] @ shared, shared)


def _held_apart(matrix: Float[Array, "*m k k"], free: Bool[Array, "*m k"]) -> Float[Array, "*m k k"]:
    """With the identity for the rows and columns of what is held, or moves nothing."""
    free = free & (jnp.diagonal(matrix, axis1=-2, axis2=-1) != 0)
    both = free[..., :, None] & free[..., None, :]
    apart = jnp.where(both, matrix, jnp.eye(matrix.shape[-1], dtype=matrix.dtype))
    return _ridged(apart, apart)


def _ridged(matrix: Float[Array, "*m k k"], like: Float[Array, "*m k k"]) -> Float[Array, "*m k k"]:
    """With a ridge of rounding: what the data do not determine has no derivative, and takes none from the rest."""
    identity = jnp.broadcast_to(jnp.eye(matrix.shape[-1], dtype=matrix.dtype), matrix.shape)
    return matrix + 4 * float(jnp.finfo(matrix.dtype).eps) * jnp.abs(like) * identity
