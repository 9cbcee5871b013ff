"""Parameters that follow from others: all that the models take as a function of those that are fitted."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxreg import _checks, _jaxprs
from jaxreg.models import Params
from jaxreg.problems._form import Form
from jaxreg.problems._starts import start_of


def tied(problem: Any, fn: Callable[[Params], Params]) -> tuple[Any, Any, Form]:
    """Start, bounds and form of a problem whose parameters are ``fn`` of the free ones."""
    if problem.form.tie is not None:
        raise ValueError("this problem is tied already: say all of it in one function")
    given, start = fn, start_of(problem.p0, problem.bounds, problem.terms, problem.form)
    if not isinstance(start, dict):
        raise ValueError(f"parameters are tied by their names, a dict's, got {type(start).__name__}")
    if problem.form.free is not None:
        raise ValueError("parameters cannot be fixed and tied: let the tie give what is fixed as a constant")
    if not callable(fn):
        raise ValueError(f"a tie must be a function of the free parameters, got {type(fn).__name__}")
    fn = _checks.traceable("the tie")(fn)
    _check_result(jax.eval_shape(fn, start), start)
    read, kept = _jaxprs.names_read(fn, start)
    if changed := read - kept:
        raise ValueError(
            f"the tie must give back what is free as it is, and it changes {', '.join(sorted(changed))}, which it reads"
        )
    free = {name: start[name] for name in start if name in read}
    if not free:
        raise ValueError("the tie must depend on at least one parameter, got one that reads none")
    bounds = None
    if problem.bounds is not None:
        bounds = tuple(_of_free(bound, free) for bound in problem.bounds)
    return free, bounds, problem.form._replace(tie=given)


def _of_free(bound: Any, free: Any) -> Any:
    for name in bound.keys() - free.keys():
        if not all(np.isinf(leaf).all() for leaf in jax.tree.leaves(bound[name])):
            raise ValueError(f"{name} is tied, so it cannot be bounded: bound what it follows from")
    return {name: bound[name] for name in free}


def _check_result(whole: Any, start: Any) -> None:
    """Refuse a tie that does not give all parameters, each in its shape."""
    if not isinstance(whole, dict) or whole.keys() != start.keys():
        got = whole.keys() if isinstance(whole, dict) else set()
        missing, more = (", ".join(sorted(names)) for names in (start.keys() - got, got - start.keys()))
        words = [f"leaves out {missing}"] * bool(missing) + [f"gives {more}, which no model reads"] * bool(more)
        raise ValueError(
            f"the tie must give all parameters, {', '.join(start)}, and no others: it {' and '.join(words)}"
        )
    for name, leaf in start.items():
        shapes = [jax.tree.map(jnp.shape, value) for value in (leaf, whole[name])]
        if shapes[0] != shapes[1]:
            raise ValueError(f"the tie must keep the shape {shapes[0]} of {name}, got {shapes[1]}")
