"""The result of a sweep: a value for every point of a grid with named axes, and its forms as labelled tables."""

import dataclasses
import functools
import numbers
import re
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

if TYPE_CHECKING:
    import pandas
    import xarray


@dataclasses.dataclass(frozen=True, eq=False)
class Sweep:
    """The result of ``sweep``: named axes and a value for each point of their grid.

    Attributes:
        axes: name → points. Static axes come first, each a tuple of Python values; then array axes, in the order given:
            arrays, typed keys, or any pytree with a common leading axis.
        values: what the function returned, a pytree whose leaves are NumPy arrays with the axes
            (all axes in order, those of one member's leaf).
        static: the names of the static axes.

    >>> rates = np.array([0.1, 1.0])
    >>> Sweep({"learning_rate": rates}, {"loss": np.array([0.5, 2.0]), "params": {"w": np.zeros((2, 3))}})
    Sweep(axes: learning_rate 2; values: loss (2,), params.w (2, 3))
    """

    axes: dict[str, Any]
    values: Any
    static: tuple[str, ...] = ()

    def __repr__(self) -> str:
        axes = ", ".join(f"{name} {self._length(name)}" for name in self.axes)
        leaves = zip(leaf_names(self.values), jax.tree.leaves(self.values), strict=True)
        values = ", ".join(f"{name} {np.shape(leaf)}" for name, leaf in leaves)
        return f"Sweep(axes: {axes}; values: {values})"

    def to_xarray(self) -> "xarray.Dataset":
        """All values as an xarray Dataset, to be selected by name.

        Each leaf is a variable named by its path ("params.w", a bare array "value"). Its dimensions are the axes, then
        its own: "params.w_0", "params.w_1", …. An axis of numbers is its own coordinate. Static values are labelled by
        what they are or by their names, keys and other points by their index; one number for each point, where the
        points are a pytree, is a further coordinate ("start.w" along "start").

        Raises:
            ImportError: without xarray (``pip install 'jaxreg[tables]'``).

        >>> rates = np.array([0.1, 1.0])
        >>> table = Sweep({"learning_rate": rates}, {"loss": np.array([0.5, 2.0])}).to_xarray()
        >>> float(table.loss.sel(learning_rate=1.0))
        2.0
        """
        try:
            import xarray
        except ImportError as error:
            raise ImportError("tables need xarray and pandas: pip install 'jaxreg[tables]'") from error
        coordinates: dict[str, Any] = {}
        for name, points in self.axes.items():
            for label, along in labels(name, points, static=name in self.static).items():
                coordinates[label] = (name, along)
        found = zip(
            variables(self.values, coordinates, leading=len(self.axes)), jax.tree.leaves(self.values), strict=True
        )
        return xarray.Dataset({one.name: ((*self.axes, *one.dims), leaf) for one, leaf in found}, coordinates)

    def to_dataframe(self) -> "pandas.DataFrame":
        """The scalar values of each member as a pandas DataFrame: one row for each point of the grid.

        The columns are the axes, other coordinates, and the leaves without axes of their own; the others are left out.

        Raises:
            ValueError: if every leaf has axes of its own.
            ImportError: without xarray and pandas (``pip install 'jaxreg[tables]'``).

        >>> rates = np.array([0.1, 1.0])
        >>> print(Sweep({"learning_rate": rates}, {"loss": np.array([0.5, 2.0])}).to_dataframe())
           learning_rate  loss
        0            0.1   0.5
        1            1.0   2.0
        """
        table = self.to_xarray()
        scalars = [name for name, variable in table.data_vars.items() if variable.ndim == len(self.axes)]
        if not scalars:
            raise ValueError(
                "a table of rows needs a scalar for each member, and all values are arrays: use to_xarray()"
            )
        frame = table[scalars].to_dataframe(dim_order=list(self.axes)).reset_index()
        return frame[[*self.axes, *(name for name in table.coords if name not in self.axes), *scalars]]

    def _length(self, name: str) -> int:
        points = self.axes[name]
        return len(points) if name in self.static else num_points(points)


def without_data(tree: Any) -> Any:
    """A pytree whose fits are without their problems: many members would each keep the data that they share.

    >>> without_data({"loss": 1.0})
    {'loss': 1.0}
    """

    def knows(node: Any) -> bool:
        return hasattr(node, "without_data")

    return jax.tree.map(lambda node: node.without_data() if knows(node) else node, tree, is_leaf=knows)


def leaf_names(tree: Any) -> list[str]:
    """A name for each leaf of a pytree: its path joined with dots; "value" if the tree is one bare leaf.

    Characters other than letters, digits, ``_``, ``.`` and ``-`` become ``_``, so that a name can be a file's; where
    two names would be the same, the later one gets a ``_``.

    >>> leaf_names({"params": {"w": 1.0, "b": 2.0}, "loss": [3.0]})
    ['loss.0', 'params.b', 'params.w']
    """
    names: list[str] = []
    for path, _ in jax.tree_util.tree_leaves_with_path(tree):
        name = re.sub(r"[^\w.-]", "_", jax.tree_util.keystr(path, simple=True, separator=".")) or "value"
        if name.startswith("__") or not name.strip("._") or name == "zarr.json":  # names that Zarr keeps for itself
            name = f"value{name}"
        while name in names:
            name += "_"
        names.append(name)
    return names


class Variable(NamedTuple):
    """A leaf of a sweep's values in a table: its name, and the names of its own axes."""

    name: str
    dims: tuple[str, ...]


def variables(values: Any, taken: Iterable[str], *, leading: int = 0) -> list[Variable]:
    """A name for each leaf of a sweep's values and for each axis of its own, none of them twice.

    Args:
        values: a pytree of arrays, or of their shapes.
        taken: the names of axes and coordinates; a leaf of the same name gets a ``_``.
        leading: how many leading axes of each leaf are the sweep's.

    >>> variables({"rate": np.zeros(()), "w": np.zeros(3)}, ["rate"])
    [Variable(name='rate_', dims=()), Variable(name='w', dims=('w_0',))]
    """
    used = set(taken)
    found = []
    for name, leaf in zip(leaf_names(values), jax.tree.leaves(values), strict=True):
        dims = _own_dims(name, leaf.ndim - leading)
        while used & {name, *dims}:
            name += "_"
            dims = _own_dims(name, leaf.ndim - leading)
        used |= {name, *dims}
        found.append(Variable(name, dims))
    return found


def _own_dims(name: str, count: int) -> tuple[str, ...]:
    return tuple(f"{name}_{number}" for number in range(count))


def labels(name: str, points: Any, *, static: bool = False) -> dict[str, np.ndarray]:
    """The coordinates along an axis: the labels under the axis's name, then one for each number that a point holds.

    Args:
        name: the axis.
        points: its points: arrays with a common leading axis, or a tuple of Python values if it is static.
        static: which of the two.

    >>> labels("loss", (functools.partial(max, default=0), min), static=True)["loss"].tolist()
    ['max(default=0)', 'min']
    >>> sorted(labels("start", {"w": np.zeros((2, 3)), "scale": np.array([0.1, 1.0])}))
    ['start', 'start.scale']
    """
    if static:
        return {name: _static_labels(points)}
    points = as_points(points)
    leaves = jax.tree.leaves(points)
    numbers = {
        f"{name}.{leaf_name}": _plain(leaf)
        for leaf_name, leaf in zip(leaf_names(points), leaves, strict=True)
        if np.ndim(leaf) == 1 and key_kind(leaf) is None
    }
    if numbers and leaves[0] is points:
        return {name: next(iter(numbers.values()))}
    return {name: np.arange(num_points(points)), **numbers}


def as_points(points: Any) -> Any:
    """An axis's points as a pytree of arrays in this machine's byte order.

    A list of numbers or of keys is one array, not a pytree of scalars.

    >>> as_points([0.1, np.float64(1.0)])
    array([0.1, 1. ])
    """
    if type(points) in (list, tuple) and points and all(map(_is_scalar, points)):
        kinds = {point.dtype if isinstance(point, jax.Array) else None for point in points}
        points = np.asarray(points) if kinds == {None} else jnp.stack(points) if len(kinds) == 1 else points
    return jax.tree.map(_native, points)


def _is_scalar(point: Any) -> bool:
    return isinstance(point, numbers.Number) or getattr(point, "shape", None) == ()


def _native(leaf: Any) -> Any:
    dtype: Any = getattr(leaf, "dtype", None)
    return leaf if getattr(dtype, "isnative", True) else leaf.astype(dtype.newbyteorder("="))


def num_points(points: Any) -> int:
    """The length of an axis, given its points.

    >>> num_points({"w": np.zeros((2, 3))})
    2
    """
    return len(jax.tree.leaves(as_points(points))[0])


def key_kind(leaf: Any) -> str | None:
    """The implementation of typed random keys; None for anything else.

    >>> key_kind(jax.random.key(0, impl="threefry2x32"))
    'threefry2x32'
    """
    if jnp.issubdtype(getattr(leaf, "dtype", np.dtype(bool)), jax.dtypes.prng_key):
        return str(jax.random.key_impl(leaf))
    return None


def readable(value: Any) -> str:
    """A static value for people: numbers, words and tuples as they are, a function by its name, others by their type's.

    >>> readable(functools.partial(max, default=0)), readable(max), readable(32)
    ('max(default=0)', 'max', '32')
    """
    if value is None or isinstance(value, str | int | float | np.generic):
        return str.__str__(value) if isinstance(value, str) else str(value)
    if type(value) is tuple:
        return f"({', '.join(map(readable, value))}{',' if len(value) == 1 else ''})"
    if isinstance(value, functools.partial):
        bound = [*map(readable, value.args), *(f"{key}={readable(given)}" for key, given in value.keywords.items())]
        return f"{readable(value.func)}({', '.join(bound)})"
    return str(getattr(value, "__name__", type(value).__name__))


def _static_labels(values: Sequence[Any]) -> np.ndarray:
    kinds = {bool if isinstance(value, bool | np.bool_) else type(value) for value in values}
    if kinds == {bool} or all(issubclass(kind, int | float | np.number) and kind is not bool for kind in kinds):
        found = np.asarray(values)
    else:
        found = np.array([readable(value) for value in values])
    # Numbers beyond 64 bits are no labels.
    return found if found.dtype != object and len(np.unique(found)) == len(found) else np.arange(len(values))


def _plain(leaf: Any) -> np.ndarray:
    """As a dtype that tables know: the narrow floats and integers of JAX fit into float32."""
    array = np.asarray(leaf)
    return array if array.dtype.kind in "biufc" else array.astype(np.float32)
