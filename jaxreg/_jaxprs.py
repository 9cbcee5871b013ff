"""Reading a jaxpr equation by equation, with what JAX 0.10 and its successors have in common."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax

_CALLS = frozenset({"jit", "pjit", "closed_call", "core_call"})
ROW_SUMS = "jaxreg_row_sums"  # the name of a call that stays whole: a loop over rows, written as one reduction


def is_literal(atom: Any) -> bool:
    """Whether an operand is a constant, ``atom.val``, not a variable: what ``jax.extend.core.Literal`` is."""
    return hasattr(atom, "val")


def called(equation: Any) -> Any | None:
    """The program that an equation only calls, to be read in its place; None for any other equation."""
    return equation.params["jaxpr"] if equation.primitive.name in _CALLS else None


def sums_rows(equation: Any) -> bool:
    """Whether an equation is the call of a loop over rows."""
    return called(equation) is not None and equation.params["name"] == ROW_SUMS


def evaluate(jaxpr: Any, equation: Any, operands: Sequence[Any]) -> list[Any]:
    """The results of one equation of a jaxpr, whatever its primitive."""
    pairs = [(atom, value) for atom, value in zip(equation.invars, operands, strict=True) if not is_literal(atom)]
    alone = jaxpr.replace(constvars=[], invars=[atom for atom, _ in pairs], outvars=equation.outvars, eqns=[equation])
    return jax.core.eval_jaxpr(alone, [], *(value for _, value in pairs))


def inner_jaxprs(equation: Any) -> list[Any]:
    """The jaxprs inside an equation: the body of a loop, the branches of a condition."""
    found = []
    for param in equation.params.values():
        for part in param if isinstance(param, list | tuple) else [param]:
            inner = getattr(part, "jaxpr", part)
            if hasattr(inner, "eqns"):
                found.append(inner)
    return found


def keys_of_xla(jaxpr: Any) -> list[tuple[int, ...]]:
    """The shapes of all random keys but threefry's, and of what XLA's own generator takes and gives."""
    found = []
    for equation in jaxpr.eqns:
        drawn = equation.primitive.name == "rng_bit_generator"
        for atom in (*equation.invars, *equation.outvars):
            dtype: Any = getattr(atom.aval, "dtype", None)
            is_key = jax.numpy.issubdtype(dtype, jax.dtypes.prng_key) and "fry" not in str(dtype)
            found += [atom.aval.shape] if drawn or is_key else []
        found += [shape for inner in inner_jaxprs(equation) for shape in keys_of_xla(inner)]
    return found


def names_read(fn: Callable[[Any], Any], params: Mapping[str, Any]) -> tuple[set[str], set[str]]:
    """The names of a dict of arrays that a function to another depends on, and those it gives back as they are."""
    closed, shapes = jax.make_jaxpr(fn, return_shape=True)(params)
    wanted = {atom for atom in closed.jaxpr.outvars if not is_literal(atom)}
    for equation in reversed(closed.jaxpr.eqns):
        if wanted & set(equation.outvars):
            wanted |= {atom for atom in equation.invars if not is_literal(atom)}
    given = dict(zip(_paths(params), closed.jaxpr.invars, strict=True))
    back = dict(zip(_paths(shapes), closed.jaxpr.outvars, strict=True))
    read = {path[0].key for path, atom in given.items() if atom in wanted}
    return read, read - {path[0].key for path, atom in given.items() if back.get(path) is not atom}


def _paths(tree: Any) -> list[Any]:
    return [path for path, _ in jax.tree_util.tree_leaves_with_path(tree)]
