"""Curvature of an objective ``objective(params, *args) -> scalar`` at any parameter pytree, and what it predicts.

Matrices are (p, p) in the order of ``jax.flatten_util.ravel_pytree``, which sorts a dict by its keys.
Gradient descent on a quadratic moves along each eigenvector of the Hessian on its own, by 1 - learning_rate·λ a step;
that is all that the predictions here use (B. Polyak, Introduction to Optimization, 1987, section 1.4).
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array
from jax.flatten_util import ravel_pytree
from jax.typing import ArrayLike

from jaxreg import _checks
from jaxreg._lanczos import lanczos
from jaxreg.models import Params

Objective = Callable[..., Array]

_DENSE = 256  # parameters up to which the Hessian is built and diagonalised


def gradient(objective: Objective, params: Params, *args: Any) -> Params:
    """The gradient ∇f, shaped like params.

    >>> print(gradient(lambda p, a: a * p["x"] ** 2, {"x": 3.0}, 2.0))
    {'x': Array(12., dtype=float32, weak_type=True)}
    """
    _checks.floating("params", params)
    return jax.grad(objective)(params, *args)


def hessian(objective: Objective, params: Params, *args: Any) -> Array:
    """The Hessian ∂²f/∂pᵢ∂pⱼ, (p, p) in ravel_pytree order.

    It costs p² numbers and p Hessian-vector products; where that is too much, use ``hvp`` or ``extreme_eigenvalues``.

    >>> print(hessian(lambda p: p["a"] ** 2 + 3 * p["a"] * p["b"], {"a": 1.0, "b": 1.0}))
    [[2. 3.]
     [3. 0.]]
    """
    flat, unravel = _flat(params)
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
    _checks.floating("params", params)
    wanted, got = (str(jax.tree.structure(tree)) for tree in (params, vector))
    if wanted != got:
        raise ValueError(f"vector must be a pytree like params, {wanted}, got {got}")
    for (path, leaf), part in zip(jax.tree_util.tree_leaves_with_path(params), jax.tree.leaves(vector), strict=True):
        _checks.shape(f"vector{jax.tree_util.keystr(path)}", part, jnp.shape(leaf))
    tangent = jax.tree.map(lambda part, leaf: jnp.asarray(part, jnp.result_type(leaf)), vector, params)
    return jax.jvp(lambda point: jax.grad(objective)(point, *args), (params,), (tangent,))[1]


def extreme_eigenvalues(
    objective: Objective, params: Params, *args: Any, lanczos_steps: int = 96
) -> tuple[Array, Array]:
    """The smallest and the largest eigenvalue of the Hessian.

    Exact up to 256 parameters. Beyond, Lanczos's method with full reorthogonalisation from a fixed random start, which
    never builds the matrix; an end that has not converged (residual above 1e-3 of the largest modulus) is NaN.

    Args:
        objective: ``objective(params, *args) -> scalar``.
        params: the point.
        args: the objective's other arguments.
        lanczos_steps: static; each costs one Hessian-vector product, and p numbers of memory.

    Returns:
        (smallest, largest), scalars.

    Source: G. H. Golub and C. F. Van Loan, Matrix Computations, 4th ed. (2013), section 10.1 and 10.3.1.

    >>> smallest, largest = extreme_eigenvalues(lambda p: p[0] ** 2 + 5 * p[1] ** 2, jnp.ones(2))
    >>> print(smallest, largest)
    2.0 10.0
    """
    values, error = _extremes(objective, params, args, lanczos_steps)
    values = jnp.where(error <= 1e-3 * jnp.abs(values).max(), values, jnp.nan)
    return values[0], values[1]


def condition_number(objective: Objective, params: Params, *args: Any, lanczos_steps: int = 96) -> Array:
    """λmax/λmin of the Hessian; infinite where λmin is not positive beyond rounding.

    Beyond 256 parameters NaN unless Lanczos's method knows λmin to 1 % of itself.

    >>> print(condition_number(lambda p: p[0] ** 2 + 5 * p[1] ** 2, jnp.ones(2)))
    5.0
    """
    (smallest, largest), error = _extremes(objective, params, args, lanczos_steps)
    floor = ravel_pytree(params)[0].size * jnp.finfo(largest.dtype).eps * largest
    positive = smallest > floor
    ratio = jnp.where(positive, largest / jnp.where(positive, smallest, 1), jnp.inf)
    known = jnp.where(positive, error[0] <= 0.01 * smallest, smallest + error[0] <= floor)
    return jnp.where(known, ratio, jnp.nan)


def critical_learning_rate(objective: Objective, params: Params, *args: Any, lanczos_steps: int = 96) -> Array:
    """2/λmax: full-batch gradient descent on a quadratic diverges above this learning rate and converges below it.

    Infinite where no direction curves upwards.

    >>> print(critical_learning_rate(lambda p: p[0] ** 2 + 5 * p[1] ** 2, jnp.ones(2)))
    0.2
    """
    return _critical(extreme_eigenvalues(objective, params, *args, lanczos_steps=lanczos_steps)[1])


class TrainingPrediction(NamedTuple):
    """What a quadratic's eigenvalues say about gradient descent on it; p modes in order of rising eigenvalue.

    Attributes:
        learning_rate: scalar, of the descent.
        eigenvalues: (p,), λ.
        decay: (p,), 1 - learning_rate·λ, the factor of each mode's amplitude a step; below -1 it grows.
        excess_loss: (p,), λ·amplitude²/2, each mode's share of the loss above its minimum at the start.
        minimum_loss: scalar, the objective at its minimum.
        critical_learning_rate: scalar, 2/λmax.
        best_learning_rate: scalar, 2/(λmin + λmax), for which the slowest mode decays fastest.
        steps: scalar, the step count from which on the excess loss stays at most the tolerance; infinite if there is
            none.
        epochs: scalar, steps / steps_per_epoch.
    """

    learning_rate: Array
    eigenvalues: Array
    decay: Array
    excess_loss: Array
    minimum_loss: Array
    critical_learning_rate: Array
    best_learning_rate: Array
    steps: Array
    epochs: Array

    def loss(self, steps: ArrayLike) -> Array:
        """The predicted loss after any numbers of steps, shaped like ``steps``."""
        return self.minimum_loss + _excess(self, jnp.asarray(steps))


def predict_training(
    objective: Objective,
    params: Params,
    *args: Any,
    learning_rate: ArrayLike,
    tolerance: ArrayLike = 1e-4,
    steps_per_epoch: int = 1,
) -> TrainingPrediction:
    """Predict gradient descent from ``params`` before it is run: exact for a quadratic and full batches.

    With H = V diag(λ) Vᵀ and aᵢ = vᵢᵀ∇f/λᵢ, the loss after k steps is f_min + ½ Σ λᵢ aᵢ² (1 - learning_rate·λᵢ)²ᵏ.
    Minibatches of a small learning rate follow it but for their noise. A slope in a direction that does not curve
    upwards has no minimum to reach: minimum_loss is -inf and steps inf.

    Args:
        objective: ``objective(params, *args) -> scalar``, quadratic in params.
        params: the start.
        args: the objective's other arguments.
        learning_rate: of plain gradient descent; may be traced.
        tolerance: the excess loss above the minimum that counts as done, in units of the objective.
        steps_per_epoch: steps counted as an epoch, static.

    Returns:
        TrainingPrediction. It needs the Hessian: p² numbers.

    >>> bowl = lambda p: p[0] ** 2 / 2 + 5 * p[1] ** 2
    >>> prediction = predict_training(bowl, jnp.ones(2), learning_rate=0.1, tolerance=1e-4)
    >>> print(prediction.decay, prediction.steps)
    [0.9 0. ] 41.0
    >>> print(0.5 * 0.9 ** (2 * 40) > 1e-4 > 0.5 * 0.9 ** (2 * 41))
    True
    """
    steps_per_epoch = _checks.count("steps_per_epoch", steps_per_epoch, least=1)
    flat, unravel = _flat(params)
    eigenvalues, vectors = jnp.linalg.eigh(hessian(objective, params, *args))
    slope = vectors.T @ ravel_pytree(gradient(objective, params, *args))[0]
    floor = flat.size * jnp.finfo(eigenvalues.dtype).eps * jnp.abs(eigenvalues).max()
    curved = eigenvalues > floor
    noise = 4 * floor * jnp.linalg.norm(flat) + 4 * flat.size * jnp.finfo(slope.dtype).eps * jnp.linalg.norm(slope)
    sloped = jnp.abs(slope) > noise  # what rounding leaves of a gradient that is zero
    minimum = flat - vectors @ jnp.where(curved, slope / jnp.where(curved, eigenvalues, 1), 0)
    # In this order, because the square of a slope may leave the range of floats.
    share = 0.5 * slope * (slope / jnp.where(curved, eigenvalues, 1))
    share = jnp.where(curved, share, jnp.where(sloped, jnp.inf, 0))
    prediction = TrainingPrediction(
        learning_rate=jnp.asarray(learning_rate, eigenvalues.dtype),
        eigenvalues=eigenvalues,
        decay=1 - learning_rate * eigenvalues,
        excess_loss=share,
        # Not the loss here less the excess: that cancels where the start is far.
        minimum_loss=jnp.where(jnp.isinf(share).any(), -jnp.inf, objective(unravel(minimum), *args)),
        critical_learning_rate=_critical(eigenvalues[-1]),
        best_learning_rate=2 / (eigenvalues[0] + eigenvalues[-1]),
        steps=jnp.zeros(()),
        epochs=jnp.zeros(()),
    )
    steps = _first_below(lambda count: _excess(prediction, count), jnp.asarray(tolerance))
    return prediction._replace(steps=steps, epochs=steps / steps_per_epoch)


def newton_step(objective: Objective, params: Params, *args: Any, damping: ArrayLike = 0.0) -> Params:
    """One Newton step: params - (H + damping·I)⁻¹ ∇f, shaped like params.

    On a quadratic it ends at the optimum. Where the Hessian is singular it is not finite, and where it is indefinite it
    may go uphill; a damping above -λmin makes it a descent direction (K. Levenberg, Quarterly of Applied
    Mathematics 2 (1944) 164).

    >>> newton_step(lambda p: (p[0] - 1) ** 2 + 5 * (p[1] + 2) ** 2, jnp.array([7.0, 7.0]))
    Array([ 1., -2.], dtype=float32)
    """
    flat, unravel = _flat(params)
    matrix = hessian(objective, params, *args) + damping * jnp.eye(flat.size, dtype=flat.dtype)
    return unravel(flat - jnp.linalg.solve(matrix, ravel_pytree(gradient(objective, params, *args))[0]))


def epoch_map(objective: Objective, params: Params, batches: Any, *, learning_rate: ArrayLike) -> Array:
    """The linear map of one epoch of gradient steps on a quadratic: the product of I - learning_rate·H_batch.

    After an epoch the distance to the map's fixed point is multiplied by it, so repeated epochs in the same order
    converge if and only if its ``spectral_radius`` is below 1, even where single steps grow.

    Args:
        objective: ``objective(params, batch) -> scalar``.
        params: the point at which the Hessians are taken (any, for a quadratic).
        batches: what ``objective`` takes, with a leading axis of steps, such as ``batching.gather`` returns.
        learning_rate: may be traced.

    Returns:
        (p, p) matrix, the first step rightmost.

    >>> scale = jnp.array([1.0, 2.0])
    >>> epoch_map(lambda p, s: s * p @ p, jnp.ones(2), scale, learning_rate=0.1)
    Array([[0.48, 0.  ],
           [0.  , 0.48]], dtype=float32)
    """
    flat, _ = _flat(params)
    identity = jnp.eye(flat.size, dtype=flat.dtype)

    def step(product: Array, batch: Any) -> tuple[Array, None]:
        return product - learning_rate * hessian(objective, params, batch) @ product, None

    return jax.lax.scan(step, identity, batches)[0]


def spectral_radius(matrix: ArrayLike) -> Array:
    """The largest modulus of the eigenvalues of a square matrix, by Gelfand's formula lim ‖Mᵏ‖^(1/k) with k = 2²⁴.

    Squaring costs matrix products alone, so it also runs where there is no non-symmetric eigensolver.

    Source: R. A. Horn and C. R. Johnson, Matrix Analysis, 2nd ed. (2013), corollary 5.6.14.

    >>> print(spectral_radius(jnp.array([[0.0, -2.0], [2.0, 0.0]])).round(4))
    2.0
    """
    matrix = jnp.asarray(matrix)
    if matrix.ndim != 2 or matrix.shape[0] != matrix.shape[1]:
        raise ValueError(f"matrix must have shape (p, p), got {matrix.shape}")
    _checks.floating("matrix", matrix)

    def square(power: int, state: tuple[Array, Array]) -> tuple[Array, Array]:
        current, log_radius = state
        norm = jnp.abs(current).max()  # any norm serves, and this one squares nothing
        scaled = current / jnp.where(norm > 0, norm, 1)
        return scaled @ scaled, log_radius + jnp.log(norm) / 2.0**power

    current, log_radius = jax.lax.fori_loop(0, 24, square, (matrix, jnp.zeros((), matrix.dtype)))
    return jnp.exp(log_radius + jnp.log(jnp.abs(current).max()) / 2.0**24)


def _extremes(objective: Objective, params: Params, args: tuple[Any, ...], lanczos_steps: int) -> tuple[Array, Array]:
    """The smallest and the largest eigenvalue (2,), and bounds (2,) of their errors, 0 where computed whole."""
    flat, unravel = _flat(params)
    steps = _checks.count("lanczos_steps", lanczos_steps, least=2)
    if flat.size <= _DENSE:
        values = jnp.linalg.eigvalsh(hessian(objective, params, *args))
        return jnp.stack([values[0], values[-1]]), jnp.zeros(2, values.dtype)
    slope = jax.grad(lambda vector: objective(unravel(vector), *args))
    return lanczos(lambda vector: jax.jvp(slope, (flat,), (vector,))[1], flat, min(steps, flat.size))


def _flat(params: Params) -> tuple[Array, Callable[[Array], Params]]:
    _checks.params("params", params)
    return ravel_pytree(params)


def _critical(largest: Array) -> Array:
    return jnp.where(largest <= 0, jnp.inf, 2 / largest)


def _excess(prediction: TrainingPrediction, steps: Array) -> Array:
    # Powers through logarithms, for counts too large to multiply; log1p keeps the digits of a slow rate.
    product = prediction.learning_rate * prediction.eigenvalues
    shrinks = product < 1
    log_decay = jnp.where(shrinks, jnp.log1p(-jnp.where(shrinks, product, 0)), jnp.log(product - 1))
    share = prediction.excess_loss

    def after(count: Array) -> Array:
        exponent = jnp.where(count > 0, 2 * count * log_decay, 0)
        return jnp.where(share != 0, share * jnp.exp(exponent), 0).sum()

    return jnp.vectorize(after)(steps)


def _first_below(excess: Callable[[Array], Array], tolerance: Array) -> Array:
    """The first count at which a decreasing function is within the tolerance, by bisection over whole numbers."""
    most = jnp.asarray(2.0**62)

    def halve(_: int, ends: tuple[Array, Array]) -> tuple[Array, Array]:
        low, high = ends  # above the tolerance at low, within it at high
        middle = jnp.floor((low + high) / 2)
        within = excess(middle) <= tolerance
        return jnp.where(within, low, middle), jnp.where(within, middle, high)

    _, high = jax.lax.fori_loop(0, 63, halve, (jnp.zeros_like(most), most))
    first = jnp.where(excess(jnp.zeros_like(most)) <= tolerance, 0, high)
    return jnp.where(excess(most) <= tolerance, first, jnp.inf)
