"""``GlobalFit``: what a global fit found, of all data sets and of each."""

import dataclasses
import functools
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxreg import _names, _pickling
from jaxreg.global_fits._problem import GlobalProblem, names_of
from jaxreg.least_squares import Fit
from jaxreg.least_squares._same_data import check_same_data
from jaxreg.status import Part

if TYPE_CHECKING:
    import pandas
    import xarray

_FIELDS = (
    "params", "stderr", "covariance", "chi2", "dof", "status", "num_steps", "at_bound", "undetermined", "chi2_prior",
    "each", "problem",
)  # fmt: skip


@functools.partial(jax.tree_util.register_dataclass, data_fields=_FIELDS, meta_fields=())
@dataclasses.dataclass(frozen=True, eq=False)
class GlobalFit:
    """The result of ``fit_many`` with ``shared``: one fit of m data sets, with some parameters in common.

    Attributes:
        params: the estimate: shared parameters as they are in p0, the others with a leading axis m.
        stderr: standard errors, shaped like params, of all that was fitted together.
        covariance: (s, s), of the shared parameters that are free, in ravel_pytree order; NaN as in a ``Fit``.
        chi2: scalar, Σ (residual/sigma)² of all data sets that took part.
        dof: their points, and the priors, minus all parameters that are neither fixed nor at a bound.
        status: int32 scalar, how the joint fit ended. Data sets that took no part have theirs in ``status_each``.
        num_steps: int32 scalar, the joint steps tried.
        at_bound: booleans shaped like params; None without bounds.
        undetermined: (s,), if SINGULAR the combination of shared parameters that the data do not determine.
        chi2_prior: scalar, of the priors; None without any.
        each: the data sets as a ``Fit`` with leading axis m: ``fit.each[3]`` has the parameters of one, their joint
            covariance, its residuals, status, chi2, and dof, its points minus its own parameters alone. What looks at
            one fit takes it (``band``, ``derived``, ``plots.fit``), with the size of the errors and the quantiles of
            the joint fit; what would refit it alone (profiles, the bootstrap) refuses it.
        problem: a ``GlobalProblem``, what was fitted.
    """

    params: Any
    stderr: Any
    covariance: Any
    chi2: Any
    dof: Any
    status: Any
    num_steps: Any
    at_bound: Any
    undetermined: Any
    chi2_prior: Any
    each: Fit
    problem: Any = None

    @property
    def status_each(self) -> Any:
        """(m,), of each data set: INVALID_INPUT or NONFINITE of those that took no part, SINGULAR of own parameters
        that are not determined, the joint status of the others.
        """
        return self.each.status

    @property
    def chi2_each(self) -> Any:
        """(m,), of each data set; NaN of those that took no part."""
        return self.each.chi2

    @property
    def dof_each(self) -> Any:
        """(m,), the points of each data set minus its own parameters, 0 of those that took no part.

        ``dof`` is their sum minus the shared ones.
        """
        return self.each.dof

    @property
    def residuals(self) -> Any:
        """(m, n), y - model; NaN where masked, and of data sets that took no part."""
        return self.each.residuals

    @property
    def scale(self) -> Any:
        """(m,), the unit of each data set's loss, where it is estimated."""
        return self.each.scale

    def replace(self, **changes: Any) -> "GlobalFit":
        """The same fit with other fields."""
        return dataclasses.replace(self, **changes)

    @property
    def shared(self) -> tuple[str, ...]:
        """The names of the parameters that are one for all data sets."""
        own = self.each.params
        return tuple(name for name in self.params if self._first(self.params[name]) < self._first(own[name]))

    @staticmethod
    def _first(tree: Any) -> int:
        """Axes of the first array."""
        return np.ndim(jax.tree.leaves(tree)[0])

    @property
    def of_shared(self) -> Fit:
        """The shared parameters as one fit, without its data: what looks at parameters alone takes it."""

        def alone(tree: Any) -> Any:
            return None if tree is None else {name: tree[name] for name in self.shared}

        nothing = jnp.broadcast_to(jnp.array([Part.NOTHING, -1, -1], jnp.int32), (*np.shape(self.status), 3))
        return Fit(
            alone(self.params), alone(self.stderr), self.covariance, None, self.chi2, self.dof, self.status,
            self.num_steps, alone(self.at_bound), self.undetermined, None, nothing, self.chi2_prior,
        )  # fmt: skip

    def without_data(self) -> "GlobalFit":
        """The fit without its problem, as sweeps and stores keep it."""
        return self.replace(each=self.each.without_data(), problem=None)

    def with_problem(self, problem: GlobalProblem) -> "GlobalFit":
        """The fit with the problem that it was made of, such as the ``problem`` of the same call with max_steps=0.

        Raises:
            ValueError: if it is no ``GlobalProblem``, or the fit has another χ² with its data.
        """
        if not isinstance(problem, GlobalProblem):
            raise ValueError(f"problem must be that of a global fit, got {type(problem).__name__}")
        found = with_numbers(self, problem)
        check_same_data(found.each)
        return found

    def to_dataframe(self) -> "pandas.DataFrame":
        """A row for each data set: the shared parameters, which are the same in all, and its own; see ``Fit``."""
        return self.each.to_dataframe()

    def to_xarray(self) -> "xarray.Dataset":
        """The data sets as an xarray Dataset over "fit", the shared parameters too; see ``Fit``."""
        return self.each.to_xarray()

    def __reduce__(self) -> Any:
        bare = jax.tree.map(_pickling.on_host, self.without_data())
        return with_numbers, (tuple(getattr(bare, name) for name in _FIELDS[:-1]), self.problem)

    def cross_covariance(self, one: int, other: int) -> Any:
        """The covariance of the own parameters of one data set with those of another: (o, o), in ravel_pytree order.

        With C of the shared parameters and K that of a data set's own with them it is K₁ C⁻¹ K₂ᵀ.
        """
        names = names_of(jax.tree.map(lambda leaf: leaf[0], self.each.params))
        is_shared = np.isin(names, self.problem.form.shared)
        matrix = np.asarray(self.each.covariance)
        if one == other:
            return matrix[one][np.ix_(~is_shared, ~is_shared)]
        diagonal = np.diagonal(matrix[one])
        known = is_shared & np.isfinite(diagonal) & (diagonal > 0)
        left, right = (matrix[place][np.ix_(~is_shared, known)] for place in (one, other))
        return left @ np.linalg.solve(matrix[one][np.ix_(known, known)], right.T)

    def __repr__(self) -> str:
        return f"GlobalFit({', '.join(_names.leaf_names(self.params))} of {np.shape(self.each.status)[-1]} data sets)"


def with_numbers(fit: Any, problem: GlobalProblem | None) -> GlobalFit:
    """A global fit, or its fields, with its problem, and in each data set a view of it."""
    found = fit if isinstance(fit, GlobalFit) else GlobalFit(*fit)
    batch = None if problem is None else problem.batch()
    return found.replace(each=found.each.replace(problem=batch), problem=problem)
