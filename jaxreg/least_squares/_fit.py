"""``Fit``: what a fit found, with the problem that it was asked; or many of them on leading axes."""

import dataclasses
import functools
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import numpy as np

from jaxreg import _names, _pickling
from jaxreg.least_squares._same_data import check_same_data, on_axes
from jaxreg.least_squares._table import axes_of, dataset_of, table_of
from jaxreg.problems import Problem

if TYPE_CHECKING:
    import pandas
    import xarray

_FIELDS = (
    "params", "stderr", "covariance", "residuals", "chi2", "dof", "status", "num_steps", "at_bound", "undetermined",
    "scale", "culprit", "chi2_prior", "problem", "pooled", "adjusted_x",
)  # fmt: skip


class Pooled(NamedTuple):
    """What a global fit says of the size of the errors, from all data sets: each of them carries it."""

    chi2: Any
    dof: Any
    num_points: Any


@functools.partial(jax.tree_util.register_dataclass, data_fields=_FIELDS, meta_fields=())
@dataclasses.dataclass(frozen=True, eq=False)
class Fit:
    """The result of ``fit`` and ``curve_fit``; of many, as ``fit_many`` or ``vmap`` make them, with leading axes.

    Many have a length, are iterated over, and are selected from as an array is: ``fits[3]``, ``fits[-1]``,
    ``fits[2:5]``, ``fits[fits.status == 0]``. Every field then has the axes of ``status``, the problem's numbers too.

    Attributes:
        params: the estimate, shaped like p0, in the widest dtype of p0, x and y.
        stderr: standard errors, shaped like p0: square roots of the covariance's diagonal, right also where that leaves
            the range of the dtype.
        covariance: (p, p) in ravel_pytree order (a dict is sorted by its keys). 0 for fixed parameters, which are
            given. NaN where there is no estimate: for parameters that ended at a bound, for a fit that failed, and
            where the scale of the errors comes from the residuals and dof is 0; and in entries that leave the range of
            the dtype.
        residuals: of y's shape, y - model, unweighted, in units of y; NaN where masked. Of a sum a tuple, one for each
            term with data. With sigma_x the model is taken at ``adjusted_x``.
        chi2: scalar, Σ (residual/sigma)² of the data, with sigma_x and Σ ((adjusted_x - x)/sigma_x)²; 0 or infinite
            where that leaves the range of the dtype.
        dof: degrees of freedom, the points that are there, and the priors', minus the parameters that are neither fixed
            nor at a bound.
        status: int32 scalar, a ``Status``: OK, KINK, MAX_STEPS, NONFINITE (also where a parameter or its error leaves
            the range of the dtype), SINGULAR or INVALID_INPUT.
        num_steps: int32 scalar, the steps tried.
        at_bound: booleans shaped like p0: ended at a bound, so that the rest is estimated as if it were fixed there;
            None without bounds.
        undetermined: (p,) in ravel_pytree order: if SINGULAR, the combination of parameters, of length 1, that can be
            added without a change of the model at the data; otherwise 0.
        scale: scalar, the unit of the loss's threshold in sigmas, where it is estimated; otherwise None. Of a sum with
            such a term a tuple, one for each term with data.
        culprit: (3,) int32, what made a fit NONFINITE or its input invalid: a ``status.Part``, the first such row (of a
            sum counted through its terms), and the parameter in ravel_pytree order; -1 where there is none.
        chi2_prior: scalar, the same as chi2 of the priors; None without any.
        problem: what was fitted, which all that follows a fit reads; None of a fit without its data.
        pooled: chi2, dof and num_points of all, where the fit is one data set of a ``GlobalFit``, from which the size
            of its errors and their quantiles come; otherwise None.
        adjusted_x: of x's shape, where errors in x put each point's true x; None without sigma_x. Of a sum a tuple, one
            for each term with data.
    """

    params: Any
    stderr: Any
    covariance: Any
    residuals: Any
    chi2: Any
    dof: Any
    status: Any
    num_steps: Any
    at_bound: Any
    undetermined: Any
    scale: Any
    culprit: Any
    chi2_prior: Any = None
    problem: Any = None
    pooled: Any = None
    adjusted_x: Any = None

    def replace(self, **changes: Any) -> "Fit":
        """The same fit with other fields."""
        if unknown := changes.keys() - self.__dict__.keys():
            raise TypeError(f"a fit has no field {', '.join(sorted(unknown))}: it has {', '.join(_FIELDS)}")
        other = object.__new__(Fit)
        other.__dict__.update(self.__dict__, **changes)  # dataclasses.replace takes four times as long
        return other

    def without_data(self) -> "Fit":
        """The fit without its problem, as sweeps and stores keep it."""
        return self.replace(problem=None)

    def with_problem(self, problem: Problem) -> "Fit":
        """The fit with the problem that it was made of, for what follows: one of a store, a sweep or a pickle.

        Of many fits what has the axes of ``status`` before the shape of one is each fit's own, and the rest is shared:
        ``problem.y`` of shape (m, n) with x of shape (n,).

        Raises:
            ValueError: if the parameters are not this problem's, or the fit has another χ² with its data: that of the
                first and the last that did not fail are computed.
        """
        if not isinstance(problem, Problem):
            raise ValueError(f"problem must be one that jaxreg.problem made, got {type(problem).__name__}")
        members = np.shape(self.status)
        known, own = problem.p0, _names.structure(self.params)
        is_part = isinstance(known, dict) and isinstance(self.params, dict) and known.keys() <= self.params.keys()
        if not (known is None or is_part or _names.structure(known) == own):
            raise ValueError(f"the problem has the parameters {_names.structure(known)}, the fit {own}")

        found = self.replace(problem=on_axes(problem, members, self.params) if members else problem)
        check_same_data(found)
        return found

    def to_dataframe(self) -> "pandas.DataFrame":
        """The parameters as a pandas DataFrame.

        Returns:
            For one fit a row for each parameter: value, stderr, status. For many a row for each fit: every parameter
            and its ``…_stderr``, chi2, dof, num_steps, status.

        Raises:
            ImportError: without pandas (``pip install 'jaxreg[tables]'``).
        """
        return table_of(self)

    def to_xarray(self) -> "xarray.Dataset":
        """The fits as an xarray Dataset over the leading axes: "fit", or "fit_0", "fit_1", ….

        Each parameter and its ``…_stderr``, "covariance" (param, param_2), "chi2", "dof", "num_steps", "status". What a
        fit that failed would say of its parameters is NaN.

        Raises:
            ImportError: without xarray (``pip install 'jaxreg[tables]'``).
        """
        return dataset_of(self, axes_of(self), self.problem)

    def __len__(self) -> int:
        self._refuse_one("has no length")
        return int(np.shape(self.status)[0])

    def __getitem__(self, index: Any) -> "Fit":
        self._refuse_one("has no members")
        if isinstance(index, str):
            raise TypeError(f"fits are selected by numbers, and fields are attributes: fits.{index}")
        np.broadcast_to(0, np.shape(self.status))[index]  # an IndexError outside
        plain = isinstance(index, int | np.integer) or (isinstance(index, slice) and (index.step or 1) > 0)

        def selected(leaf: Any) -> Any:  # arrays of a store only by numbers and slices; for all else they are read
            is_array = plain or isinstance(leaf, np.ndarray | jax.Array)
            return (leaf if is_array else leaf[...])[index]

        return jax.tree.map(selected, self)

    def __iter__(self) -> Iterator["Fit"]:
        self._refuse_one("is not iterated over: take fit.params and fit.covariance")
        return (self[place] for place in range(len(self)))

    def __bool__(self) -> bool:
        raise TypeError("a fit is neither true nor false: ask jaxreg.status.is_optimum(fit.status)")

    def _refuse_one(self, what: str) -> None:
        if not np.ndim(self.status):
            raise TypeError(f"this is one fit, which {what}")

    def __repr__(self) -> str:
        many = f"{'×'.join(map(str, np.shape(self.status)))} fits of " if np.ndim(self.status) else ""
        return f"Fit({many}{', '.join(_names.of(self.params, leading=np.ndim(self.status)))})"

    def __getattr__(self, name: str) -> Any:
        if name in ("_replace", "_fields", "_asdict"):
            raise AttributeError(f"a fit is a dataclass, without {name}: fit.replace(…), dataclasses.fields(fit)")
        raise AttributeError(f"a fit has no field {name!r}")

    def __reduce__(self) -> Any:
        parts = (getattr(self, name) for name in _FIELDS)
        return Fit, tuple(
            part if isinstance(part, Problem) else jax.tree.map(_pickling.on_host, part) for part in parts
        )


CurveFit = Fit
