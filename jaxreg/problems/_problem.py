"""``problem``: what is fitted, as a value: numbers, which JAX traces, beside one form, which chooses the program."""

import dataclasses
import functools
from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np
from jax.typing import ArrayLike

from jaxreg import _checks, _jit, _pickling
from jaxreg.models import Apply, Model, Params
from jaxreg.objective import Loss
from jaxreg.problems import _arguments as arguments
from jaxreg.problems import _sums as sums
from jaxreg.problems import _ties as ties
from jaxreg.problems._form import Form, Order
from jaxreg.problems._priors import prior_term
from jaxreg.problems._starts import order_of, shapes_of_start

_REMEDY = "read it from problem.terms[0], give it with replace(term=0, …)"


@functools.partial(jax.tree_util.register_dataclass, data_fields=["p0", "bounds", "terms"], meta_fields=["form"])
@dataclasses.dataclass(frozen=True, eq=False)
class Problem(_jit.Formed):
    """A fit problem: what ``problem`` makes and ``fit`` solves.

    A pytree: its numbers may be traced and mapped over, as in ``jax.vmap(lambda y: fit(p.replace(y=y)))``.

    Attributes:
        p0: the start; None where the models guess it from the data at each fit.
        bounds: (lower, upper), each shaped like the parameters; None without any.
        terms: the numbers of each term: x, y, sigma, sigma_x, mask, and the keywords of its loss.
        form: all that is static: models, losses, which numbers are free.
    """

    p0: Any
    bounds: Any
    terms: Any
    form: Any

    @property
    def model(self) -> Model | Apply:
        """The model of the only term with data."""
        return self.form.terms[self.only("model")].model

    @property
    def x(self) -> Any:
        """The features of the only term with data."""
        return self.terms[self.only("x")].x

    @property
    def y(self) -> Any:
        """The targets of the only term with data."""
        return self.terms[self.only("y")].y

    @property
    def sigma(self) -> Any:
        """The errors of the only term with data; ones where none were given."""
        return self.terms[self.only("sigma")].sigma

    @property
    def mask(self) -> Any:
        """Which points are there, of the only term with data; None for all."""
        return self.terms[self.only("mask")].mask

    @property
    def sigma_x(self) -> Any:
        """The errors of x of the only term with data; None where it is exact."""
        return self.terms[self.only("sigma_x")].sigma_x

    @property
    def absolute_sigma(self) -> bool:
        """Whether the size of the errors is known, of one term and so of all."""
        return bool(self.form.absolute_sigma)

    @property
    def order(self) -> tuple[str, ...]:
        """The names of parameters in the order in which they were given, or in which the models name them."""
        return order_of(self.form)

    def replace(self, *, term: int | None = None, **changes: Any) -> "Problem":
        """The same problem with other numbers, checked: what ``jit``, ``vmap``, ``grad`` and sweeps vary.

        Args:
            term: whose data are replaced; None for the only term with data.
            changes: p0, bounds, x, y, sigma, sigma_x, mask, and the keywords of the loss by their names (``delta=…``).

        Raises:
            ValueError: for anything else, and for what ``problem`` refuses.

        >>> import jax.numpy as jnp
        >>> import jaxreg
        >>> p = jaxreg.problem(jaxreg.models.ohm(), jnp.arange(3.0), jnp.arange(3.0))
        >>> print(jaxreg.fit(p.replace(y=2 * jnp.arange(3.0))).params["resistance"])
        2.0
        """
        terms = list(self.terms)
        own = {name: value for name, value in changes.items() if name not in ("p0", "bounds")}
        if own:
            place = self.only(next(iter(own)), term)
            terms[place] = arguments.replaced(terms[place], self.form.terms[place], own)
        p0, bounds = changes.get("p0", self.p0), changes.get("bounds", self.bounds)
        if "p0" in changes and p0 is not None and self.p0 is not None:
            arguments.same_params(p0, shapes_of_start(self.p0, self.bounds, self.terms, self.form))
        p0, bounds = arguments.start_and_bounds(p0, bounds, terms, self.form)
        return Problem(p0, bounds, tuple(terms), self.form)

    def __add__(self, other: "Problem") -> "Problem":
        """Both side by side: parameters of one name are one, and the terms' costs add.

        A start that was given beats a guess, and of two guesses the first counts. All terms have a sigma of known size,
        or none has: then one scale, common to all, comes from the residuals of all.

        Raises:
            ValueError: for two starts, bounds or shapes of one name that differ (INVALID_INPUT of the fit under a
                trace), parameters without names, and terms that do not agree on absolute_sigma.

        >>> import jax.numpy as jnp
        >>> import jaxreg
        >>> x, line = jnp.arange(5.0), lambda p, x: p["slope"] * x + p["offset"]
        >>> one = problem(line, x, 2 * x + 1, {"slope": 1.0, "offset": 0.0})
        >>> two = problem(line, x, 2 * x + 3, {"slope": 1.0, "offset": 0.0}).rename({"offset": "other"})
        >>> fit = jaxreg.fit(one + two)
        >>> print({name: round(float(value), 3) for name, value in fit.params.items()})
        {'offset': 1.0, 'other': 3.0, 'slope': 2.0}
        """
        if not isinstance(other, Problem):
            return NotImplemented
        return Problem(*sums.joined(self, other))

    def __radd__(self, other: Any) -> "Problem":
        """So that ``sum(problems)`` is their sum."""
        return self if isinstance(other, int) and other == 0 else NotImplemented

    def rename(self, names: Mapping[str, str]) -> "Problem":
        """The same problem with other names for some parameters, {old: new}; its models keep reading their own."""
        p0, bounds, form = sums.renamed(self, names)
        return Problem(p0, bounds, self.terms, form)

    def tie(self, fn: Callable[[Params], Params]) -> "Problem":
        """The same problem with fewer parameters: ``fn(free)`` gives all that the models take, both dicts.

        Free are those parameters that the result of ``fn`` depends on; they keep their start and bounds, and a guess is
        made now. The fit has all parameters, with errors of all.

        Raises:
            ValueError: if ``fn`` leaves a parameter out, or one that it sets is bounded or fixed.

        >>> import jax.numpy as jnp
        >>> import jaxreg
        >>> x = jnp.arange(5.0)
        >>> p = problem(lambda p, x: p["a"] + p["b"] * x, x, 2 * x + 1, {"a": 0.0, "b": 1.0})
        >>> fit = jaxreg.fit(p.tie(lambda free: {"a": free["a"], "b": 2 * free["a"]}))
        >>> print({name: round(float(value), 3) for name, value in fit.params.items()})
        {'a': 1.0, 'b': 2.0}
        """
        p0, bounds, form = ties.tied(self, fn)
        return Problem(p0, bounds, self.terms, form)

    def starting_at(self, params: Params) -> "Problem":
        """The same problem from other parameters, such as those that a fit found; they are not checked."""
        free = params if self.form.tie is None else {name: params[name] for name in self.p0}
        return dataclasses.replace(self, p0=free)

    def only(self, what: str, term: int | None = None, *, remedy: str = _REMEDY) -> int:
        """The place of the term that is meant: the given one, or the only one with data."""
        places = [place for place, form in enumerate(self.form.terms) if not form.is_prior]
        if term is not None:
            return _checks.count("term", term, least=0, most=len(self.terms) - 1)
        if len(places) != 1:
            raise ValueError(f"{what} is of one term, and this problem has {len(places)} with data: {remedy}")
        return places[0]

    def __copy__(self) -> "Problem":
        return self  # nobody changes it

    def __deepcopy__(self, _: Any) -> "Problem":
        return self

    def __reduce__(self) -> Any:
        numbers = jax.tree.map(_pickling.on_host, (self.p0, self.bounds, self.terms))
        return Problem, (*numbers, jax.tree.map(_pickling.picklable, self.form))

    def __repr__(self) -> str:
        sizes = ("×".join(map(str, np.shape(term.y))) or "1" for term in self.terms)
        words = ("prior of " if form.is_prior else "" for form in self.form.terms)
        return f"Problem({', '.join(word + size for word, size in zip(words, sizes, strict=True))} points)"


def problem(
    model: Model | Apply,
    x: Any,
    y: ArrayLike,
    p0: Params | None = None,
    *,
    sigma: ArrayLike | None = None,
    sigma_x: ArrayLike | None = None,
    absolute_sigma: bool = False,
    mask: ArrayLike | None = None,
    bounds: Any = None,
    fixed: Any = None,
    loss: str | Loss = "squared",
    scale: str | None = None,
) -> Problem:
    """A fit problem: minimise Σ ρ((y - model)/(scale·sigma)), said once and known to all that follows.

    Args:
        model: a Model, or ``f(params, x)``, which gives y's shape; ``models.positional`` makes one of
            ``f(x, *params)``.
        x: what the model takes: an array, or any pytree of arrays, such as a dict or a pair of coordinates.
        y: targets, of any shape. Complex ones count as two residuals each, of the real and the imaginary part.
        p0: the start, any pytree of floats; None where the Model can guess it from the data.
        sigma: standard deviation of y in its units (of each part of a complex one), a scalar or of y's shape, positive;
            or the errors' covariance, (y.size, y.size) in row-major order. None for ones.
        sigma_x: standard deviation of x, a number or of x's shape, zero where x is exact; or a covariance a point,
            (n, d, d) of its d coordinates, or (n, d + 1, d + 1) of these with y, last, and sigma left out. Each point's
            true x is then found with the parameters, and χ² counts its distance from the curve in both. Of x one array,
            a number of y for each point, and a model that takes row by row. Without sigma the errors of y count as 1.
        absolute_sigma: True takes sigma as it is; False scales the covariance by chi2/dof, so that only the ratios of
            the sigmas count. It matters under the squared loss only, and not to a sandwich: those take the size of the
            errors from the residuals.
        mask: of y's shape, True for the points that are there; whatever stands at the others, NaN too, takes no part.
        bounds: (lower, upper), each a number or shaped like p0, or ``{"rate": (0, 5)}``; infinite where none is given.
        fixed: booleans shaped like p0, static: True keeps a parameter at its start.
        loss: "squared"; "huber", "soft_l1", "log_cosh", "cauchy" or "tukey", with the threshold that they have in
            ``losses``, in units of sigma (of scale·sigma); for a model that is linear in its parameters (``features``)
            "absolute" and "quantile", without bounds; for counts "poisson", and ``partial(losses.binomial, trials=n)``
            for successes, without sigma: what they say of errors is known; or the function itself, as in
            ``partial(losses.huber, delta=1.345)``, elementwise in prediction and target, r²/2 near zero.
        scale: None takes the loss's threshold in sigmas; "mad" in sigmas times the median absolute residual / 0.6745,
            found together with the parameters: for errors whose size is not known beforehand.

    Returns:
        Problem.

    Raises:
        ValueError: for shapes that do not fit, what is no real number, a missing start, an unknown name, and values out
            of range (INVALID_INPUT of the fit under a trace): sigma ≤ 0, bounds that cross, a start outside.

    A loss that descends again (Cauchy, Tukey) has many minima and finds the one at its start: start it at the model's
    own init or at a robust fit, not at least squares, which outliers may have carried away.

    >>> import jax.numpy as jnp
    >>> import jaxreg
    >>> x, y = jnp.arange(5.0), jnp.array([0.0, 1.1, 1.9, 3.1, 3.9])
    >>> p = problem(jaxreg.models.ohm(), x, y, sigma=0.1, absolute_sigma=True)
    >>> print(f"{jaxreg.fit(p).stderr['resistance']:.3f}")
    0.018
    """
    _checks.warn_if_narrowed(x, y, p0, sigma, sigma_x)
    return checked_problem(
        model, x, y, p0, sigma=sigma, sigma_x=sigma_x, absolute_sigma=absolute_sigma, mask=mask, bounds=bounds,
        fixed=fixed, loss=loss, scale=scale,
    )  # fmt: skip


def prior(what: Any, mean: ArrayLike | None = None, sigma: ArrayLike | None = None) -> Problem:
    """What is known of parameters beforehand, to be added to a problem: Σ ((parameter - mean)/sigma)².

    It counts as measured: its rows are in the degrees of freedom, its χ² stands in ``chi2_prior``, and its sigma is
    absolute, so the data beside it must have ``absolute_sigma=True``. No loss of the data touches it.

    Args:
        what: {name: (mean, sigma)}, each shaped like the parameter or a number; or a function of all parameters, which
            gives mean's shape.
        mean: of the function.
        sigma: of the function: a number, like mean, or a covariance, (mean.size, mean.size): yesterday's fit is today's
            prior with ``prior(lambda p: ravel_pytree(p)[0], ravel_pytree(old.params)[0], old.covariance)``.

    Returns:
        Problem of one term without data.

    Raises:
        ValueError: for a sigma that is not positive, a covariance that is not positive definite. A name that no term
            has, or a parameter that is fixed, is found by ``fit``.

    >>> import jax.numpy as jnp
    >>> import jaxreg
    >>> x, y = jnp.arange(1.0, 4.0), jnp.array([1.1, 1.9, 3.2])
    >>> data = problem(jaxreg.models.ohm(), x, y, sigma=0.1, absolute_sigma=True)
    >>> fit = jaxreg.fit(data + prior({"resistance": (1.0, 0.01)}))
    >>> print(f"{fit.params['resistance']:.3f} ± {fit.stderr['resistance']:.3f}")
    1.004 ± 0.009
    """
    term, form = prior_term(what, mean, sigma)
    return Problem(None, None, (term,), form)


def checked_problem(
    model: Model | Apply, x: Any, y: Any, p0: Any, *, bounds: Any = None, fixed: Any = None, **of_term: Any
) -> Problem:
    """The problem of arguments that no warning is to be given of any more."""
    term, one = arguments.checked_term(model, x, y, **of_term)
    form = Form((one,), order=Order(p0 if isinstance(p0, dict) else ()))
    p0, bounds = arguments.start_and_bounds(p0, bounds, [term], form)
    return Problem(p0, bounds, (term,), form._replace(free=arguments.free_of(fixed, p0)))
