"""What a sweep is asked for: a function, axes of points and static values, checked before anything is compiled."""

import inspect
import itertools
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxreg import _members, _names, _trace
from jaxreg._cache import kept
from jaxreg._points import as_points, key_kind, readable

# What JAX raises for a traced value in the place of a Python one; in a shape it is a plain TypeError.
_NEEDS_A_VALUE = (
    jax.errors.ConcretizationTypeError,
    jax.errors.NonConcreteBooleanIndexError,
    jax.errors.TracerArrayConversionError,
    jax.errors.TracerIntegerConversionError,
)

Choice = tuple[tuple[str, Any, type], ...]  # a combination of static values: name, value, and its type, as 1 == 1.0


_LARGE = 64  # numbers in a point


class Points(NamedTuple):
    """The form of an axis's points: what a program is compiled for. Hashable."""

    name: str
    structure: Any
    shapes: tuple[tuple[tuple[int, ...], Any], ...]  # of one point, as it travels
    keys: tuple[str | None, ...]  # the kind of random key that a leaf is; it travels as its bits

    @property
    def draws(self) -> bool:
        """Whether members along the axis have random numbers of their own."""
        return any(kind is not None for kind in self.keys)

    @property
    def costly(self) -> bool:
        """Whether much is computed from a point alone: an order of the rows from a key, statistics from a data set."""
        return self.draws or sum(math.prod(shape) for shape, _ in self.shapes) > _LARGE

    def leaves(self, *leading: int) -> list[jax.ShapeDtypeStruct]:
        """What travels for points with these leading axes."""
        return [jax.ShapeDtypeStruct((*leading, *shape), dtype) for shape, dtype in self.shapes]

    def assemble(self, leaves: Sequence[Array]) -> Any:
        """The points from what travels."""
        restored = [
            leaf if kind is None else jax.random.wrap_key_data(leaf, impl=kind)
            for leaf, kind in zip(leaves, self.keys, strict=True)
        ]
        return jax.tree.unflatten(self.structure, restored)


class Axis(NamedTuple):
    """An axis of a sweep: its points and their form."""

    form: Points
    leaves: list[np.ndarray]

    @property
    def length(self) -> int:
        """The number of points."""
        return self.leaves[0].shape[0]


class Study(NamedTuple):
    """A checked sweep.

    The axes are ordered from the shortest to the longest: the last lies contiguous in memory and fills the vector unit.
    """

    fn: Callable[..., Any]
    axes: tuple[Axis, ...]
    given: tuple[int, ...]  # the place of each axis in the order in which they were given
    static: dict[str, tuple[Any, ...]]
    shapes: Any  # pytree of the ShapeDtypeStructs of one member's value

    @property
    def grid(self) -> tuple[int, ...]:
        """The lengths of the axes."""
        return tuple(axis.length for axis in self.axes)

    @property
    def choices(self) -> list[Choice]:
        """The combinations of static values, the last varying fastest."""
        return [choice_of(self.static, values) for values in itertools.product(*self.static.values())]

    @property
    def forms(self) -> tuple[Points, ...]:
        """The forms of the axes' points."""
        return tuple(axis.form for axis in self.axes)

    @property
    def num_members(self) -> int:
        """Members for one choice of static values."""
        return math.prod(self.grid)

    def as_given(self, values: Sequence[int]) -> tuple[int, ...]:
        """A number for each axis, in the order in which the axes were given."""
        return tuple(values[number] for number in self.given)

    def as_ordered(self, values: Sequence[int]) -> tuple[int, ...]:
        """The reverse."""
        return tuple(values[self.given.index(number)] for number in range(len(values)))


def choice_of(names: Iterable[str], values: Iterable[Any]) -> Choice:
    """A combination of static values."""
    return tuple((name, value, type(value)) for name, value in zip(names, values, strict=True))


def member_of(fn: Callable[..., Any], choice: Choice, forms: Sequence[Points]) -> Callable[..., Any]:
    """``fn`` as a function of what travels: one list of arrays for each axis."""

    def member(*points: list[Array]) -> Any:
        named = {form.name: form.assemble(leaves) for form, leaves in zip(forms, points, strict=True)}
        return _without_data(fn(**{name: value for name, value, _ in choice}, **named))

    return member


def _without_data(tree: Any) -> Any:
    """A pytree whose fits are without their problems: many members would each keep the data that they share."""

    def knows(node: Any) -> bool:
        return hasattr(node, "without_data")

    return jax.tree.map(lambda node: node.without_data() if knows(node) else node, tree, is_leaf=knows)


def spoken(choice: Choice) -> str:
    """A choice of static values for a message."""
    return ", ".join(f"{name}={readable(value)}" for name, value, _ in choice)


def study_of(fn: Callable[..., Any], axes: Mapping[str, Any], static: Mapping[str, Sequence[Any]] | None) -> Study:
    """Check everything that can be checked without compiling."""
    if not callable(fn):
        raise ValueError(f"fn must be a function, got {type(fn).__name__}")
    try:
        hash(fn)
    except TypeError:
        raise ValueError(f"fn must be hashable, as functions are, got {type(fn).__name__}") from None
    if not isinstance(axes, Mapping) or not axes:
        raise ValueError(f"axes must map names to points, at least one, got {axes!r}")
    if not (static is None or isinstance(static, Mapping)):
        raise ValueError(f"static must map names to lists of values, got {type(static).__name__}")
    choices = {name: _static_values(name, values) for name, values in (static or {}).items()}
    twice = sorted(set(axes) & set(choices))
    if twice:
        raise ValueError(f"{', '.join(twice)} cannot be both in axes and in static")
    if len(choices) + len(axes) > _members.MOST_AXES:
        raise ValueError(
            f"axes and static must be at most {_members.MOST_AXES} together, got {len(choices) + len(axes)}: the "
            "points of one axis may hold many numbers, as a dict of arrays with a common leading axis"
        )
    _check_names(fn, [*choices, *axes])
    checked = [_axis(name, points) for name, points in axes.items()]
    order = sorted(range(len(checked)), key=lambda number: checked[number].length)
    study = Study(
        fn, tuple(checked[number] for number in order), tuple(map(order.index, range(len(order)))), choices, None
    )
    return study._replace(shapes=_shapes(study))


def _static_values(name: str, values: Any) -> tuple[Any, ...]:
    if isinstance(values, str) or not isinstance(values, Sequence) or not values:
        raise ValueError(f"static[{name!r}] must be a list of at least one value, got {values!r}")
    for value in values:
        try:
            hash(value)
        except TypeError:
            raise ValueError(
                f"static[{name!r}] must hold hashable values, got {type(value).__name__}: arrays belong in axes"
            ) from None
    return tuple(values)


def _check_names(fn: Callable[..., Any], names: list[str]) -> None:
    try:
        parameters = list(inspect.signature(fn).parameters.values())
    except (TypeError, ValueError):  # a builtin that does not tell
        return
    named = [one for one in parameters if one.kind in (one.POSITIONAL_OR_KEYWORD, one.KEYWORD_ONLY)]
    known = [one.name for one in named]
    unknown = [name for name in names if name not in known]
    if unknown and not any(one.kind is one.VAR_KEYWORD for one in parameters):
        raise ValueError(f"fn takes {', '.join(known) or 'no names'}: it cannot be swept over {', '.join(unknown)}")
    missing = [one.name for one in named if one.default is one.empty and one.name not in names]
    if missing:
        raise ValueError(f"fn needs {', '.join(missing)}: put it in axes or static, or bind it with functools.partial")


def _axis(name: str, points: Any) -> Axis:
    points = as_points(points)
    leaves = jax.tree.leaves(points)
    if not leaves:
        raise ValueError(f"axis {name!r} has no points")
    for path, leaf in jax.tree_util.tree_leaves_with_path(points):
        where = f"axis {name!r}{jax.tree_util.keystr(path)}"
        if isinstance(leaf, str | bytes):
            raise ValueError(f"{where} must hold numbers or random keys, got {leaf!r}: words belong in static=")
        if np.ndim(leaf) < 1:
            raise ValueError(
                f"{where} must have its points along a leading axis, got shape () in {leaf!r}: a list needs jnp.stack"
            )
        if len(leaf) == 0:
            raise ValueError(f"{where} has no points")
        if len(leaf) != len(leaves[0]):
            raise ValueError(f"{where} must have {len(leaves[0])} points like the first leaf, got {len(leaf)}")
    arrays = [_travelling(name, leaf) for leaf in leaves]
    shapes = tuple((array.shape[1:], array.dtype) for array in arrays)
    return Axis(Points(name, jax.tree.structure(points), shapes, tuple(map(key_kind, leaves))), arrays)


def _travelling(name: str, leaf: Any) -> np.ndarray:
    """Through JAX, so that 64-bit numbers become what JAX will compute with; keys as their bits."""
    if key_kind(leaf) is not None:
        return np.asarray(jax.random.key_data(leaf))
    try:
        array = np.asarray(jnp.asarray(leaf))
    except (TypeError, ValueError):  # the latter for masked arrays
        raise ValueError(
            f"axis {name!r} must hold numbers or random keys, got {type(leaf).__name__} of {np.asarray(leaf).dtype}: "
            "convert numbers with astype(float), fill masked arrays, stack keys with jnp.stack, put words into static="
        ) from None
    seen = np.isfinite if array.dtype.kind in "fc" else np.asarray
    if not np.array_equal(seen(leaf), seen(array)):
        raise ValueError(f"axis {name!r} has numbers beyond {array.dtype}: turn jax_enable_x64 on")
    return array


def _shapes(study: Study) -> Any:
    """The shapes of a member's value, one and the same for all static values."""
    first, *others = study.choices
    wanted = _shapes_for(study, first)
    for choice in others:
        found = _shapes_for(study, choice)
        if _names.structure(found) != _names.structure(wanted):
            raise ValueError(
                f"fn returns {_names.structure(wanted)} for {spoken(first)} and {_names.structure(found)} for "
                f"{spoken(choice)}: return the same from all, or sweep them apart"
            )
        for (path, one), other in zip(jax.tree_util.tree_leaves_with_path(wanted), jax.tree.leaves(found), strict=True):
            if (one.shape, one.dtype) != (other.shape, other.dtype):
                raise ValueError(
                    f"the result{jax.tree_util.keystr(path)} is {one.dtype}{list(one.shape)} for {spoken(first)} and "
                    f"{other.dtype}{list(other.shape)} for {spoken(choice)}: return one shape, or sweep them apart"
                )
    return wanted


def _shapes_for(study: Study, choice: Choice) -> Any:
    try:
        shapes = _cached_shapes(study.fn, choice, study.forms, _trace.x64())
    except (TypeError, IndexError) as error:
        if not (isinstance(error, _NEEDS_A_VALUE) or "concrete values" in str(error)):
            raise
        names = ", ".join(form.name for form in study.forms)
        raise ValueError(
            f"fn needs a Python value where an axis ({names}) gives a traced one, as a shape, a number of steps or an "
            f"if does: put that name in static= instead of axes. JAX says: {error}"
        ) from error
    if not jax.tree.leaves(shapes):
        raise ValueError("fn must return an array or a pytree of arrays, got nothing")
    for path, leaf in jax.tree_util.tree_leaves_with_path(shapes):
        if jnp.issubdtype(leaf.dtype, jax.dtypes.extended):
            raise ValueError(f"the result{jax.tree_util.keystr(path)} is a random key: return its jax.random.key_data")
    return shapes


@kept(2)
def _cached_shapes(fn: Callable[..., Any], choice: Choice, forms: tuple[Points, ...], x64: bool) -> Any:
    del x64  # tells results under one setting from those under the other
    return jax.eval_shape(member_of(fn, choice, forms), *(form.leaves() for form in forms))
