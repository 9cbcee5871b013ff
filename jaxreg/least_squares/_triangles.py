"""Linear models of residuals in blocks, each block compressed to a triangle, and the damped steps that they allow.

A block has columns of its own and columns that all blocks share. Its own ones are eliminated by a QR of its triangle
with the damping below; what that leaves of the shared ones is brought together by QRs, in a fixed tree. No matrix of
all own columns is made. Residuals of one block with nothing of its own are an ordinary least-squares problem.

A vector of parameters has those of the blocks first, block by block, and then the shared ones.

Source: G. H. Golub and V. Pereyra, Inverse Problems 19 (2003) R1; J. Demmel et al., SIAM J. Sci. Comput. 34 (2012)
A206.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array, lax

from jaxreg._linear_algebra import qr_root, solve_upper
from jaxreg._shapes import Bool, Float

_AT_ONCE = 64  # blocks; a triangle is so small that one alone would not fill the vector unit
_FAN = 16  # triangles that are brought to one


class Triangles(NamedTuple):
    """The rows own·(a block's own step) + shared·(the shared step) + rest of each block."""

    own: Float[Array, "m q o"]
    shared: Float[Array, "m q s"]
    rest: Float[Array, "m q"]

    def split(self, vector: Array) -> tuple[Array, Array]:
        """The own (m, o) and the shared part (s,) of one number for each parameter."""
        return split(vector, self.own.shape[0], self.own.shape[2])

    def scaled(self, by: Float[Array, "p"]) -> "Triangles":
        """With the columns of other units."""
        own, shared = self.split(by)
        return self._replace(own=self.own * own[:, None], shared=self.shared * shared[None, None])

    def without(self, held: Bool[Array, "p"]) -> "Triangles":
        """With zero for the columns of parameters that cannot move."""
        own, shared = self.split(held)
        return self._replace(
            own=jnp.where(own[:, None], 0, self.own), shared=jnp.where(shared[None, None], 0, self.shared)
        )

    def lengths(self) -> Float[Array, "p"]:
        """Of the columns."""
        return joined(jnp.sqrt(jnp.sum(self.own**2, axis=1)), jnp.sqrt(jnp.sum(self.shared**2, axis=(0, 1))))

    def times(self, step: Float[Array, "p"]) -> Float[Array, "m q"]:
        """How a step changes the rows."""
        own, shared = self.split(step)
        return jnp.sum(self.own * own[:, None], axis=2) + jnp.sum(self.shared * shared[None, None], axis=2)

    def gradient(self) -> Float[Array, "p"]:
        """Half the derivative of the rows' squares."""
        rest = self.rest[:, :, None]
        return joined(jnp.sum(self.own * rest, axis=1), jnp.sum(self.shared * rest, axis=(0, 1)))

    def damped(self, damping: Float[Array, "p"]) -> "Factors":
        """The factors of the normal equations, with the damping on their diagonal."""
        own_damping, shared_damping = self.split(damping)
        own, corners = self.eliminated(own_damping)
        s = self.shared.shape[2]
        below = jnp.sqrt(shared_damping)[None] * jnp.eye(s + 1, s, dtype=self.rest.dtype)
        return Factors(own, qr_root(jnp.hstack([reduced(corners), below]))[:s])

    def eliminated(self, damping: Float[Array, "m o"]) -> tuple[Float[Array, "m o k"], Float[Array, "m l q"]]:
        """The factors of the own columns, damped, and what they leave of the others, as columns of each block."""
        (_, _, o), s = self.own.shape, self.shared.shape[2]
        columns = jnp.concatenate([self.own, self.shared, self.rest[:, :, None]], axis=2).swapaxes(1, 2)
        if not o:
            return jnp.zeros((len(columns), 0, s + 1), self.rest.dtype), columns
        below = jnp.sqrt(damping)[:, None, :] * jnp.eye(o + s + 1, o, dtype=self.rest.dtype)[None]
        roots = each(qr_root, jnp.concatenate([columns, below], axis=2))
        return roots[:, :o], roots[:, o:, o:].swapaxes(1, 2)


class Factors(NamedTuple):
    """R, S and z of each block: R·(own step) + S·(shared step) + z = 0; and R and z of the shared step."""

    own: Float[Array, "m o k"]
    shared: Float[Array, "s l"]

    def solved(self) -> Float[Array, "p"]:
        """The step."""
        count, o = self.shared.shape[0], self.own.shape[1]
        library = self.own.shape[0] > 1  # blocks
        shared = -solve_upper(self.shared[:, :count], self.shared[:, count], library=library)
        if not o:
            return shared

        def one(factor: Float[Array, "o k"]) -> Float[Array, "o"]:
            return -solve_upper(factor[:, :o], factor[:, -1] + factor[:, o:-1] @ shared, library=library)

        return joined(jax.vmap(one)(self.own), shared)

    def accelerated(self, bend: Float[Array, "s"]) -> Float[Array, "s"]:
        """-(RᵀR)⁻¹ bend, where no block has anything of its own: it need have only its leading digits."""
        root = self.shared[:, :-1]
        return -solve_upper(root, solve_upper(root, bend, transposed=True))


def split(vector: Array, blocks: int, own: int) -> tuple[Array, Array]:
    """A vector of parameters as those of the blocks, (blocks, own), and the shared ones."""
    return vector[: blocks * own].reshape(blocks, own), vector[blocks * own :]


def joined(own: Array, shared: Array) -> Array:
    """The vector of parameters of both."""
    return jnp.concatenate([own.ravel(), shared]) if own.size else shared


def of_blocks(own: Array, shared: Array) -> Array:
    """The own numbers of each block with the shared ones after them, (blocks, own + shared)."""
    return jnp.concatenate([own, jnp.broadcast_to(shared[None], (len(own), *shared.shape))], axis=1)


def each(fn: Callable[..., Array], blocks: Any) -> Array:
    """``fn`` of each block."""
    return lax.map(fn, blocks, batch_size=_AT_ONCE)


def reduced(columns: Float[Array, "m k q"]) -> Float[Array, "k r"]:
    """Columns of as few rows as there are columns, with the same products, of the columns of all blocks."""
    count = columns.shape[1]
    while columns.shape[0] > 1:
        missing = -columns.shape[0] % min(_FAN, columns.shape[0])
        groups = jnp.pad(columns, ((0, missing), (0, 0), (0, 0))).reshape(
            -1, min(_FAN, columns.shape[0]), *columns.shape[1:]
        )
        rows = groups.swapaxes(1, 2).reshape(groups.shape[0], count, -1)
        columns = each(qr_root, rows).swapaxes(1, 2)
    return columns[0]
