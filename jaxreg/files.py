"""``save`` and ``load``: a fit, or many, in a folder, whole, with the problem that it answers."""

import dataclasses
import json
import os
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np

from jaxreg import losses, models
from jaxreg._pickling import Lost
from jaxreg._points import readable
from jaxreg._version import __version__
from jaxreg.global_fits import GlobalFit, GlobalProblem
from jaxreg.global_fits._fit import with_numbers
from jaxreg.global_fits._problem import GlobalForm
from jaxreg.least_squares import Fit
from jaxreg.least_squares._same_data import check_same_data
from jaxreg.models import Apply, Model
from jaxreg.models._formula import _expression
from jaxreg.problems import Problem
from jaxreg.problems._form import Form, Order, Term, TermForm
from jaxreg.problems._priors import named_prior, prior_names
from jaxreg.results import Sweep
from jaxreg.store import load as load_store
from jaxreg.store._blocks import Division, Store
from jaxreg.store._creation import create
from jaxreg.store._description import described, description_of
from jaxreg.store._opening import folder
from jaxreg.store._trees import decoded, encoded, rebuilt

_WHOLE = Division((), (), ())  # one block


def save(fit: Fit | GlobalFit, path: str | os.PathLike[str], *, overwrite: bool = False) -> None:
    """Keep a fit, or many, in a folder: results, data and problem, bit for bit, float64 wherever that is switched on.

    The folder is a Zarr store, and appears whole or not at all. Models of text and those of ``jaxreg.models`` are kept
    as what made them, the losses of ``jaxreg.losses`` by their names; of other functions, which no file can hold, only
    the name is kept: ``load`` takes them again.

    Args:
        fit: what ``fit``, ``curve_fit`` or ``fit_many`` returned.
        path: a folder that is not there yet, or empty.
        overwrite: whether a fit that was saved there may be replaced.

    Raises:
        ValueError: for what is no fit, and for a path that is taken or cannot be written.
        ImportError: without zarr (``pip install 'jaxreg[store]'``).

    >>> import tempfile
    >>> import jax.numpy as jnp
    >>> import jaxreg
    >>> fit = jaxreg.curve_fit(models.ohm(), jnp.arange(4.0), jnp.array([0.0, 1.9, 4.1, 6.0]))
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     save(fit, f"{folder}/ohm")
    ...     again = load(f"{folder}/ohm")
    >>> print(again.params["resistance"] == fit.params["resistance"], again.problem.model is models.ohm())
    True True
    """
    if not isinstance(fit, Fit | GlobalFit):
        remedy = "sweep(…, store=path) keeps a sweep" if isinstance(fit, Sweep) else "pickle keeps other results"
        raise ValueError(f"fit must be what fit, curve_fit or fit_many returned, got {type(fit).__name__}: {remedy}")
    path = folder(path, "path")
    there = described(path)
    if there is not None and not (overwrite and "fit" in there):
        remedy = "overwrite=True replaces it" if "fit" in there else "give another path"
        raise ValueError(f"there is something at {path} already: {remedy}")
    tree, form = _taken_apart(fit)
    leaves, structure = jax.tree.flatten(tree)
    arrays = [np.asarray(leaf[...] if hasattr(leaf, "store") else leaf) for leaf in leaves]
    axes = np.ndim(fit.status)
    shared = [_is_shared(array, axes) for array in arrays]
    arrays = [array[(0,) * axes] if one else array for array, one in zip(arrays, shared, strict=True)]
    description = description_of({}, {}, (), jax.tree.unflatten(structure, arrays), _WHOLE._asdict(), {})
    description["fit"] = {"jaxreg": __version__, "axes": list(np.shape(fit.status)), "shared": shared, "form": form}
    description = json.loads(json.dumps(description))
    try:
        create(path, description, {}, {}, leaves=arrays, replace=there is not None)
    except OSError as error:
        raise ValueError(f"{path} cannot be written: {error}") from error


def load(path: str | os.PathLike[str], *, model: Any = None) -> Any:
    """What ``save`` has kept.

    Args:
        path: the folder. That of a store, which ``fit_many`` or ``sweep`` has filled, gives what ``store.load`` does.
        model: the function, or Model, that no file can hold; of a sum of problems a sequence, one for each such term in
            order. A loss of your own, a prior's function and a tie come back with ``load(path).with_problem(problem)``.

    Returns:
        Fit, its numbers as NumPy's arrays in the dtype that they had. Without a function that it needs, what follows
        from its numbers alone works, and all else says which function is missing.

    Raises:
        ValueError: where no fit is, for a damaged file, one of a newer jaxreg, a model that is not asked for, and a
            model with which the fit does not have the χ² that it has.
        ImportError: without zarr (``pip install 'jaxreg[store]'``).

    >>> load("nowhere")
    Traceback (most recent call last):
        ...
    ValueError: there is no fit at nowhere
    """
    path = folder(path, "path")
    description = described(path)
    if description is None:
        raise ValueError(f"there is no fit at {path}")
    if "fit" not in description:
        if model is not None:
            raise ValueError("model is for a fit that was saved: of a store use fits.with_problem(problem(…))")
        return load_store(path)
    leaves = Store(path, description, mode="r").read(())
    if leaves is None:
        raise ValueError(f"the fit at {path} is damaged")
    kept = description["fit"]
    members = tuple(kept["axes"])
    spread = [
        np.broadcast_to(leaf, members + leaf.shape) if shared else leaf
        for leaf, shared in zip(leaves, kept["shared"], strict=True)
    ]
    tree = rebuilt(description["values"]["tree"], iter(spread))
    if "each" in tree["results"]:
        found: Any = GlobalFit(**(tree["results"] | {"each": Fit(**tree["results"]["each"])}))
    else:
        found = Fit(**tree["results"])
    if kept["form"] is None:
        return found
    form = _form_of(kept["form"], model)
    bounds = None if tree["bounds"] is None else tuple(tree["bounds"])
    terms = tuple(Term(**term) for term in tree["terms"])
    if isinstance(found, GlobalFit):
        shared = tuple(kept["form"]["shared"])
        own, num_sets = tuple(kept["form"]["own"]), kept["form"]["num_sets"]
        together = GlobalForm(form, own, shared, num_sets, bounded=bounds is not None)
        found = with_numbers(found, GlobalProblem(tree["p0"], bounds, terms, together))
    else:
        found = found.replace(problem=Problem(tree["p0"], bounds, terms, form))
    if model is not None:
        check_same_data(found.each if isinstance(found, GlobalFit) else found)
    return found


def _taken_apart(fit: Fit | GlobalFit) -> tuple[dict[str, Any], Any]:
    """The numbers of a fit, in dicts and lists, and its problem's form, in JSON."""
    tree: dict[str, Any] = {"results": _results(fit)}
    problem = fit.problem
    if problem is None:
        return tree, None
    if isinstance(fit, GlobalFit):
        one, together = _taken_apart(fit.each)[1], problem.form._asdict()
        return tree | _numbers(problem), one | {name: together[name] for name in ("own", "shared", "num_sets")}
    terms = [
        form._asdict() | {"model": _written(form.model), "loss": _written(form.loss)} for form in problem.form.terms
    ]
    form = problem.form._asdict() | {"terms": terms, "tie": _written(problem.form.tie)}
    return tree | _numbers(problem), form | {"order": problem.form.order.names}


def _results(fit: Any) -> dict[str, Any]:
    found = {field.name: getattr(fit, field.name) for field in dataclasses.fields(fit) if field.name != "problem"}
    if "each" in found:
        found["each"] = _results(fit.each)
    return found


def _numbers(problem: Any) -> dict[str, Any]:
    return {"p0": problem.p0, "bounds": problem.bounds, "terms": [term._asdict() for term in problem.terms]}


def _form_of(kept: dict[str, Any], model: Any) -> Form:
    several = isinstance(model, Sequence) and not isinstance(model, Model)
    given = [] if model is None else list(model) if several else [model]
    terms = []
    for term in kept["terms"]:
        found = _read(term["model"])
        if isinstance(found, Lost) and given and not term["is_prior"]:
            found = given.pop(0)
        names = None if term["names"] is None else tuple(map(tuple, term["names"]))
        terms.append(TermForm(**(term | {"model": found, "loss": _read(term["loss"]), "names": names})))
    if given:
        raise ValueError(f"model must be one function for each that the file lacks, if any, got {len(given)} more")
    free = None if kept["free"] is None else tuple(kept["free"])
    return Form(tuple(terms), free, _read(kept["tie"]), Order(kept["order"]))


def _written(function: Model | Apply | None) -> Any:
    """How a function is made again, in JSON, or its name alone."""
    if function is None:
        return None
    if names := prior_names(function):
        return {"prior": names}
    if loss := [name for name in losses.__all__ if getattr(losses, name) is function]:
        return {"loss": loss[0]}
    recipe = getattr(function.apply if isinstance(function, Model) else function, "recipe", None)
    if recipe is not None:
        make, args, keywords, _ = recipe
        written = {"model": make.__name__.removeprefix("_"), "args": encoded(args), "keywords": encoded(keywords)}
        if _made(written) == function:  # of plain settings, and not changed since
            return written
    return {"function": getattr(function, "__qualname__", readable(function))}


def _read(written: Any) -> Any:
    if written is None:
        return None
    if "prior" in written:
        return named_prior(written["prior"])
    if "loss" in written:
        return getattr(losses, written["loss"])
    return _made(written) if "model" in written else Lost(written["function"])


def _made(written: dict[str, Any]) -> Any:
    """A model of this package's: the names in a file choose among these only."""
    name = written["model"]
    make: Any = _expression if name == "expression" else getattr(models, name) if name in models.__all__ else Lost(name)
    try:
        return make(*decoded(written["args"]), **decoded(written["keywords"]))
    except (TypeError, ValueError):
        return Lost(name)


def _is_shared(array: np.ndarray, axes: int) -> bool:
    """Whether all members have the same, as a view without memory of its own says."""
    return axes > 0 and array.size > 0 and not any(array.strides[:axes])
