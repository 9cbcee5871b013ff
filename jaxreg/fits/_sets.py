"""Many data sets as one problem whose numbers have a leading axis where each data set has its own."""

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from jaxreg import _checks, _names, _trace
from jaxreg.losses._kinds import Kind
from jaxreg.models import Apply, Model
from jaxreg.models._model import apply_of
from jaxreg.problems import Problem
from jaxreg.problems import _arguments as arguments
from jaxreg.problems._errors import is_joint, shapes_of_sigma_x, sigma_of_joint
from jaxreg.problems._problem import checked_problem
from jaxreg.problems._starts import shapes_of_start


class Sets(NamedTuple):
    """Data sets to be fitted.

    Attributes:
        problem: with all numbers, those that each data set has for itself on a leading axis.
        own: like the problem, for each of its numbers whether that is so.
        dtypes: like the problem, what each number is computed in; memory maps are read in parts, and converted then.
        one: the problem of the first data set; its values are not looked at.
    """

    problem: Problem
    own: Any
    dtypes: Any
    one: Problem


def sets_of_data(
    model: Model | Apply,
    x: Any,
    y: Any,
    p0: Any,
    *,
    p0_each: bool,
    mask: Any,
    sigma: Any,
    sigma_x: Any,
    bounds: Any,
    **given: Any,
) -> Sets:
    """Of the arguments of ``fit_many``: what has y's shape is each data set's own."""
    if y is None:
        raise ValueError("y must be given, as in fit_many(model, x, y, p0), got None")
    p0_each = _checks.flag("p0_each", p0_each)
    if (
        isinstance(y, list | tuple)
        and len({len(one) for one in y if isinstance(one, list | tuple) or np.ndim(one)}) > 1
    ):
        raise ValueError(
            "y must be one array (m, n), got data sets of unequal lengths: fill x and y up to the longest with NaN, "
            "and pass mask=np.isfinite(y)"
        )
    y = _array("y", y)
    if y.ndim < 2 or y.size == 0:
        raise ValueError(f"y must have shape (m, n), a row for each of at least one data set, got {y.shape}")
    x, x_own = _features(x, y.shape)
    mask, mask_own = _like("mask", mask, y.shape)
    sigma, sigma_own = _sigma(sigma, y.shape)
    like = p0
    if p0 is not None:
        start, p0 = p0, jax.tree.map(_gathered, _checks.params("p0", p0))
        like = _names.in_order(_first_start(p0, len(y)) if p0_each else p0, start)

    # The first data set stands for all, but for its values: a start of its own may lie outside the bounds.
    first_x = jax.tree.map(lambda leaf, own: leaf[0] if own else leaf, x, x_own)
    first_y = np.zeros(y.shape[1:], arguments.native(y.dtype))
    sigma_x, first_sigma_x, sigma_x_own = _sigma_x(sigma_x, first_x, first_y, len(y))
    one = checked_problem(
        model, first_x, first_y, like, sigma=None if sigma_own else sigma, sigma_x=first_sigma_x, mask=None,
        bounds=None if p0_each else bounds, **given,
    )  # fmt: skip
    box = one.bounds
    if p0_each and bounds is not None:
        box = arguments.box(bounds, like)
    joint = sigma_x_own and is_joint(*map(np.shape, (one.sigma_x, one.x, one.y)))
    sigma = sigma_of_joint(sigma_x) if joint else sigma if sigma_own else one.sigma
    term = one.terms[0]._replace(x=x if any(jax.tree.leaves(x_own)) else one.x, y=y, sigma=sigma, mask=mask)
    term = term._replace(sigma_x=sigma_x if sigma_x_own else one.sigma_x)
    problem = Problem(p0 if p0_each else one.p0, box, (term,), one.form)
    no = jax.tree.map(lambda _: False, problem)
    own_term = no.terms[0]._replace(
        x=x_own,
        y=True,
        sigma=sigma_own or joint,
        mask=None if mask is None else mask_own,
        sigma_x=None if sigma_x is None else sigma_x_own,
    )
    own = Problem(jax.tree.map(lambda _: p0_each, problem.p0), no.bounds, (own_term,), one.form)
    return Sets(problem, own, _dtypes(problem), one)


@contextlib.contextmanager
def naming_starts(sets: Sets) -> Iterator[None]:
    """Where the model fails, as starts of each data set do of which nobody said so: only then is it called for that."""
    try:
        yield
    except (TypeError, ValueError) as error:
        (term,), (form,) = sets.one.terms, sets.one.form.terms
        num_sets, p0, apply = len(sets.problem.terms[0].y), sets.one.p0, apply_of(form.model)

        def taken(p0: Any) -> bool:
            try:
                jax.eval_shape(apply, p0, term.x)
            except (TypeError, ValueError):
                return False
            return True

        places = [path for path, leaf in jax.tree_util.tree_leaves_with_path(p0) if leaf.shape[:1] == (num_sets,)]
        first = jax.tree.map(lambda leaf: leaf[0] if leaf.shape[:1] == (num_sets,) else leaf, p0)
        if places and not taken(p0) and taken(first):
            raise ValueError(
                f"p0{jax.tree_util.keystr(places[0])} has a start for each of {num_sets} data sets, which the model "
                "does not take at once: say p0_each=True"
            ) from error
        raise


def sets_of_problem(problem: Problem, each: Sequence[str] | Mapping[str, Any] | None) -> Sets:
    """Of a problem some of whose numbers have a leading axis, or are given with one."""
    if not each or isinstance(each, str):
        raise ValueError(f'each must name what each data set has for itself, as in each=("y",), got {each!r}')
    place = problem.only("each", remedy="fit each data set by jaxreg.fit, or vmap over it")
    form = problem.form.terms[place]
    known = {"x", "y", "sigma", "sigma_x", "mask", "p0", "bounds", *problem.terms[place].keywords}
    if unknown := set(each) - known:
        raise ValueError(f"each must be of {', '.join(sorted(known))}, got {', '.join(sorted(unknown))}")
    if "sigma" in each and form.kind is Kind.LIKELIHOOD:
        raise ValueError("sigma must not be in each for counts, which know the size of their errors")
    whole = _with_values(problem, place, each if isinstance(each, Mapping) else {})
    term = whole.terms[place]

    def marked(name: str, value: Any) -> Any:
        return jax.tree.map(lambda _: name in each, value)

    own_term = term._replace(
        **{name: marked(name, getattr(term, name)) for name in ("x", "y", "sigma", "sigma_x", "mask")},
        keywords={name: name in each for name in term.keywords},
    )
    if _says_sigma(term, each):
        term, own_term = term._replace(sigma=sigma_of_joint(term.sigma_x)), own_term._replace(sigma=True)
        whole = Problem(whole.p0, whole.bounds, _with(whole.terms, place, term), whole.form)
    own_terms = _with(jax.tree.map(lambda _: False, whole.terms), place, own_term)
    own = Problem(marked("p0", whole.p0), marked("bounds", whole.bounds), own_terms, problem.form)
    lengths = {np.shape(leaf)[:1] for leaf, is_own in zip(*map(jax.tree.leaves, (whole, own)), strict=True) if is_own}
    if len(lengths) != 1 or lengths == {()} or lengths == {(0,)}:
        given = {"p0": whole.p0, "bounds": whole.bounds} | term.keywords | term._asdict()
        shapes = {name: jax.tree.map(np.shape, given[name]) for name in each}
        raise ValueError(f"each must name arrays with one leading axis, as long for all, got the shapes {shapes}")
    first = jax.tree.map(lambda leaf, is_own: leaf[0] if is_own else leaf, whole, own)
    arguments.checked_shapes(first.terms[place])
    if "bounds" in each:
        for bound in first.bounds or ():
            arguments.same_params(bound, shapes_of_start(first.p0, None, first.terms, first.form), "bounds")
    if "mask" in each:  # which points of the first are there says nothing of the others
        terms = _with(first.terms, place, first.terms[place]._replace(mask=None))
        first = Problem(first.p0, first.bounds, terms, first.form)
    return Sets(whole, own, _dtypes(whole), first)


def _says_sigma(term: Any, each: Any) -> bool:
    """Whether each data set has its own covariance of x with y."""
    if "sigma_x" not in each or term.sigma_x is None or not hasattr(term.x, "dtype"):
        return False
    own, of_x, of_y = (np.shape(getattr(term, name))[name in each :] for name in ("sigma_x", "x", "y"))
    if is_joint(own, of_x, of_y) and "sigma" in each:
        raise ValueError("sigma must not be in each where sigma_x is the covariance of x with y, which says it")
    return is_joint(own, of_x, of_y)


def _with_values(problem: Problem, place: int, each: Mapping[str, Any]) -> Problem:
    """The problem with the numbers that were given for each data set in place of its own."""
    p0, bounds, term = problem.p0, problem.bounds, problem.terms[place]
    if "p0" in each:
        p0 = jax.tree.map(np.asarray, _checks.params("p0", each["p0"]))
    if "bounds" in each:
        lower, upper = each["bounds"]
        bounds = tuple(jax.tree.map(np.asarray, _checks.params("bounds", bound)) for bound in (lower, upper))
    fields = {name: _array(name, each[name]) for name in ("y", "sigma", "sigma_x") if name in each}
    fields |= {"x": jax.tree.map(np.asarray, each["x"])} if "x" in each else {}
    fields |= {"mask": np.asarray(_checks.booleans("mask", each["mask"]))} if "mask" in each else {}
    keywords = {name: _array(f"the loss's {name}", each[name]) for name in term.keywords.keys() & each.keys()}
    term = term._replace(**fields, keywords=term.keywords | keywords)
    return Problem(p0, bounds, _with(problem.terms, place, term), problem.form)


def _with(terms: Sequence[Any], place: int, term: Any) -> tuple[Any, ...]:
    return (*terms[:place], term, *terms[place + 1 :])


def _dtypes(problem: Problem) -> Any:
    """Whole numbers of a container of features stay what they are; all else is floats, or booleans."""
    found = jax.tree.map(lambda leaf: canonical(leaf.dtype), problem)
    terms = [
        of if hasattr(term.x, "dtype") else of._replace(x=jax.tree.map(_dtype_in_container, term.x))
        for of, term in zip(found.terms, problem.terms, strict=True)
    ]
    return Problem(found.p0, found.bounds, tuple(terms), problem.form)


def _dtype_in_container(leaf: Any) -> Any:
    return jax.dtypes.canonicalize_dtype(leaf.dtype)


def canonical(dtype: Any) -> Any:
    """The dtype that JAX computes with in place of one of the user's."""
    return jax.dtypes.canonicalize_dtype(_checks.native(dtype))


def _features(x: Any, shape: tuple[int, ...]) -> tuple[Any, Any]:
    """x, and whether each data set has its own: of a container for each leaf."""
    checked = arguments.features(x, converted=False)
    if not hasattr(checked, "dtype"):
        return checked, jax.tree.map(lambda leaf: leaf.shape[: len(shape)] == shape, checked)
    x = _gathered(checked)
    if x.shape[: len(shape)] == shape:
        return x, True
    if x.shape[: len(shape) - 1] == shape[1:]:
        return x, False
    turned = (
        ": y has a row for each data set, so is it to be y.T?" if x.shape[:1] == shape[:1] and len(shape) == 2 else ""
    )
    raise ValueError(
        f"x must have shape {shape[1:]} or {shape} for y of shape {shape}, features in an axis after these, got "
        f"{x.shape}{turned}"
    )


def _like(name: str, value: Any, shape: tuple[int, ...]) -> tuple[Any, bool]:
    """A mask, and whether each data set has its own."""
    if value is None:
        return None, False
    found = _gathered(_checks.booleans(name, value))
    if found.shape not in (shape, shape[1:]):
        raise ValueError(f"{name} must have shape {shape} or {shape[1:]}, got {found.shape}")
    return found, found.shape == shape


def _sigma(sigma: Any, shape: tuple[int, ...]) -> tuple[Any, bool]:
    """sigma, and whether each data set has its own."""
    if sigma is None or np.ndim(sigma) < 2:
        return sigma, False
    sigma = _array("sigma", sigma)
    size = int(np.prod(shape[1:]))
    if sigma.shape not in (shape, shape[1:], (size, size)):
        raise ValueError(f"sigma must have shape (), {shape[1:]}, {shape} or {(size, size)}, got {sigma.shape}")
    if (
        shape == (size, size) == sigma.shape
        and _trace.concrete(sigma)
        and not (sigma == sigma[:1]).all()
        and np.array_equal(sigma, sigma.T)
    ):
        raise ValueError(
            "sigma may be one row for each of as many data sets as points, or the covariance of all: say which by a "
            "problem of one data set, fit_many(problem, each={'y': …}) or each={'y': …, 'sigma': …}"
        )
    return sigma, sigma.shape == shape


def _sigma_x(sigma_x: Any, x: Any, y: Any, num_sets: int) -> tuple[Any, Any, bool]:
    """sigma_x, one that stands for that of the first data set, and whether each has its own."""
    known = shapes_of_sigma_x(np.shape(x), np.shape(y)) if hasattr(x, "dtype") else []
    if sigma_x is None or not known or np.shape(sigma_x) in known:
        return sigma_x, sigma_x, False
    if np.shape(sigma_x) not in [(num_sets, *shape) for shape in known[1:]]:
        raise ValueError(
            f"sigma_x must be a number, have the shape of a data set's x, {known[1]}, or be a covariance a point, of "
            f"shape {known[2]}, or with y {known[3]}, or one of these with ({num_sets},) before it, for each data set "
            f"its own, got shape {np.shape(sigma_x)}"
        )
    sigma_x = _array("sigma_x", sigma_x)
    first: Any = np.zeros(sigma_x.shape[1:]) if sigma_x.shape[1:] == np.shape(x) else np.eye(sigma_x.shape[-1])
    return sigma_x, np.broadcast_to(first, sigma_x.shape[1:]), True


def _first_start(p0: Any, num_sets: int) -> Any:
    for path, leaf in jax.tree_util.tree_leaves_with_path(p0):
        if leaf.ndim == 0 or len(leaf) != num_sets:
            name = f"p0{jax.tree_util.keystr(path)}"
            raise ValueError(f"{name} must have a leading axis of {num_sets} data sets, got shape {leaf.shape}")
    return jax.tree.map(lambda leaf: leaf[0], p0)


def _array(name: str, value: Any) -> Any:
    """NumPy's; a memory map as it is, and in its own dtype, to be read in chunks."""
    return _gathered(_checks.array(name, value, converted=False, is_complex=name == "y"))


def _gathered(value: Any) -> Any:
    """On the host, but for what is traced."""
    return np.asarray(value) if _trace.concrete(value) else value
