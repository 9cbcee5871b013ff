"""``fit_cube``: a fit along some dimensions of a labelled array, for each point of the others."""

import functools
import math
import threading
import warnings
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import numpy as np

from jaxreg import _checks, _trace
from jaxreg._tables import xarray
from jaxreg.fits import fit_many
from jaxreg.labelled._own import Own, common_and_own, names_of, taken_apart
from jaxreg.least_squares import Fit, fit
from jaxreg.least_squares._table import check_names, check_results, dataset_of
from jaxreg.models import Apply, Model
from jaxreg.problems import Problem
from jaxreg.problems._problem import checked_problem
from jaxreg.problems._starts import shapes_of_start

if TYPE_CHECKING:
    from xarray import DataArray, Dataset

# One block at a time: each is fitted on all cores, and meanwhile dask's other threads read and write.
_ONE_BLOCK = threading.Lock()


def fit_cube(
    da: "DataArray",
    model: Model | Apply,
    coords: str | Sequence[str],
    *,
    p0: Any = None,
    sigma: Any = None,
    absolute_sigma: bool = False,
    bounds: Any = None,
    fixed: Any = None,
    loss: Any = "squared",
    scale: str | None = None,
    covariance: str = "classic",
    max_steps: int = 5000,
    skipna: bool = True,
) -> "Dataset":
    """Fit a model along one or several dimensions of an xarray DataArray, at each point of the others.

    As ``fit_many`` does, on all cores or devices. An array of dask's stays lazy: one call for each of its chunks, when
    the result is computed or written (``open_zarr`` to ``to_zarr`` needs the memory of a few chunks).

    Args:
        da: real or complex numbers, with any dimensions beside the fitted ones.
        model: a Model, or ``f(params, x)``. x is (n,), the coordinate along the fitted dimension; of several
            coordinates it is (n, d), a column for each, over all n points of their dimensions.
        coords: the coordinate to fit along, by its name, or several. Their dimensions are those that are fitted.
        p0: the start: a dict of numbers or of DataArrays without the fitted dimensions; None where the model guesses.
        sigma: standard deviations of the data: a number, or a DataArray with some or all of the dimensions.
        bounds: (lower, upper), each a number or a dict as p0 is, or ``{"rate": (0, 5)}``; both may hold DataArrays, and
            leave parameters out.
        absolute_sigma, fixed, loss, scale, covariance, max_steps: as for ``curve_fit``.
        skipna: whether NaN is a point that is not there; otherwise a fit with one ends with NONFINITE.

    Returns:
        Dataset over the other dimensions, with their coordinates and the attributes of ``da``: each parameter and its
        ``…_stderr``, "covariance" (param, param_2), "chi2", "dof", "num_steps", and "status", a ``Status``. What a fit
        that failed would say of its parameters is NaN.

    Raises:
        ValueError: for names and dimensions that are not there, coordinates that are no finite numbers, a parameter
            that has the name of a result, a coordinate or a dimension, and what ``curve_fit`` refuses.
        ImportError: without xarray (``pip install 'jaxreg[tables]'``).

    Warns:
        UserWarning: where dask has cut a fitted dimension into chunks, which are then put together.

    >>> import jax.numpy as jnp
    >>> import xarray
    >>> time = np.linspace(0.0, 2.0, 20, dtype=np.float32)
    >>> rates = xarray.DataArray(np.array([[0.5, 1.0], [1.5, 2.0]], np.float32), dims=("y", "x"))
    >>> cube = np.exp(-rates * xarray.DataArray(time, coords={"time": time}))
    >>> found = fit_cube(cube, lambda p, t: jnp.exp(-p["rate"] * t), "time", p0={"rate": 1.0})
    >>> found.rate.values.round(3)
    array([[0.5, 1. ],
           [1.5, 2. ]], dtype=float32)
    """
    library = xarray()
    if not _trace.at_top_level():
        raise ValueError("fit_cube is for the host: inside jit, vmap or grad use jax.vmap of fit or curve_fit")
    if not isinstance(da, library.DataArray):
        remedy = "one variable of it, ds['name']" if isinstance(da, library.Dataset) else "fit_many takes plain arrays"
        raise ValueError(f"da must be an xarray.DataArray, got {type(da).__name__}: {remedy}")
    if not all(size > 0 for size in da.shape):  # unknown ones are NaN
        raise ValueError(f"da must have at least one point and known sizes, as compute gives, got {dict(da.sizes)}")
    x, core = _features(da, coords)
    da = _whole(da, core)
    one_of_da = np.zeros(1, da.dtype)
    _checks.warn_if_narrowed(one_of_da, level=3)
    y = np.zeros(len(x), _checks.array("da", one_of_da, is_complex=True).dtype)
    common, own_given = common_and_own(da, core, p0, sigma, bounds)
    one = checked_problem(
        model, x, y, mask=None, absolute_sigma=absolute_sigma, fixed=fixed, loss=loss, scale=scale, **common
    )
    shapes = shapes_of_start(one.p0, one.bounds, one.terms, one.form)
    check_names(shapes, 0, {*da.dims, *da.coords})
    own, arrays = taken_apart(own_given, shapes)
    rest = tuple(dim for dim in da.dims if dim not in core)
    job = _Job(one, one.form, rest, core, own, _checks.flag("skipna", skipna), _trace.x64(), covariance, max_steps)
    kept = {name: found for name, found in da.coords.items() if not set(found.dims) & set(core)}
    check_results({*rest, *kept})
    bare = da.drop_vars(list(da.coords))
    if da.chunks is None:
        found = _fitted(bare, *arrays, job=job)
    else:
        each: Fit = jax.eval_shape(lambda one: fit(one, **job.options).without_data(), one)
        template = dataset_of(jax.tree.map(functools.partial(_lazy, da, job), each), rest, one)
        arrays = [array.chunk({dim: da.chunksizes[dim] for dim in array.dims}) for array in arrays]
        found = library.map_blocks(_fitted, bare, arrays, {"job": job}, template)
    return found.assign_coords(kept).assign_attrs(da.attrs)


class _Job(NamedTuple):
    """What is the same for all blocks.

    Attributes:
        problem: of one point, into which each block puts its own numbers.
        form: the problem's. Dask sends any function to other processes; a problem that is pickled leaves some out.
        rest: the dimensions of the result.
        core: those that are fitted.
        own: which numbers each point has for itself.
        skipna: whether NaN is left out.
        x64: whether double precision is on where the call was made, of which dask's threads do not know.
        covariance: as for ``fit``.
        max_steps: as for ``fit``.
    """

    problem: Problem
    form: Any
    rest: tuple[Any, ...]
    core: tuple[Any, ...]
    own: Own
    skipna: bool
    x64: bool
    covariance: str
    max_steps: int

    @property
    def options(self) -> dict[str, Any]:
        """Those of ``fit`` and ``fit_many``."""
        return {"covariance": self.covariance, "max_steps": self.max_steps}


def _fitted(da: "DataArray", *arrays: "DataArray", job: _Job) -> "Dataset":
    """The fits of a block."""
    sizes = tuple(da.sizes[dim] for dim in job.rest)
    y = np.asarray(da.transpose(*job.rest, *job.core).values).reshape(math.prod(sizes), -1)
    each = {"y": y, **job.own.values(arrays, dict(da.sizes), job.rest, job.core)}
    if job.skipna and y.dtype.kind in "fc":
        each["mask"] = ~np.isnan(y)
    problem = job.problem.with_form(job.form)
    with _ONE_BLOCK, jax.enable_x64(job.x64):
        fits = fit_many(problem, each=each, residuals=False, progress=False, **job.options)
    fits = jax.tree.map(lambda leaf: leaf.reshape((*sizes, *leaf.shape[1:])), fits.without_data())
    return dataset_of(fits, job.rest, problem)


def _lazy(da: "DataArray", job: _Job, one: Any) -> Any:
    """What stands for a leaf of all fits, given one fit's."""
    import dask.array

    sizes, chunks = ([of[dim] for dim in job.rest] for of in (da.sizes, da.chunksizes))
    return dask.array.zeros((*sizes, *one.shape), dtype=one.dtype, chunks=(*chunks, *one.shape))


def _features(da: "DataArray", coords: str | Sequence[str]) -> tuple[np.ndarray, tuple[Any, ...]]:
    """The coordinates as an array of points, and their dimensions."""
    names = names_of("coords", coords, known=())  # xarray takes a tuple for places
    for name in names:
        if name not in da.coords and name not in da.dims:
            known = ", ".join(map(repr, dict.fromkeys((*da.dims, *da.coords))))
            raise ValueError(f"coords must name coordinates of da, {known}, got {name!r}")
    arrays = [da[name] for name in names]
    core = tuple(dict.fromkeys(dim for array in arrays for dim in array.dims))
    if not core:
        raise ValueError(f"coords must have a dimension to fit along, got {', '.join(map(repr, names))} without one")
    whole = [array.expand_dims({dim: da.sizes[dim] for dim in core if dim not in array.dims}) for array in arrays]
    columns = [_numbers(name, array.transpose(*core).values.ravel()) for name, array in zip(names, whole, strict=True)]
    return columns[0] if len(columns) == 1 else np.stack(columns, axis=-1), core


def _numbers(name: str, values: Any) -> np.ndarray:
    if values.dtype.kind in "mM":
        since = "(da[{0!r}] - da[{0!r}][0])" if values.dtype.kind == "M" else "da[{0!r}]"
        raise ValueError(
            f"the coordinate {name!r} must be numbers, got {values.dtype}: da.assign_coords({name}="
            f"{since.format(name)} / numpy.timedelta64(1, 's')) makes seconds of it"
        )
    found: np.ndarray = np.asarray(_checks.array(f"the coordinate {name!r}", values))
    if not np.isfinite(found).all():
        raise ValueError(f"the coordinate {name!r} must be finite, got {found[~np.isfinite(found)][0]}")
    return found


def _whole(da: "DataArray", core: tuple[Any, ...]) -> "DataArray":
    """The array with each fitted dimension in one chunk."""
    cut = {dim: -1 for dim, chunks in da.chunksizes.items() if dim in core and len(chunks) > 1}
    if cut:
        warnings.warn(
            f"da is fitted along {', '.join(map(repr, cut))}, which has several chunks: they are put together, as "
            f"da.chunk({cut}) does",
            stacklevel=3,
        )
    return da.chunk(cut) if cut else da
