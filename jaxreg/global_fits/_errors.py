"""The errors of a global fit, from the triangles of all data sets: no matrix of all parameters is made."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array, lax

from jaxreg._linear_algebra import inverse_upper, qr_root
from jaxreg._shapes import Bool, Float
from jaxreg.covariance._factors import from_factor, inverse_factor, safe_root
from jaxreg.least_squares._look import Look
from jaxreg.least_squares._optimum import rounding_floor
from jaxreg.least_squares._triangles import of_blocks, reduced, split

_UNSETTLED = 1e-6  # of ‖ψ‖²: combinations so weak that the whole step, damped, does not see them
_MUCH = 100  # times what rounding hides
_OF_RIDGE = 4  # times the length that a ridge leaves of a column which own ones make up


class Errors(NamedTuple):
    """What the data say about the parameters, in units of these."""

    shared: Float[Array, "s s"]
    each: Float[Array, "m q q"]  # of a data set's own parameters, and then of the shared ones
    stderr: Float[Array, "m q"]
    regular: Bool[Array, ""]  # whether the shared ones are determined
    regular_each: Bool[Array, "m"]  # and the own ones of each set
    definite: Bool[Array, ""]  # whether the cost has a minimum there
    undetermined: Float[Array, "s"]  # the combination of shared ones that is least so
    undetermined_each: Float[Array, "m o"]


class Bread(NamedTuple):
    """A = Σ ψ' J Jᵀ at the end, in units of ``look``: what is positive of it in triangles, and the rest."""

    look: Look
    params: Float[Array, "p"]
    gradient: Float[Array, "p"]  # Σ ψ J
    negative: Any  # (m, q, q), Σ min(ψ', 0) J Jᵀ of [own | shared], and what has a derivative; None without both
    free: Bool[Array, "p"]
    size: Float[Array, ""]  # ‖y/(sigma·unit)‖
    num_rows: int  # of all data sets

    def lengths(self) -> Float[Array, "p"]:
        """Of the columns; 1 for a parameter that is held, or that moves no prediction."""
        found = self.look.triangles.lengths()
        return jnp.where(self.free & (found > 0), found, 1)


def errors_of(bread: Bread, variance: Float[Array, "*m"]) -> Errors:
    """C = (RᵀR)⁻¹ of the shared parameters, R⁻¹(I + S C Sᵀ)R⁻ᵀ of a set's own, and -R⁻¹S C of these with those.

    Where data sets have errors of their own size, C is (RᵀR)⁻¹(Σ vᵢ KᵢᵀKᵢ)(RᵀR)⁻¹, Kᵢ being what the own parameters
    of a set leave of its shared columns.
    """
    look, free = bread.look, bread.free
    m, o, s = look.triangles.own.shape[0], look.triangles.own.shape[2], look.triangles.shared.shape[2]
    lengths, eps = bread.lengths(), jnp.finfo(look.length.dtype).eps
    own_unit, shared_unit = split(lengths * look.unit, m, o)
    own_free, shared_free = split(free, m, o)
    triangles = look.triangles.without(~free).scaled(1 / lengths)
    own_inverse, own_known, own_direction = _own_inverses(triangles.own, ~own_free, bread.num_rows // m)
    # What a set does not determine would take a direction of rounding from its shared columns.
    ridge = jnp.where(own_known, 0, eps)
    damping = (~own_free).astype(lengths.dtype) + ridge[:, None]
    factors, corners = triangles.eliminated(damping)
    root = qr_root(jnp.hstack([reduced(corners[:, :s]), jnp.diag((~shared_free).astype(lengths.dtype))]), alone=True)
    beside, definite, change = factors[:, :, o : o + s], jnp.asarray(True), None
    inverse, least, direction = inverse_upper(root, library=True)
    # Rounding leaves more of a shared column the longer the own ones are that make it up.
    together = 1 + jnp.sum(jnp.einsum("mij,mjk,k->mi", own_inverse, beside, direction) ** 2)
    hidden = bread.num_rows * eps * (s * lax.stop_gradient(together)) ** 0.5
    known = least > jnp.maximum(hidden, _OF_RIDGE * jnp.sqrt(ridge.sum()))
    inverse = jnp.where(known, inverse, jnp.eye(s, dtype=root.dtype))
    own_slope, slope = split(bread.gradient / lengths, m, o)
    own_slope = jnp.einsum("mij,mi->mj", own_inverse, jnp.where(own_free, own_slope, 0))
    own_left = jnp.sum(own_slope**2, axis=1)
    left = jnp.sum((inverse.T @ (slope - jnp.einsum("mij,mi->j", beside, own_slope))) ** 2)
    if bread.negative is not None:
        negative = _scaled(bread.negative, free, lengths, m, o)
        own_inverse, beside, change, definite = jax.vmap(_lessened)(own_inverse, beside, negative)
        lessened, known_shared = inverse_factor(jnp.eye(s, dtype=root.dtype) + inverse.T @ change.sum(axis=0) @ inverse)
        inverse, definite = inverse @ lessened.T, definite.all() & known_shared
    reach = jnp.vdot(jnp.abs(bread.params), look.unit * lengths)
    floor = rounding_floor(bread.size, look.cost, look.length, reach)
    much = _MUCH * floor
    own_known &= ~(own_left > jnp.maximum(_UNSETTLED * look.square / m, much)) | ~own_free.all(axis=1)
    known &= ~(left > jnp.maximum(_UNSETTLED * look.square, much)) | ~shared_free.all()

    size = jnp.broadcast_to(safe_root(variance), (m,))
    half = _of_unequal(inverse, corners[:, :s], size, change) if variance.ndim else inverse * size[0]
    half = jnp.where(shared_free[:, None], half, 0)  # shared = half·(errors of variance 1)
    follows = -jnp.einsum("mij,mjk,kl->mil", own_inverse, beside, half)
    alone = jnp.where(own_free[:, :, None], own_inverse * size[:, None, None], 0)
    follows = jnp.where(own_free[:, :, None], follows, 0)
    below = jnp.concatenate([jnp.zeros((m, s, o), half.dtype), jnp.broadcast_to(half[None], (m, s, s))], axis=2)
    whole = jnp.concatenate([jnp.concatenate([alone, follows], axis=2), below], axis=1)
    whole = jnp.where(definite, whole, jnp.nan)
    found = jax.vmap(from_factor)(whole, 1 / of_blocks(own_unit, shared_unit))
    return Errors(
        shared=from_factor(jnp.where(definite, half, jnp.nan), 1 / shared_unit).matrix,
        each=found.matrix,
        stderr=found.stderr,
        regular=known,
        regular_each=own_known,
        definite=definite,
        undetermined=_unit(direction / shared_unit),
        undetermined_each=jax.vmap(_unit)(own_direction / own_unit),
    )


def _own_inverses(
    columns: Float[Array, "m q o"], held: Bool[Array, "m o"], num_rows: int
) -> tuple[Float[Array, "m o o"], Bool[Array, "m"], Float[Array, "m o"]]:
    """R⁻¹ of the own columns of each set, whether they are independent, and the combination that is least so."""
    m, _, o = columns.shape
    if not o:
        return columns[:, :0], jnp.ones(m, bool), columns[:, 0]

    def one(columns: Float[Array, "q o"], held: Bool[Array, "o"]) -> tuple[Array, Array, Array]:
        # A parameter that is held stands alone in a row of its own.
        root = qr_root(jnp.hstack([columns.T, jnp.diag(held.astype(columns.dtype))]), alone=True)
        inverse, least, direction = inverse_upper(root, library=True)
        known = least > max(o, num_rows) * jnp.finfo(root.dtype).eps * o**0.5
        return jnp.where(known, inverse, jnp.eye(o, dtype=root.dtype)), known, direction

    return jax.vmap(one)(columns, held)


def _scaled(
    negative: Float[Array, "m q q"], free: Bool[Array, "p"], lengths: Float[Array, "p"], m: int, o: int
) -> Float[Array, "m q q"]:
    """Of columns of length 1, zero for parameters that are held."""
    by = of_blocks(*split(jnp.where(free, 1 / lengths, 0), m, o))
    return negative * by[:, :, None] * by[:, None]


def _lessened(
    inverse: Float[Array, "o o"], beside: Float[Array, "o s"], negative: Float[Array, "q q"]
) -> tuple[Array, Array, Array, Array]:
    """R⁻¹ and S of a data set with its negative weights, what these change of its shared part, and if R exists."""
    o = inverse.shape[0]
    factor, definite = jnp.zeros_like(inverse), jnp.asarray(True)
    if o:
        bread = jnp.eye(o, dtype=inverse.dtype) + inverse.T @ negative[:o, :o] @ inverse
        factor, definite = inverse_factor(bread)
    beside_all = factor @ (beside + inverse.T @ negative[:o, o:])
    change = beside.T @ beside - beside_all.T @ beside_all + negative[o:, o:]
    return inverse @ factor.T, beside_all, change, definite


def _of_unequal(
    inverse: Float[Array, "s s"], corners: Float[Array, "m s k"], size: Float[Array, "m"], change: Any
) -> Float[Array, "s s"]:
    """The factor of the shared covariance where the data sets have errors of different size."""
    rows = qr_root(reduced(corners * size[:, None, None])) @ inverse
    if change is None:
        return inverse @ rows.T
    change = jnp.einsum("m,mij->ij", size**2, change)
    return inverse @ jnp.linalg.cholesky(rows.T @ rows + inverse.T @ change @ inverse)


def _unit(direction: Float[Array, "k"]) -> Float[Array, "k"]:
    """Of length 1."""
    if not direction.size:
        return direction
    direction = direction / jnp.max(jnp.abs(direction))
    return direction / jnp.linalg.norm(direction)
