"""Gradient and Hessian of an objective at a parameter pytree, and the Newton step that they make."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array
from jax.flatten_util import ravel_pytree
from jax.typing import ArrayLike

from jaxreg import _checks, _names
from jaxreg._shapes import Float
from jaxreg.models import Params

Objective = Callable[..., Array]


def gradient(objective: Objective, params: Params, *args: Any) -> Params:
    """The gradient ∇f, shaped like params.

    >>> print(gradient(lambda p, a: a * p["x"] ** 2, {"x": 3.0}, 2.0))
    {'x': Array(12., dtype=float32)}
    """
    return jax.grad(objective)(_checks.params("params", params), *args)


def hessian(objective: Objective, params: Params, *args: Any) -> Float[Array, "p p"]:
    """The Hessian ∂²f/∂pᵢ∂pⱼ, (p, p) in ravel_pytree order.

    It costs p² numbers and p Hessian-vector products; where that is too much, use ``hvp`` or ``extreme_eigenvalues``.

    >>> print(hessian(lambda p: p["a"] ** 2 + 3 * p["a"] * p["b"], {"a": 1.0, "b": 1.0}))
    [[2. 3.]
     [3. 0.]]
    """
    flat, unravel = flat_of(params)
    return jax.jacfwd(jax.grad(lambda vector: objective(unravel(vector), *args)))(flat)


def hvp(objective: Objective, params: Params, vector: Params, *args: Any) -> Params:
    """The Hessian-vector product ∇²f·v, shaped like params, at the price of about two gradients and no matrix.

    Args:
        objective: ``objective(params, *args) -> scalar``.
        params: the point.
        vector: v, a pytree shaped like params.
        args: the objective's other arguments.

    Source: B. A. Pearlmutter, Neural Computation 6 (1994) 147 (here forward over reverse mode).

    >>> product = hvp(lambda p: p["a"] ** 2 + 3 * p["a"] * p["b"], {"a": 1.0, "b": 1.0}, {"a": 1.0, "b": 2.0})
    >>> print(product["a"], product["b"])
    8.0 3.0
    """
    params = _checks.params("params", params)
    wanted, got = map(_names.structure, (params, vector))
    if wanted != got:
        raise ValueError(f"vector must be a pytree like params, {wanted}, got {got}")
    for (path, leaf), part in zip(jax.tree_util.tree_leaves_with_path(params), jax.tree.leaves(vector), strict=True):
        _checks.shape(f"vector{jax.tree_util.keystr(path)}", part, jnp.shape(leaf))
    tangent = jax.tree.map(lambda part, leaf: jnp.asarray(part, jnp.result_type(leaf)), vector, params)
    return jax.jvp(lambda point: jax.grad(objective)(point, *args), (params,), (tangent,))[1]


def newton_step(objective: Objective, params: Params, *args: Any, damping: ArrayLike = 0.0) -> Params:
    """One Newton step: params - (H + damping·I)⁻¹ ∇f, shaped like params.

    On a quadratic it ends at the optimum. Where the Hessian is singular it is not finite, and where it is indefinite it
    may go uphill; a damping above -λmin makes it a descent direction (K. Levenberg, Quarterly of Applied
    Mathematics 2 (1944) 164).

    >>> newton_step(lambda p: (p[0] - 1) ** 2 + 5 * (p[1] + 2) ** 2, jnp.array([7.0, 7.0]))
    Array([ 1., -2.], dtype=float32)
    """
    flat, unravel = flat_of(params)
    matrix = hessian(objective, params, *args) + damping * jnp.eye(flat.size, dtype=flat.dtype)
    return unravel(flat - jnp.linalg.solve(matrix, ravel_pytree(gradient(objective, params, *args))[0]))


def flat_of(params: Params) -> tuple[Float[Array, "p"], Callable[[Array], Params]]:
    """The parameters as a vector, and the function back."""
    return ravel_pytree(_checks.params("params", params))
