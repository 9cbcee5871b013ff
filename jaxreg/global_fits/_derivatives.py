"""How the parameters of a global fit move with its data: by the implicit function theorem."""

import jax
import jax.numpy as jnp
from jax import Array, lax

from jaxreg._shapes import Bool, Float
from jaxreg.global_fits._problem import GlobalProblem
from jaxreg.global_fits._view import Blocks, of_each
from jaxreg.least_squares._flat_problem import FlatProblem
from jaxreg.least_squares._triangles import joined, split


def following(blocks: Blocks, still: GlobalProblem, problem: GlobalProblem) -> Float[Array, "p"]:
    """Parameters at an optimum, with the derivative of -H⁻¹·gradient by the numbers of the problem, but for bounds.

    The Hessian is an arrow: a block for each data set, and the shared parameters beside them. ``still`` are the same
    numbers without derivatives.
    """
    params, columns, m = blocks.start, blocks.plan.columns, len(blocks.kept)
    at, kept = blocks.at(params), blocks.kept[:, None]

    def gradients(problem: GlobalProblem) -> tuple[Array, Array]:
        found = of_each(lambda flat, params: flat.gradient(params), problem, at)
        return jnp.where(kept, columns.own_of(found), 0), jnp.where(kept, columns.shared_of(found), 0).sum(axis=0)

    def hessian(flat: FlatProblem, params: Float[Array, "q"]) -> Float[Array, "q q"]:
        return jax.jacfwd(flat.gradient)(params)

    bent = jnp.where(kept[:, :, None], of_each(hessian, still, at), 0)
    own_free, shared_free = split(blocks.free(params, joined(*gradients(still))), m, len(columns.own))
    own_free &= kept
    of_own, of_shared = columns.own_of(bent).swapaxes(1, 2), columns.shared_of(bent).swapaxes(1, 2)  # symmetric
    own = _held_apart(columns.own_of(of_own), own_free)
    beside = jnp.where(own_free[:, :, None] & shared_free[None, None], columns.shared_of(of_own), 0)
    corner = _held_apart(columns.shared_of(of_shared).sum(axis=0), shared_free)

    change = [gradient - lax.stop_gradient(gradient) for gradient in gradients(problem)]
    own_change, shared_change = jnp.where(own_free, change[0], 0), jnp.where(shared_free, change[1], 0)
    solved = jnp.linalg.solve(own, jnp.concatenate([beside, own_change[:, :, None]], axis=2))
    rest = jnp.einsum("mos,mok->sk", beside, solved)
    shared = jnp.linalg.solve(_ridged(corner - rest[:, :-1], corner), shared_change - rest[:, -1])
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
