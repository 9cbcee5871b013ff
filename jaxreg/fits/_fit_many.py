"""``fit_many``: the two forms in which data sets come, and where the results go."""

import contextlib
import dataclasses
import functools
from collections.abc import Mapping, Sequence
from typing import Any, overload

import jax
import numpy as np

from jaxreg import _blocks, _checks, _trace
from jaxreg.fits._batch import Batch
from jaxreg.fits._programs import Job
from jaxreg.fits._sets import naming_starts, sets_of_data, sets_of_problem
from jaxreg.fits._shared import check_alone, global_problem, with_axis
from jaxreg.global_fits import GlobalFit, GlobalProblem
from jaxreg.global_fits._driver import fitted
from jaxreg.global_fits._fit import with_numbers
from jaxreg.global_fits._solver import solve
from jaxreg.least_squares import Fit
from jaxreg.least_squares._solver import checked_options, num_free, num_rows, refuse_coupled
from jaxreg.models import Apply, Model, Params
from jaxreg.objective import Loss
from jaxreg.problems import Problem
from jaxreg.status import Status
from jaxreg.store._blocks import Division, Place, Store
from jaxreg.store._filling import fill, stand_ins
from jaxreg.store._opening import open_store


@overload
def fit_many(model: Any, x: Any = ..., y: Any = ..., p0: Any = ..., *, shared: None = None, **options: Any) -> Fit: ...


@overload
def fit_many(
    model: Any, x: Any = ..., y: Any = ..., p0: Any = ..., *, shared: Sequence[str], **options: Any
) -> GlobalFit: ...


@_trace.undisturbed  # type: ignore[misc]  # the options are these
def fit_many(
    model: Model | Apply | Problem,
    x: Any = None,
    y: Any = None,
    p0: Params | None = None,
    *,
    each: Sequence[str] | Mapping[str, Any] | None = None,
    p0_each: bool = False,
    mask: Any = None,
    residuals: bool = True,
    store: Any = None,
    progress: bool | None = None,
    sigma: Any = None,
    sigma_x: Any = None,
    absolute_sigma: bool = False,
    bounds: Any = None,
    fixed: Any = None,
    loss: str | Loss = "squared",
    scale: str | None = None,
    covariance: str = "classic",
    max_steps: int = 5000,
    timeout: float | None = None,
    shared: Sequence[str] | None = None,
) -> Fit | GlobalFit:
    """Fit a model to each of m data sets, as ``curve_fit`` does one by one, on all cores or devices.

    Plain Gauss-Newton steps fit the well-behaved data sets; those where a step fails are begun anew with the steps of
    ``curve_fit``, which leave the others alone; of several optima the two may find different ones. One bad data set
    costs only itself: it ends with its own status. Data sets are read in chunks, so memory maps larger than memory go
    in.

    Args:
        model: a Model, or ``f(params, x)``, which gives the shape of y without m; or a problem, with ``each``.
        x: (n,) or (n, d), one for all data sets, or (m, n) or (m, n, d), one for each; of any other pytree the leaves
            that begin with y's shape are each data set's own.
        y: (m, n), targets, or (m, …) where the model gives more than one axis.
        p0: the start of all fits, a pytree of floats; None where the model can guess it from each data set.
        p0_each: whether the leaves of p0 have a leading axis m, a start for each data set.
        each: of a problem, the names of what each data set has for itself, on a leading axis, of y, sigma, mask, x, p0,
            sigma_x, bounds and the loss's keywords: ``each=("y", "sigma")``; or these with their values:
            ``each={"y": spectra}``.
        mask: shaped like y, or like one data set, True for the points that are there.
        residuals: whether the result holds them; they are as large as y.
        store: a directory to keep each finished chunk in (``pip install 'jaxreg[store]'``). The same call goes on where
            a killed one stopped. The fields of the result are then Zarr arrays, read when they are sliced.
        progress: whether to draw a bar (``pip install 'jaxreg[progress]'``); None draws one on a terminal.
        sigma: a scalar, (n,), or (m, n), one for each data set; or the covariance of a data set's errors, (n, n).
        sigma_x: as for ``problem``, with an axis m in front where each data set has its own.
        absolute_sigma, bounds, fixed, loss, scale, covariance, max_steps: as for ``curve_fit``, the same for all.
        timeout: seconds, compilation included, after which the fits that are not done end with ``Status.TIMEOUT``,
            where they stand, or NaN where they were not begun. With a store the chunk that was begun is finished, and
            the same call goes on from there.
        shared: names of parameters that are one for all data sets: a *global* fit. The others are each data set's own.
            With ``p0_each`` the starts of shared ones may have the leading axis, and then are equal; bounds of own ones
            may have it too. A prior of shared parameters counts once, one that reads an own parameter for each data
            set. A data set that cannot begin (NaN, fewer points than own parameters) takes no part. The errors are
            "classic", their scale, if sigma is not absolute, is one for all. There are these two levels, and no third.
            Such a call also goes through jit, vmap and grad; no derivative depends on bounds, and a kink ends as
            MAX_STEPS.

    Returns:
        Fit, with a leading axis m on every field, and a length m: ``fits[3]`` is one fit. What all data sets share
        stands in ``fits.problem`` as a view that takes no memory. With ``shared`` a ``GlobalFit``.

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
    if shared is None and not _trace.at_top_level():
        raise ValueError("fit_many is for the host: inside jit, vmap or grad use jax.vmap of fit or curve_fit")
    _checks.seconds("timeout", timeout)
    end = _blocks.Deadline(timeout)
    if isinstance(model, Problem):
        given = (x, y, p0, mask, sigma, sigma_x, bounds, fixed, scale)
        if any(value is not None for value in given) or absolute_sigma or p0_each or loss != "squared":
            raise ValueError("the problem knows its data, sigma, bounds and loss: fit_many(problem, each=(…))")
        sets = sets_of_problem(model, each)
    elif each is not None:
        raise ValueError("each is for a problem, fit_many(problem, each=(…)): of a model's data the shapes say it")
    else:
        _checks.warn_if_narrowed(x, y, p0, sigma, sigma_x, level=4)
        p0 = p0 if shared is None or not p0_each else with_axis(p0, shared, y)
        sets = sets_of_data(
            model, x, y, p0, p0_each=p0_each, mask=mask, sigma=sigma, sigma_x=sigma_x,
            bounds=bounds if shared is None else None, fixed=fixed, absolute_sigma=absolute_sigma, loss=loss,
            scale=scale,
        )  # fmt: skip
    naming = contextlib.nullcontext() if isinstance(model, Problem) else naming_starts(sets)
    if shared is not None:
        check_alone(store=store, timeout=timeout, covariance=covariance)
        with naming:
            return _together(global_problem(sets, shared, bounds), max_steps, residuals=residuals)
    options = checked_options(sets.one, covariance, max_steps)
    leaves, structure = jax.tree.flatten(dataclasses.replace(sets.problem, form=None))
    own = tuple(jax.tree.leaves(sets.own))
    job = Job(options, sets.problem.form, structure, own, _checks.flag("residuals", residuals))
    counts = num_rows(sets.one), num_free(sets.one)
    with naming:
        batch = Batch(job, leaves, tuple(jax.tree.leaves(sets.dtypes)), *counts, tuple(jax.local_devices()))
    fits = _Results(batch, store, end).filled(progress)
    fits = fits.replace(problem=jax.tree.map(functools.partial(_on_axis, batch.num_sets), sets.problem, sets.own))
    if any(term.sigma_x is not None for term in sets.problem.terms):
        for place in np.flatnonzero(np.asarray(fits.status) == Status.INVALID_INPUT)[:1]:
            refuse_coupled(fits[place].problem, fits.status[place])
    return fits


def _together(problem: GlobalProblem, max_steps: int, *, residuals: bool) -> GlobalFit:
    """The fit of data sets that share parameters."""
    max_steps, residuals = _checks.count("max_steps", max_steps, least=0), _checks.flag("residuals", residuals)
    fit = fitted(problem, max_steps) if _trace.at_top_level() else solve(problem, max_steps, differentiable=True)
    fit = fit if residuals else fit.replace(each=fit.each.replace(residuals=None))
    return with_numbers(fit, problem)


def _on_axis(num_sets: int, leaf: Any, is_own: bool) -> Any:
    """What all share as a view with the leading axis of what each has."""
    return leaf if is_own else np.broadcast_to(leaf, (num_sets, *np.shape(leaf)))


class _Results:
    """The results of a batch while they are filled in, chunk by chunk: in memory, or in a store."""

    def __init__(self, batch: Batch, path: Any, end: _blocks.Deadline) -> None:
        self.batch, self.path, self.end = batch, path, end
        division = Division((), (batch.num_sets,), (batch.chunk,))
        self.store = None if path is None else _blocks.first_then_all(lambda: self._opened(division))
        self.division = division if self.store is None else self.store.division
        leaves, self.rests = jax.tree.leaves(batch.member), stand_ins(batch.member)
        self.arrays: list[Any] = (
            [np.empty((batch.num_sets, *leaf.shape), leaf.dtype) for leaf in leaves]
            if self.store is None
            else self.store.arrays
        )
        for array, rest in zip(self.arrays, self.rests, strict=True) if self.store is None and end.may_pass() else ():
            array[...] = rest

    def _opened(self, division: Division) -> Store:
        return open_store(
            self.path,
            axes={"fit": np.arange(self.batch.num_sets)},
            static=(),
            shapes=self.batch.member,
            division=division,
            fingerprint=self.batch.fingerprint(),
        )

    def filled(self, progress: bool | None) -> Fit:
        """All results."""
        places = [(index,) for index in range(self.division.num_blocks)]
        stored = self.store is not None
        with _blocks.Progress(
            self.batch.num_sets, progress, stored=stored, unit="fits", failed="failed", end=self.end
        ) as bar:
            fill(
                places,
                self.store,
                restored=functools.partial(self._restored, bar),
                compute=functools.partial(self._computed, bar),
            )
        late = self.store is not None and self.end.has_passed()
        for place in places if late else ():
            self._leave_out(place)
        for array in self.arrays if self.store is None else ():
            _blocks.exchange(places, functools.partial(self._part, array))
        return jax.tree.unflatten(jax.tree.structure(self.batch.member), self.arrays)

    def _part(self, array: np.ndarray, place: Place) -> np.ndarray:
        part: np.ndarray = array[self.division.selection(place)]
        return part

    def _restored(self, bar: _blocks.Progress, place: Place) -> bool:
        leaves = None if self.store is None else self.store.read(place)
        if leaves is not None:
            self._advance(bar, leaves, restored=True)
        return leaves is not None

    def _computed(self, bar: _blocks.Progress, places: list[Place]) -> None:
        for place in places:
            rows = self.division.selection(place)[0]
            # In a store a block is whole or not there.
            end = self.end if self.store is None else _blocks.Deadline(None)
            leaves = self.batch.fitted(rows.start, rows.stop, end)
            if self.store is None:
                for array, leaf in zip(self.arrays, leaves, strict=True):
                    self._part(array, place)[...] = leaf
            else:
                self.store.write(place, leaves)
            self._advance(bar, leaves)

    def _leave_out(self, place: Place) -> None:
        """Say of a block that the store does not have that there was no time; it is not marked as finished."""
        assert self.store is not None
        if not self.store.is_finished(place):
            number = self.rests.index(Status.TIMEOUT)
            self.arrays[number][self.division.selection(place)] = Status.TIMEOUT

    def _status(self, leaves: list[np.ndarray]) -> Any:
        return jax.tree.unflatten(jax.tree.structure(self.batch.member), leaves).status

    def _advance(self, bar: _blocks.Progress, leaves: list[np.ndarray], *, restored: bool = False) -> None:
        status = self._status(leaves)
        bar.advance(len(status), int(np.count_nonzero(status)), restored=restored)
