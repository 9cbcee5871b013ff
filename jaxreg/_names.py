"""Names of the numbers, and of the arrays, in a pytree."""

import math
import re
from typing import Any

import jax
import numpy as np

_MOST_TERMS = 6  # in one combination


def of(params: Any, *, leading: int = 0) -> list[str]:
    """One name for each number, in ravel_pytree order; ``leading`` axes of each leaf hold members and are not named.

    >>> of({"w": np.zeros(2), "b": 0.0})
    ['b', 'w[0]', 'w[1]']
    >>> of({"peak": {"center": 0.0}})
    ['peak.center']
    >>> of((0.0, 0.0))
    ['params[0]', 'params[1]']
    """
    names = []
    for path, leaf in jax.tree_util.tree_leaves_with_path(params):
        stem, shape = _stem(path, "params"), np.shape(leaf)[leading:]
        names += [stem + (f"[{', '.join(map(str, index))}]" if index else "") for index in np.ndindex(*shape)]
    return names


def _stem(path: Any, root: str) -> str:
    """The name of a leaf: what has a name after a dot, what has a number in brackets; a number alone names nothing."""
    parts = [jax.tree_util.keystr((key,), simple=True) for key in path]
    stem = "".join(f"[{part}]" if part.isdigit() else f".{part}" for part in parts).removeprefix(".")
    return stem if stem and not stem.startswith("[") else f"{root}{stem}"


def in_order(tree: Any, like: Any) -> Any:
    """The same dict with its names in the order of another: JAX sorts them; anything else as it is.

    >>> in_order({"a": 1, "b": 2}, {"b": 0, "a": 0})
    {'b': 2, 'a': 1}
    """
    return {name: tree[name] for name in like} if isinstance(like, dict) else tree


def numbers(params: Any, *, leading: int = 0) -> np.ndarray:
    """(members, p): the numbers that ``of`` names; the ``leading`` axes of each leaf hold members.

    >>> numbers({"w": np.zeros(2), "b": 1.0})
    array([[1., 0., 0.]])
    """
    leaves = [np.asarray(leaf) for leaf in jax.tree.leaves(params)]
    members = int(np.prod(leaves[0].shape[:leading], dtype=int))
    return np.concatenate([leaf.reshape(members, math.prod(leaf.shape[leading:])) for leaf in leaves], axis=1)


def leaf_names(tree: Any) -> list[str]:
    """A name for each array of a pytree, as ``of`` names its numbers; "value" if it is one bare array.

    Characters other than letters, digits and ``_.-[]`` become ``_``, so that a name can be a file's; where two names
    would be the same, the later one gets a ``_``.

    >>> leaf_names({"params": {"w": 1.0, "b": 2.0}, "loss": [3.0]})
    ['loss[0]', 'params.b', 'params.w']
    """
    names: list[str] = []
    for path, _ in jax.tree_util.tree_leaves_with_path(tree):
        name = re.sub(r"[^\w.\-\[\]]", "_", _stem(path, "value"))
        if name.startswith("__") or not name.strip("._") or name == "zarr.json":  # names that Zarr keeps for itself
            name = f"value{name}"
        while name in names:
            name += "_"
        names.append(name)
    return names


def is_status(name: str) -> bool:
    """Whether an array of that name is statuses: "status", "fit.status".

    >>> is_status("training.status"), is_status("loss")
    (True, False)
    """
    return name.split(".")[-1].rstrip("_") == "status"


def structure(tree: Any) -> str:
    """The form of a pytree for a message.

    >>> structure({"a": 1.0, "b": (2.0, 3.0)})
    "{'a': *, 'b': (*, *)}"
    """
    return str(jax.tree.structure(tree)).removeprefix("PyTreeDef(").removesuffix(")")


def shapes(tree: Any) -> str:
    """The shapes of a pytree's arrays for a message.

    >>> shapes({"a": np.zeros(3)}), shapes(np.zeros(3))
    ("{'a': (3,)}", '(3,)')
    """
    return str(jax.tree.map(np.shape, tree))


def combination(params: Any, weights: Any, *, leading: int = 0) -> str:
    """A linear combination of the numbers in words, the largest few terms; empty where all weights are zero.

    >>> combination({"a": 0.0, "b": 0.0}, np.array([0.5, -1.0]))
    '0.5 a - 1 b'
    >>> combination({"a": 0.0, "b": 0.0}, np.array([0.0, -1.0]))
    'b'
    """
    weights = np.asarray(weights)
    large = np.flatnonzero(np.abs(weights) > 1e-3 * np.abs(weights).max())
    kept = sorted(large[np.argsort(-np.abs(weights[large]), kind="stable")][:_MOST_TERMS])
    names = of(params, leading=leading)
    if len(kept) == 1:
        return names[kept[0]]
    terms = [f"{'-' if weights[place] < 0 else '+'} {abs(weights[place]):.3g} {names[place]}" for place in kept]
    return " ".join(terms).removeprefix("+ ")
