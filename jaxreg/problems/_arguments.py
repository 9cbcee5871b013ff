"""The arguments of ``problem``: checked, and in the form in which they go into a compiled program."""

import functools
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxreg import _checks, _names, _trace
from jaxreg.likelihoods import Likelihood
from jaxreg.losses._kinds import Kind
from jaxreg.models import Apply, Model, Params
from jaxreg.objective import Loss
from jaxreg.problems import _errors as errors
from jaxreg.problems import _losses as of_losses
from jaxreg.problems._form import Form, Term, TermForm
from jaxreg.problems._starts import guess_of, is_given, shapes_of_start


def checked_term(
    model: Model | Apply,
    x: Any,
    y: Any,
    *,
    sigma: Any,
    sigma_x: Any = None,
    mask: Any,
    loss: str | Loss,
    scale: str | None,
    absolute_sigma: bool,
) -> tuple[Term, TermForm]:
    """One term with data."""
    y = targets(y)
    absolute_sigma = _checks.flag("absolute_sigma", absolute_sigma)
    function, keywords = of_losses.function_and_keywords(loss)
    of_losses.check_loss(loss, function, model, scale)
    if isinstance(function, Likelihood):
        of_losses.check_likelihood(function, sigma, scale, keywords)
        absolute_sigma = True
    form = TermForm(model, function, scale, absolute_sigma)
    term = _checked(Term(features(x), y, sigma, mask, keywords, sigma_x), form)
    return kept(term), form


def replaced(term: Term, form: TermForm, changes: dict[str, Any]) -> Term:
    """A term with some of its numbers replaced by what a user gave."""
    own = {name: changes[name] for name in ("x", "y", "sigma", "sigma_x", "mask") if name in changes}
    keywords = {name: value for name, value in changes.items() if name not in own}
    if unknown := keywords.keys() - term.keywords.keys():
        known = ", ".join(["p0", "bounds", "x", "y", "sigma", "sigma_x", "mask", *term.keywords])
        raise ValueError(
            f"replace takes the numbers of a problem, {known}, got {', '.join(sorted(unknown))}: what chooses the "
            "program (model, loss, scale, fixed, absolute_sigma) is said in a new problem"
        )
    if isinstance(form.loss, Likelihood):
        of_losses.check_likelihood(form.loss, own.get("sigma"), None, term.keywords)
    shapes = (np.shape(own.get(name, getattr(term, name))) for name in ("sigma_x", "x", "y"))
    if "sigma" not in own and hasattr(term.x, "dtype") and errors.is_joint(*shapes):
        own["sigma"] = None  # the covariance says it
    if "x" in own:
        own["x"] = features(own["x"])
    if "y" in own:
        own["y"] = targets(own["y"])
    keywords = {name: _checks.array(f"the loss's {name}", value) for name, value in keywords.items()}
    return kept(_checked(term._replace(**own, keywords=term.keywords | keywords), form))


def kept(term: Term) -> Term:
    """Numbers that nobody changes afterwards: NumPy's own arrays are copied, memory maps stay what they are."""
    x = _kept(term.x) if hasattr(term.x, "dtype") else jax.tree.map(_kept, term.x)
    keywords = {name: _kept(value) for name, value in term.keywords.items()}
    return Term(x, _kept(term.y), _kept(term.sigma), _kept(term.mask), keywords, _kept(term.sigma_x))


def _kept(leaf: Any) -> Any:
    if type(leaf) is not np.ndarray or not leaf.flags.writeable:
        return leaf
    copy = leaf.copy()
    copy.flags.writeable = False
    return copy


def _checked(term: Term, form: TermForm) -> Term:
    """What depends on several parts of a term."""
    if form.loss is not None and np.iscomplexobj(term.y):
        raise ValueError("loss must be 'squared' for complex y, whose real and imaginary parts are residuals each")
    mask = None if term.mask is None else _mask(term.mask, jnp.shape(term.y))
    if form.kind is not Kind.LIKELIHOOD:
        of_losses.check_keywords(form.loss, term.keywords)
    if isinstance(form.loss, Likelihood):
        of_losses.check_counts(form.loss, term.y, mask, term.keywords)
    sigma, sigma_x = errors.checked_sigma_x(term._replace(mask=mask), form)
    sigma = _one(term.y.dtype) if sigma is None else errors.checked_sigma(sigma, jnp.shape(term.y), mask)
    return term._replace(mask=mask, sigma=sigma, sigma_x=sigma_x)


@functools.cache
def _one(dtype: Any) -> np.ndarray:
    one = np.ones((), jnp.finfo(dtype).dtype)  # of a complex number its parts
    one.flags.writeable = False
    return one


def start_and_bounds(p0: Params, bounds: Any, terms: Any, form: Form) -> tuple[Params, Any]:
    """The start, or None for the model's own, and the box, checked against it."""
    if p0 is None:
        for one in form.terms:
            if not one.is_prior:
                guess_of(one.model)
    else:
        p0 = jax.tree.map(_kept, _checks.params("p0", p0))
    if bounds is None:
        return p0, None
    if form.has(Kind.LINEAR_PROGRAM):
        raise ValueError(f"bounds must be None for an absolute or quantile loss, got {bounds}")
    like = shapes_of_start(p0, None, tuple(terms), form)
    lower, upper = box(bounds, like)
    if p0 is not None and _trace.concrete(lower, upper, p0):
        inside(p0, *(bound if is_given(p0, form) else {name: bound[name] for name in p0} for bound in (lower, upper)))
    return p0, (lower, upper)


def same_params(p0: Params, known: Params, name: str = "p0") -> None:
    """Refuse parameters of another structure or shape."""
    if _names.structure(p0) != _names.structure(known):
        raise ValueError(f"{name} must have the form {_names.structure(known)}, got {_names.structure(p0)}")
    for (path, leaf), wanted in zip(jax.tree_util.tree_leaves_with_path(p0), jax.tree.leaves(known), strict=True):
        _checks.shape(f"{name}{jax.tree_util.keystr(path)}", leaf, jnp.shape(wanted))


def inside(p0: Params, lower: Params, upper: Params) -> None:
    """Refuse a start out of its bounds."""
    for (path, value), low, high in zip(
        jax.tree_util.tree_leaves_with_path(p0), jax.tree.leaves(lower), jax.tree.leaves(upper), strict=True
    ):
        name = f"p0{jax.tree_util.keystr(path)}"
        inside = np.asarray((low <= value) & (value <= high))
        _checks.refuse(name, value, inside, f"between its bounds {low} and {high}")


def free_of(fixed: Any, p0: Params) -> tuple[bool, ...] | None:
    """For each number of p0 whether it is fitted; None for all."""
    if fixed is None:
        return None
    if p0 is None:
        raise ValueError("p0 must be given where parameters are fixed, got None")
    if not _trace.concrete(fixed):
        raise ValueError("fixed chooses the program, so it cannot be a traced value")
    leaves = jax.tree.leaves(_shaped("fixed", fixed, p0, left_out=False))
    free = tuple(bool(value) for leaf in leaves for value in ~leaf.ravel())
    if not any(free):
        raise ValueError("fixed must leave at least one parameter free, got none")
    return free


def features(x: Any, *, converted: bool = True) -> Any:
    """An array, or any other pytree of arrays, whose integers and booleans stay what they are: a model may index."""
    if isinstance(x, jax.Array | np.ndarray | float | int | list):
        return _checks.array("x", x, converted=converted)
    leaves, structure = jax.tree_util.tree_flatten_with_path(x, is_leaf=lambda node: isinstance(node, list))
    is_leaf = any(leaf is x for _, leaf in leaves)  # what is no pytree, such as a table's column
    is_row = isinstance(x, tuple) and leaves and all(np.ndim(leaf) == 0 for leaf in jax.tree.leaves(x))
    if is_leaf or is_row:
        return _checks.array("x", x, converted=converted)
    found = [_feature(f"x{jax.tree_util.keystr(path)}", leaf) for path, leaf in leaves]
    return jax.tree.unflatten(structure, found)


def _feature(name: str, leaf: Any) -> Any:
    found = _checks.gathered(name, leaf)
    if getattr(found.dtype, "kind", "key") in ("i", "u", "b"):
        return found if found.dtype.isnative else found.astype(found.dtype.newbyteorder("="))
    return _checks.array(name, found)


def targets(y: Any) -> Any:
    """Real or complex numbers of any shape, at least one."""
    y = _checks.array("y", y, is_complex=True)
    if y.size == 0:
        raise ValueError(f"y must have at least one point, got shape {y.shape}")
    return y


def native(dtype: Any) -> Any:
    """What JAX computes with for targets of a dtype."""
    return dtype if dtype.kind == "c" else _checks.native(dtype)


def checked_shapes(term: Term) -> None:
    """Refuse sigma, sigma_x and mask of other shapes than y allows, whatever their values are."""
    shape = np.shape(term.y)
    if term.mask is not None:
        _checks.shape("mask", term.mask, shape)
    errors.sigma_fits(np.shape(term.sigma), shape)
    if term.sigma_x is not None:
        errors.sigma_x_fits(np.shape(term.sigma_x), np.shape(term.x), shape)


def _mask(mask: Any, shape: tuple[int, ...]) -> Any:
    mask = _checks.booleans("mask", mask)
    _checks.shape("mask", mask, shape)
    return mask


def ends_of(bounds: Any) -> tuple[Any, Any]:
    """(lower, upper), also of {name: (lower, upper)}."""
    if isinstance(bounds, Mapping):
        for name, pair in bounds.items():
            if not isinstance(pair, tuple | list) or len(pair) != 2:
                raise ValueError(f"bounds must have a pair (lower, upper) for {name!r}, got {pair!r}")
        ends = enumerate((-np.inf, np.inf))
        lower, upper = ({name: none if p[at] is None else p[at] for name, p in bounds.items()} for at, none in ends)
        return lower, upper
    if not isinstance(bounds, tuple | list) or len(bounds) != 2:
        raise ValueError(f"bounds must be a pair (lower, upper), got {bounds!r}")
    return bounds[0], bounds[1]


def box(bounds: Any, p0: Params) -> tuple[Params, Params]:
    """Lower and upper bounds, each shaped like p0."""
    bounds = ends_of(bounds)
    lower, upper = (
        _shaped("bounds", bound, p0, left_out=end) for bound, end in zip(bounds, (-np.inf, np.inf), strict=True)
    )
    if _trace.concrete(lower, upper):
        for (path, low), high in zip(jax.tree_util.tree_leaves_with_path(lower), jax.tree.leaves(upper), strict=True):
            name = f"bounds{jax.tree_util.keystr(path)}"
            _checks.refuse(name, low, low <= high, f"in order, lower ≤ upper = {high}")
    return lower, upper


def _shaped(name: str, value: Any, p0: Params, *, left_out: float | bool) -> Params:
    """One value for all parameters, or a tree like p0 whose leaves are values or shaped like those of p0.

    A dict may leave parameters out.
    """
    leaves = jax.tree.leaves(p0)
    if isinstance(value, dict) and isinstance(p0, dict) and (unknown := value.keys() - p0.keys()):
        known, got = (", ".join(map(repr, names)) for names in (p0, sorted(unknown, key=str)))
        raise ValueError(f"{name} must name parameters, of {known}, got {got}")
    if isinstance(value, dict) and isinstance(p0, dict) and value.keys() < p0.keys():
        rest = {own: jax.tree.map(lambda _: left_out, leaf) for own, leaf in p0.items() if own not in value}
        value = rest | value
    structure: Any = jax.tree.structure(p0)
    flags = functools.partial(_checks.booleans, remedy="{'name': True} keeps a parameter at its start in p0")
    read = flags if name == "fixed" else _checks.array
    if structure == jax.tree.structure(value):
        values = [read(name, leaf) for leaf in jax.tree.leaves(value)]
    else:
        values = [_alone(name, value, read)] * len(leaves)
        if values[0] is None or (len(leaves) > 1 and values[0].ndim):
            what, example = ("boolean", ", as in {'name': True}") if name == "fixed" else ("number", "")
            raise ValueError(
                f"{name} must be one {what} or shaped like p0, {_names.structure(p0)}, of which a dict may leave names "
                f"out{example}, got {value!r}"
            )
    for leaf, (path, wanted) in zip(values, jax.tree_util.tree_leaves_with_path(p0), strict=True):
        if leaf.shape not in ((), jnp.shape(wanted)):
            own = f"{name}{jax.tree_util.keystr(path)}"
            raise ValueError(f"{own} must be one for all or have shape {jnp.shape(wanted)}, got shape {leaf.shape}")
    spread = [_trace.broadcast(leaf, jnp.shape(wanted)) for leaf, wanted in zip(values, leaves, strict=True)]
    return jax.tree.unflatten(structure, spread)


def _alone(name: str, value: Any, read: Callable[[str, Any], Any]) -> Any:
    """A value, or a list of values; None for anything else."""
    words = isinstance(value, str) or (isinstance(value, list | tuple) and any(isinstance(one, str) for one in value))
    return None if value is None or words or isinstance(value, dict) else read(name, value)
