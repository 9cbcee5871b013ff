"""Elementwise, unreduced functions of prediction and target."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import optax
from jax import Array
from jax.typing import ArrayLike

from jaxreg import _checks

# Residuals beyond this many thresholds take the loss's limit, exact to rounding in float64 too: squares would overflow.
_LARGE = 1e9


def squared(prediction: ArrayLike, target: ArrayLike) -> Array:
    """Half the squared residual: r²/2. With the ½ its gradient is r and its curvature 1.

    Args:
        prediction: any shape.
        target: the same shape, in the same units.

    Returns:
        The loss of each element, in squared units.

    Raises:
        ValueError: if the shapes differ, or if one is not of real numbers.

    >>> squared(jnp.array([1.0, 5.0]), jnp.array([1.0, 2.0]))
    Array([0. , 4.5], dtype=float32)
    """
    residual = _residual(prediction, target)
    return residual * (residual / 2)  # optax's slope is 2r·½, which overflows above half of the range


def absolute(prediction: ArrayLike, target: ArrayLike) -> Array:
    """Absolute residual: \\|r\\|; its gradient is sign(r), 0 at r = 0. Arguments as for ``squared``.

    >>> absolute(jnp.array([1.0, 5.0]), jnp.array([1.0, 2.0]))
    Array([0., 3.], dtype=float32)
    """
    residual = _residual(prediction, target)
    return residual * jnp.sign(residual)  # jnp.abs would have the gradient 1 at zero


def huber(prediction: ArrayLike, target: ArrayLike, *, delta: ArrayLike = 1.0) -> Array:
    """Huber's loss: r²/2 for \\|r\\| ≤ delta, delta·(\\|r\\| - delta/2) beyond.

    Args:
        prediction: any shape.
        target: the same shape.
        delta: threshold, in units of the target.

    Source: P. J. Huber, Annals of Mathematical Statistics 35 (1964) 73, eq. 4.

    >>> huber(jnp.array([0.5, 5.0]), jnp.array([0.0, 2.0]))
    Array([0.125, 2.5  ], dtype=float32)
    """
    residual = _residual(prediction, target)
    dtype = jnp.result_type(residual, delta)
    return _huber(residual.astype(dtype), jnp.asarray(delta, dtype))


# Not optax's: it sums two gradients of size delta that cancel, so the gradient at a small residual is only right to
# delta·eps (0 for r = 1e-8 in float32), and its second derivative at the threshold is 1/4. The derivatives are given
# because they are two operations each, where those of a choice between two branches are a dozen.
@jax.custom_jvp
def _huber(residual: Array, delta: Array) -> Array:
    slope = _clipped(residual, delta)
    return slope * (residual - slope / 2)


@_huber.defjvp
def _huber_jvp(at: tuple[Array, Array], tangents: tuple[Array, Array]) -> tuple[Array, Array]:
    residual, delta = at
    beyond = jnp.where(jnp.abs(residual) > delta, jnp.abs(residual) - delta, 0)
    return _huber(residual, delta), _clipped(residual, delta) * tangents[0] + beyond * tangents[1]


@jax.custom_jvp
def _clipped(residual: Array, delta: Array) -> Array:
    return jnp.where(residual > delta, delta, jnp.where(residual < -delta, -delta, residual))


@_clipped.defjvp
def _clipped_jvp(at: tuple[Array, Array], tangents: tuple[Array, Array]) -> tuple[Array, Array]:
    residual, delta = at
    inside = jnp.abs(residual) <= delta
    change = jnp.where(inside, tangents[0], jnp.sign(residual) * tangents[1])
    return _clipped(residual, delta), change


def pseudo_huber(prediction: ArrayLike, target: ArrayLike, *, delta: ArrayLike = 1.0) -> Array:
    """Pseudo-Huber loss: delta²·(√(1 + (r/delta)²) - 1), smooth everywhere. Arguments as for ``huber``.

    Source: P. Charbonnier et al., IEEE Transactions on Image Processing 6 (1997) 298.

    >>> pseudo_huber(jnp.array([3.0]), jnp.array([0.0]), delta=4.0)
    Array([4.], dtype=float32)
    """
    residual = _residual(prediction, target)
    size = jnp.abs(residual)
    large = size > _LARGE * delta
    # √(1 + u²) - 1 = u · u/(1 + √(1 + u²)), which does not cancel at small u.
    near = jnp.where(large, 0, residual)
    ratio = near / delta
    return jnp.where(large, delta * (size - delta), delta * near * (ratio / (1 + jnp.sqrt(1 + ratio**2))))


soft_l1 = pseudo_huber  # SciPy's name, with its f_scale for delta


def log_cosh(prediction: ArrayLike, target: ArrayLike) -> Array:
    """Logarithm of the hyperbolic cosine: log(cosh(r)), r²/2 near zero and \\|r\\| - log 2 far away.

    Arguments as for ``squared``; divide both by a scale to move the threshold, which is one unit.

    >>> log_cosh(jnp.array([0.0, 100.0]), jnp.array([0.0, 0.0]))
    Array([ 0.     , 99.30685], dtype=float32)
    """
    return optax.log_cosh(_residual(prediction, target))


def quantile(prediction: ArrayLike, target: ArrayLike, *, q: ArrayLike = 0.5) -> Array:
    """Pinball loss: q·(target - prediction) below the target, (1 - q)·(prediction - target) above it.

    Its minimiser is the q-quantile of the targets; q = 0.5 is half the absolute loss.

    Args:
        prediction: any shape.
        target: the same shape.
        q: between 0 and 1, without unit.

    Source: R. Koenker and G. Bassett, Econometrica 46 (1978) 33, eq. 2.2.

    >>> quantile(jnp.array([1.0, 1.0]), jnp.array([0.0, 2.0]), q=0.75)
    Array([0.25, 0.75], dtype=float32)
    """
    residual = _residual(prediction, target)
    # The slope at zero is 0, as that of the absolute loss is.
    return residual * jnp.where(residual > 0, 1 - jnp.asarray(q), jnp.where(residual < 0, -jnp.asarray(q), 0))


def cauchy(prediction: ArrayLike, target: ArrayLike, *, delta: ArrayLike = 1.0) -> Array:
    """Cauchy's (Lorentzian) loss: delta²/2 · log(1 + (r/delta)²), the likelihood of Cauchy noise of scale delta.

    Not convex: its curvature is negative for \\|r\\| > delta. Arguments as for ``huber``.

    Source: P. W. Holland and R. E. Welsch, Communications in Statistics A6 (1977) 813.

    >>> cauchy(jnp.array([1.0]), jnp.array([0.0]))
    Array([0.34657], dtype=float32)
    """
    residual = _residual(prediction, target)
    size = jnp.abs(residual)
    large = size > _LARGE * delta
    near = jnp.log1p((jnp.where(large, 0, residual) / delta) ** 2)
    # log(1 + u²) is 2·log|u|; neither u nor delta² needs to be in the range of floats.
    far = 2 * (jnp.log(jnp.where(large, size, 1)) - jnp.log(delta))
    return jnp.multiply(delta, jnp.multiply(delta, jnp.where(large, far, near) / 2))


def tukey(prediction: ArrayLike, target: ArrayLike, *, delta: ArrayLike = 4.685) -> Array:
    """Tukey's biweight: delta²/6 · (1 - (1 - (r/delta)²)³) for \\|r\\| ≤ delta, the constant delta²/6 beyond.

    A residual beyond delta has no gradient at all, so it needs a start within delta of most of the data.

    Args:
        prediction: any shape.
        target: the same shape.
        delta: threshold, in units of the target; 4.685 standard deviations of the noise give 95 % efficiency.

    Source: A. E. Beaton and J. W. Tukey, Technometrics 16 (1974) 147.

    >>> tukey(jnp.array([0.0, 100.0]), jnp.array([0.0, 0.0]), delta=6.0)
    Array([0., 6.], dtype=float32)
    """
    ratio = _residual(prediction, target) / delta
    inside = jnp.abs(ratio) <= 1
    square = jnp.where(inside, ratio, 0) ** 2
    # 1 - (1 - s)³ = s·(3 - 3s + s²): no cancellation at small s.
    return jnp.square(delta) / 6 * jnp.where(inside, square * (3 - 3 * square + square**2), 1)


def irls_weight(
    loss: Callable[[Array, Array], Array], prediction: Array, target: Array, *, floor: ArrayLike = 1e-6
) -> Array:
    """Weights that turn a loss into iteratively reweighted least squares: \\|∂loss/∂r\\| / max(\\|r\\|, floor).

    With them as ``Dataset.weight``, the squared loss has the loss's own gradient at these residuals (above the floor),
    and never a negative curvature, so a Newton step on it is a descent step where one on the loss itself is not.

    Args:
        loss: elementwise, such as ``absolute`` or ``partial(huber, delta=0.1)``.
        prediction: any shape.
        target: the same shape.
        floor: the residual below which the weight stops growing, in units of the target.

    Source: P. W. Holland and R. E. Welsch, Communications in Statistics A6 (1977) 813.

    >>> irls_weight(huber, jnp.array([0.5, 4.0]), jnp.array([0.0, 0.0]))
    Array([1.  , 0.25], dtype=float32)
    """
    if not callable(loss):
        raise ValueError(f"loss must be a function such as losses.tukey, got {loss!r}")
    residual = _residual(prediction, target)
    slope = jax.grad(lambda value: loss(value, target).sum())(prediction)
    return jnp.abs(slope) / jnp.maximum(jnp.abs(residual), floor)


def _residual(prediction: ArrayLike, target: ArrayLike) -> Array:
    prediction = jnp.asarray(_checks.array("prediction", prediction))
    target = jnp.asarray(_checks.array("target", target))
    if prediction.shape != target.shape:
        raise ValueError(f"prediction and target must have the same shape, got {prediction.shape} and {target.shape}")
    return prediction - target
