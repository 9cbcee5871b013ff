"""Data sets: generators with a known truth, train/validation split, corruptions, all pure functions of a key.

A ``Dataset`` is a pytree, so it goes through ``jit``, ``vmap`` and ``scan`` as it is. Features and noise always
come from different keys: drawn from one key, the noise would *be* the features.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.typing import ArrayLike

from jaxreg import _checks, _trace, models


class Dataset(NamedTuple):
    """Rows of a regression: features ``x``, targets ``y`` and, if rows count unequally, their weights.

    Attributes:
        x: (n, d) or (n,), features.
        y: (n,), targets.
        weight: (n,), non-negative, or None for ones. A mean of losses becomes Σ weight·loss / Σ weight. A row of weight
            zero takes no part, whatever stands in it.
    """

    x: Array
    y: Array
    weight: Array | None = None


def as_dataset(data: Dataset, *, of: str = "") -> Dataset:
    """The same rows as JAX's arrays of floats, which they may be as NumPy's, pandas', lists of numbers or integers.

    Args:
        data: n rows.
        of: names the data set in messages, as in "validation.".

    Raises:
        ValueError: for shapes that do not fit and what is no real number.

    >>> as_dataset(Dataset([1, 2], np.array([1.0, 2.5], ">f4"))).y
    Array([1. , 2.5], dtype=float32)
    """
    return jax.tree.map(jnp.asarray, _read(data, of))


def _read(data: Dataset, of: str = "") -> Dataset:
    """In its own precision, which JAX may not have."""
    if not isinstance(data, Dataset):
        name = of.removesuffix(".") or "data"
        raise ValueError(f"{name} must be a jaxreg.data.Dataset(x, y, weight=None), got {type(data).__name__}")
    return Dataset(*_checks.rows(*data, of=of))


def linear(key: Array, num_rows: int, w: ArrayLike, b: ArrayLike = 0.0, *, noise: ArrayLike = 0.0) -> Dataset:
    """A line: y = x·w + b + noise·ε with x ~ normal(0, 1) and ε ~ normal(0, 1).

    Args:
        key: random key.
        num_rows: n, static.
        w: (d,), true weights, in units of y (x has none).
        b: true bias, in units of y.
        noise: standard deviation of the noise, in units of y.

    Returns:
        Dataset with x (n, d) and y (n,).

    >>> data = linear(jax.random.key(0), 1000, jnp.array([2.0, -3.4]), 4.2, noise=0.01)
    >>> data.x.shape, data.y.shape
    ((1000, 2), (1000,))
    """
    num_rows = _checks.count("num_rows", num_rows, least=1)
    w = jnp.asarray(_checks.array("w", w))
    if w.ndim != 1:
        raise ValueError(f"w must have shape (d,), got {w.shape}")
    key_x, key_noise = jax.random.split(key)
    x = jax.random.normal(key_x, (num_rows, w.shape[0]), w.dtype)
    return Dataset(x, x @ w + b + noise * jax.random.normal(key_noise, (num_rows,), w.dtype))


def ohm(key: Array, num_rows: int, resistance: ArrayLike, *, noise: ArrayLike = 0.0) -> Dataset:
    """Ohm's law: voltage V = I·R + noise·ε (volt) at currents I ~ normal(0, 1 ampere).

    Args:
        key: random key.
        num_rows: n, static.
        resistance: R, in ohm.
        noise: standard deviation of the voltage, in volt.

    Returns:
        Dataset with x (n,), the current in ampere, and y (n,), the voltage in volt.

    >>> data = ohm(jax.random.key(0), 3, 5.1)
    >>> bool(jnp.allclose(data.y / data.x, 5.1))
    True
    """
    num_rows = _checks.count("num_rows", num_rows, least=1)
    resistance = _checks.array("resistance", resistance)
    key_current, key_noise = jax.random.split(key)
    dtype = jnp.result_type(float)
    current = jax.random.normal(key_current, (num_rows,), dtype)
    return Dataset(current, current * resistance + noise * jax.random.normal(key_noise, (num_rows,), dtype))


def planck(
    key: Array, wavelength: ArrayLike, temperature: ArrayLike, *, gain_spread: ArrayLike = 0.0, noise: ArrayLike = 0.0
) -> Dataset:
    """A black body seen by an imperfect instrument: y = B(λ, T)·(1 + gain_spread·u)·(1 + noise·ε).

    One gain u ~ uniform(0, 1) belongs to the whole spectrum; ε ~ normal(0, 1) is drawn for each wavelength.

    Args:
        key: random key.
        wavelength: (n,), in metre.
        temperature: T, in kelvin.
        gain_spread: the largest relative error of calibration, without unit.
        noise: relative standard deviation of each point, without unit.

    Returns:
        Dataset with x (n,), the wavelength in metre, and y (n,), the spectral radiance in W/(m²·sr·m).

    >>> data = planck(jax.random.key(0), jnp.array([5e-7]), 5020.0)
    >>> print(f"{data.y[0]:.3e}")
    1.238e+13
    """
    wavelength = jnp.asarray(_checks.array("wavelength", wavelength))
    temperature = _checks.array("temperature", temperature)
    if wavelength.ndim != 1:
        raise ValueError(f"wavelength must have shape (n,), got {wavelength.shape}")
    key_gain, key_noise = jax.random.split(key)
    gain = 1 + gain_spread * jax.random.uniform(key_gain, (), wavelength.dtype)
    scatter = 1 + noise * jax.random.normal(key_noise, wavelength.shape, wavelength.dtype)
    return Dataset(wavelength, models.planck_radiance(wavelength, temperature) * gain * scatter)


def split(data: Dataset, num_train: int, *, key: Array | None = None) -> tuple[Dataset, Dataset]:
    """Split into the first ``num_train`` rows and the others, shuffled before if a key is given.

    Args:
        data: n rows.
        num_train: rows of the first part, static, between 1 and n - 1.
        key: shuffles the rows before the cut; None keeps their order (as a spectrum or a series needs).

    Returns:
        Two Datasets of ``num_train`` and n - ``num_train`` rows.

    >>> data = Dataset(jnp.arange(5.0), jnp.arange(5.0))
    >>> train, validation = split(data, 3)
    >>> validation.y
    Array([3., 4.], dtype=float32)
    """
    data = _read(data)
    num_rows = len(data.y)
    num_train = _checks.count("num_train", num_train, least=1, most=num_rows - 1)
    if key is not None:
        order = jax.random.permutation(key, num_rows)
        data = jax.tree.map(lambda leaf: jnp.asarray(leaf)[order], data)
    return jax.tree.map(lambda leaf: leaf[:num_train], data), jax.tree.map(lambda leaf: leaf[num_train:], data)


def corrupt_target(data: Dataset, row: ArrayLike, value: ArrayLike) -> Dataset:
    """Set one target: y[row] = value, in units of y. The features stay, so the row has ordinary leverage.

    >>> corrupt_target(Dataset(jnp.zeros(3), jnp.zeros(3)), 1, 10000.0).y
    Array([    0., 10000.,     0.], dtype=float32)
    """
    data = _checked(row, data)
    return data._replace(y=data.y.at[row].set(value))


def corrupt_leverage(data: Dataset, row: ArrayLike, value: ArrayLike) -> Dataset:
    """Scale one row until its target is ``value``: with a = value / y[row], x[row] ← a·x[row] and y[row] ← value.

    On y = x·w the row still lies on the line; with a bias b its residual is b·(a - 1), and its large features give it
    nearly all the leverage. ``y[row]`` must not be zero.

    >>> corrupt_leverage(Dataset(jnp.array([1.0, 3.0]), jnp.array([2.0, 5.0])), 1, 50.0)
    Dataset(x=Array([ 1., 30.], dtype=float32), y=Array([ 2., 50.], dtype=float32), weight=None)
    """
    data = _checked(row, data)
    scale = value / data.y[row]
    return data._replace(x=data.x.at[row].multiply(scale), y=data.y.at[row].set(value))


def corrupt_fraction(key: Array, data: Dataset, fraction: ArrayLike, value: ArrayLike) -> Dataset:
    """Set the targets of a random fraction of the rows: exactly round(fraction·n) of them, drawn without replacement.

    Args:
        key: random key.
        data: n rows.
        fraction: between 0 and 1; may be traced.
        value: the new target, in units of y: one for all, or (n,), read at the corrupted rows.

    >>> data = Dataset(jnp.zeros(1000), jnp.zeros(1000))
    >>> print(int((corrupt_fraction(jax.random.key(0), data, 0.05, 1e4).y == 1e4).sum()))
    50
    """
    data = as_dataset(data)
    num_rows = len(data.y)
    if _trace.concrete(fraction) and not 0 <= np.asarray(fraction) <= 1:
        raise ValueError(f"fraction must be between 0 and 1, got {fraction}")
    rank = jax.random.permutation(key, num_rows)
    return data._replace(y=jnp.where(rank < jnp.round(fraction * num_rows).astype(rank.dtype), value, data.y))


def heavy_tailed_noise(key: Array, data: Dataset, scale: ArrayLike, *, degrees_of_freedom: ArrayLike = 2.0) -> Dataset:
    """Add noise of Student's t distribution to the targets: y + scale·t.

    Args:
        key: random key.
        data: n rows.
        scale: in units of y. The variance is scale²·ν/(ν - 2) for ν > 2, infinite for 1 < ν ≤ 2.
        degrees_of_freedom: ν > 0; 1 is Cauchy's distribution.

    >>> noisy = heavy_tailed_noise(jax.random.key(0), Dataset(jnp.zeros(1000), jnp.zeros(1000)), 0.01)
    >>> bool(jnp.abs(noisy.y).max() > 10 * 0.01)
    True
    """
    data = as_dataset(data)
    return data._replace(y=data.y + scale * jax.random.t(key, degrees_of_freedom, data.y.shape, data.y.dtype))


def check_finite(data: Dataset) -> None:
    """Raise ValueError if a value of the data is not finite, naming field, row and count. For the host.

    Rows of weight zero take no part in a fit and are not looked at.

    >>> check_finite(Dataset(jnp.array([1.0, 2.0]), jnp.array([0.0, jnp.nan])))
    Traceback (most recent call last):
        ...
    ValueError: y must be finite, got nan at row 1 (1 such row of 2)
    """
    data = _read(data)
    num_rows = len(data.y)
    counted = np.ones(num_rows, bool) if data.weight is None else np.asarray(data.weight) != 0
    for name, value in zip(data._fields, data, strict=True):
        if value is None:
            continue
        columns = np.asarray(value).reshape(num_rows, -1)
        bad = ~np.isfinite(columns) & counted[:, None]
        if bad.any():
            row, column = np.argwhere(bad)[0]
            count = int(bad.any(axis=1).sum())
            raise ValueError(
                f"{name} must be finite, got {columns[row, column]} at row {row} "
                f"({count} such row{'s' if count > 1 else ''} of {num_rows})"
            )


def _checked(row: ArrayLike, data: Dataset) -> Dataset:
    # JAX drops a write outside the array in silence, and a corruption that did nothing would look like robustness.
    data = as_dataset(data)
    num_rows = len(data.y)
    if _trace.concrete(row) and not -num_rows <= np.asarray(row) < num_rows:
        raise ValueError(f"row must be between 0 and {num_rows - 1}, got {row}")
    return data
