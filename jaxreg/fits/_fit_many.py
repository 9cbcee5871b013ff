"""``fit_many``: what the user gives, checked, and where the results go."""

from typing import Any

import jax
import numpy as np

from jaxreg import _checks, _trace, blocks
from jaxreg.fits._batch import Batch, canonical
from jaxreg.fits._programs import Form
from jaxreg.least_squares import CurveFit
from jaxreg.least_squares._arguments import box, guess_of, prepare
from jaxreg.least_squares._curve_fit import warn_if_narrowed
from jaxreg.least_squares._problem import Task
from jaxreg.models import Apply, Model, Params
from jaxreg.objective import Loss
from jaxreg.store import Division, Place, Store, open_store


@_trace.undisturbed
def fit_many(
    model: Model | Apply,
    x: Any,
    y: Any,
    p0: Params | None = None,
    *,
    p0_each: bool = False,
    mask: Any = None,
    residuals: bool = True,
    store: Any = None,
    progress: bool | None = None,
    sigma: Any = None,
    absolute_sigma: bool = False,
    bounds: tuple[Any, Any] | None = None,
    fixed: Any = None,
    loss: str | Loss = "squared",
    scale: str | None = None,
    covariance: str = "classic",
    max_steps: int = 5000,
) -> CurveFit:
    """Fit a model to each of m data sets, as ``curve_fit`` does one by one, on all cores or devices.

    Plain Gauss-Newton steps fit the well-behaved data sets; those where a step fails are begun anew with the steps of
    ``curve_fit``, which leave the others alone; of several optima the two may find different ones. One bad data set
    costs only itself: it ends with its own status. Data sets are read in chunks, so memory maps larger than memory go
    in.

    Args:
        model: a Model, or ``f(params, x) -> (n,)``.
        x: (n,) or (n, d), one for all data sets, or (m, n) or (m, n, d), one for each.
        y: (m, n), targets.
        p0: the start of all fits, a pytree of floats; None where the model can guess it from each data set.
        p0_each: whether the leaves of p0 have a leading axis m, a start for each data set.
        mask: (m, n), True for the points that are there.
        residuals: whether the result holds them; they are as large as y.
        store: a directory to keep each finished chunk in (``pip install 'jaxreg[store]'``). The same call goes on where
            a killed one stopped. The fields of the result are then Zarr arrays, read when they are sliced.
        progress: whether to draw a bar (``pip install 'jaxreg[progress]'``); None draws one on a terminal.
        sigma: a scalar, (n,), or (m, n), one for each data set.
        absolute_sigma, bounds, fixed, loss, scale, covariance, max_steps: as for ``curve_fit``, the same for all.

    Returns:
        CurveFit, with a leading axis m on every field.

    Raises:
        ValueError: for shapes that do not fit and what else ``curve_fit`` raises. Values of a single data set raise
            nothing; it ends with INVALID_INPUT or NONFINITE.

    With several processes (``jax.distributed``) make the same call in each: every one fits its share of the chunks.

    >>> import jax.numpy as jnp
    >>> from jaxreg import models
    >>> wavelength = jnp.linspace(3e-7, 2e-6, 64)
    >>> temperature = jnp.array([4000.0, 5000.0, 6000.0])
    >>> spectra = jax.vmap(models.planck_radiance, (None, 0))(wavelength, temperature)
    >>> fit = fit_many(models.planck(), wavelength, spectra)
    >>> print(fit.params["temperature"].round(), fit.status)
    [4000. 5000. 6000.] [0 0 0]
    """
    if not _trace.at_top_level():
        raise ValueError("fit_many is for the host: inside jit, vmap or grad use jax.vmap of curve_fit")
    warn_if_narrowed(x, y, p0, sigma)
    task, form, num_params = _checked(
        model, x, y, p0, p0_each=p0_each, mask=mask, residuals=residuals, sigma=sigma, bounds=bounds, fixed=fixed,
        absolute_sigma=absolute_sigma, loss=loss, scale=scale, covariance=covariance, max_steps=max_steps,
    )  # fmt: skip
    batch = Batch(form, task, num_params, tuple(jax.local_devices()))
    return _Results(batch, store).filled(progress)


def _checked(
    model: Model | Apply,
    x: Any,
    y: Any,
    p0: Any,
    *,
    p0_each: bool,
    mask: Any,
    residuals: bool,
    sigma: Any,
    bounds: Any,
    **options: Any,
) -> tuple[Task, Form, int]:
    """The data sets as one Task, the fields that each has for itself with a leading axis."""
    p0_each, residuals = _checks.flag("p0_each", p0_each), _checks.flag("residuals", residuals)
    y = _array("y", y)
    if y.ndim != 2 or len(y) == 0:
        raise ValueError(f"y must have shape (m, n), a row for each of at least one data set, got {y.shape}")
    x, x_each = _features(x, y.shape)
    mask = None if mask is None else _mask(mask, y.shape)
    sigma, sigma_each = _sigma(sigma, y.shape)
    guess = guess_of(model, options["fixed"]) if p0 is None else None
    first_x = x[0] if x_each else x
    if guess is not None:
        data = [jax.ShapeDtypeStruct(part.shape, canonical(part.dtype)) for part in (first_x, y[0])]
        like = jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), jax.eval_shape(guess, *data))
    else:
        p0 = jax.tree.map(np.asarray, _checks.params("p0", p0))
        like = _first_start(p0, len(y)) if p0_each else p0

    # The first data set stands for all, but for its values: a start of its own may lie outside the bounds.
    own_start = p0_each or guess is not None
    walls = None if own_start else bounds
    shared_sigma = None if sigma_each else sigma
    one, chosen = prepare(model, first_x, y[0], like, sigma=shared_sigma, mask=None, bounds=walls, **options)
    if own_start and bounds is not None:
        one = one._replace(bounds=box(bounds, like))
    start = p0 if guess is None and p0_each else None if guess is not None else one.p0
    task = one._replace(p0=start, x=x, y=y, sigma=sigma if sigma_each else one.sigma, mask=mask)
    each = {"p0": p0_each and guess is None, "x": x_each, "y": True, "sigma": sigma_each, "mask": mask is not None}
    num_params = sum(map(np.size, jax.tree.leaves(like))) if chosen.free is None else sum(chosen.free)
    return task, Form(chosen, guess, tuple(name for name in each if each[name]), residuals), num_params


def _features(x: Any, shape: tuple[int, int]) -> tuple[Any, bool]:
    """x, and whether each data set has its own."""
    x = _array("x", x)
    if x.ndim > 1 and x.shape[:2] == shape:
        return x, True
    if x.ndim in (1, 2) and len(x) == shape[1]:
        return x, False
    raise ValueError(f"x must have shape {shape[1:]} or {shape}, features in an axis after these, got {x.shape}")


def _mask(mask: Any, shape: tuple[int, int]) -> Any:
    mask = np.asarray(_checks.booleans("mask", mask))
    _checks.shape("mask", mask, shape)
    return mask


def _sigma(sigma: Any, shape: tuple[int, int]) -> tuple[Any, bool]:
    """sigma, and whether each data set has its own."""
    if sigma is None or np.ndim(sigma) < 2:
        return sigma, False
    sigma = _array("sigma", sigma)
    _checks.shape("sigma", sigma, shape)
    return sigma, True


def _first_start(p0: Params, num_sets: int) -> Params:
    for path, leaf in jax.tree_util.tree_leaves_with_path(p0):
        if leaf.ndim == 0 or len(leaf) != num_sets:
            name = f"p0{jax.tree_util.keystr(path)}"
            raise ValueError(f"{name} must have a leading axis of {num_sets} data sets, got shape {leaf.shape}")
    return jax.tree.map(lambda leaf: leaf[0], p0)


def _array(name: str, value: Any) -> Any:
    """NumPy's; a memory map as it is, and in its own dtype, to be read in chunks."""
    return np.asarray(_checks.array(name, value, converted=False))


class _Results:
    """The results of a batch while they are filled in, chunk by chunk: in memory, or in a store."""

    def __init__(self, batch: Batch, path: Any) -> None:
        self.batch, self.path = batch, path
        division = Division((), (batch.num_sets,), (batch.chunk,))
        self.store = None if path is None else blocks.first_then_all(lambda: self._opened(division))
        self.division = division if self.store is None else self.store.division
        leaves = jax.tree.leaves(batch.member)
        self.arrays: list[Any] = (
            [np.empty((batch.num_sets, *leaf.shape), leaf.dtype) for leaf in leaves]
            if self.store is None
            else self.store.arrays
        )

    def _opened(self, division: Division) -> Store:
        return open_store(
            self.path,
            axes={"fit": np.arange(self.batch.num_sets)},
            static=(),
            shapes=self.batch.member,
            division=division,
            fingerprint=self.batch.fingerprint(),
        )

    def filled(self, progress: bool | None) -> CurveFit:
        """All results."""
        places = [(index,) for index in range(self.division.num_blocks)]
        stored = self.store is not None
        with blocks.Progress(self.batch.num_sets, progress, stored=stored, unit="fits", failed="failed") as bar:
            for place in blocks.shares(places)[jax.process_index()]:
                self._fill(place, bar)
        if self.store is not None:
            blocks.wait_for_all("chunks stored")
            if jax.process_index() == 0:
                self.store.finish()
        elif jax.process_count() > 1:
            for array in self.arrays:
                blocks.exchange([[array[self._rows(place)] for place in share] for share in blocks.shares(places)])
        return jax.tree.unflatten(jax.tree.structure(self.batch.member), self.arrays)

    def _rows(self, place: Place) -> slice:
        return self.division.selection(place)[0]

    def _fill(self, place: Place, bar: blocks.Progress) -> None:
        rows = self._rows(place)
        leaves = None
        if self.store is not None and self.store.is_finished(place):
            leaves = self.store.read(place)
        restored = leaves is not None
        if leaves is None:
            leaves = self.batch.fitted(rows.start, rows.stop)
            if self.store is not None:
                self.store.write(place, leaves)
        if self.store is None:
            for array, leaf in zip(self.arrays, leaves, strict=True):
                array[rows] = leaf
        status = jax.tree.unflatten(jax.tree.structure(self.batch.member), leaves).status
        bar.advance(len(status), int(np.count_nonzero(status)), restored=restored)
