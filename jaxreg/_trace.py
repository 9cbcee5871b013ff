"""What JAX is doing while a function of ours runs: tracing it, over how many members, or computing."""

import functools
import inspect
import math
import threading
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, ParamSpec, TypeVar

import jax
from jax import lax
from jax.extend.core import get_opaque_trace_state

from jaxreg._cache import kept

Given = ParamSpec("Given")
Returned = TypeVar("Returned")

MOST_AXES = 16  # of a sweep


def concrete(*values: Any) -> bool:
    """Whether the values of all leaves can be read now; under a trace they cannot."""
    return not any(isinstance(leaf, jax.core.Tracer) for leaf in jax.tree.leaves(values))


def at_top_level() -> bool:
    """Whether nothing is being traced. What a function has closed over is opaque, so JAX is asked for its state."""
    return bool(get_opaque_trace_state() == _top_level_state())


@functools.cache
def _top_level_state() -> Any:
    # A new thread starts at the top level, wherever this one is.
    with ThreadPoolExecutor(max_workers=1) as pool:
        return pool.submit(get_opaque_trace_state).result()


class Formed:
    """A pytree that chooses programs: a dataclass with one static field, ``form``, which may hold functions."""

    form: Any

    def with_form(self, form: Any) -> Any:
        """The same numbers with another form; dataclasses.replace takes six times as long."""
        other = object.__new__(type(self))
        other.__dict__.update(self.__dict__, form=form)
        return other


def bare(tree: Any) -> tuple[Any, tuple[Any, ...]]:
    """A pytree whose Formed parts are without their forms, and these: no program then refers to what they hold."""
    forms: list[Any] = []

    def without(node: Any) -> Any:
        if not isinstance(node, Formed):
            return node
        forms.append(node.form)
        return node.with_form(None)

    parts = tree if isinstance(tree, list) else [tree]
    found = [
        without(part) if isinstance(part, Formed | jax.Array) else jax.tree.map(without, part, is_leaf=_is_formed)
        for part in parts
    ]
    return found if isinstance(tree, list) else found[0], tuple(forms)


def formed(tree: Any, forms: Iterable[Any]) -> Any:
    """The pytree with its forms again."""
    left = iter(forms)
    return jax.tree.map(lambda node: node.with_form(next(left)) if _is_formed(node) else node, tree, is_leaf=_is_formed)


def _is_formed(node: Any) -> bool:
    return isinstance(node, Formed)


def compiled(*static: str) -> Callable[[Callable[Given, Returned]], Callable[Given, Returned]]:
    """Jit a function of which some arguments are static; under a trace leave it as it is.

    The programs of a model, a loss or an optimiser go when it goes. Under a trace it may have closed over tracers, and
    a cache that outlives the trace would leak them. What a function returns must not be Formed.
    """

    def decorate(fn: Callable[Given, Returned]) -> Callable[Given, Returned]:
        names = tuple(inspect.signature(fn).parameters)
        traced = [name for name in names if name not in static]
        now = threading.local()  # the static values and forms of the call in hand: no program refers to them

        @kept(1)
        def program(_: tuple[Any, ...]) -> Any:
            def on_arrays(*arrays: Any) -> Any:
                given = zip(traced, formed(arrays, now.forms), strict=True)
                return fn(**dict(given), **now.static)  # type: ignore[call-arg]

            on_arrays.__name__ = fn.__name__
            return jax.jit(on_arrays)

        @functools.wraps(fn)
        def call(*args: Given.args, **kwargs: Given.kwargs) -> Returned:
            if not at_top_level():
                return fn(*args, **kwargs)
            given = dict(zip(names, args, strict=False)) | kwargs
            now.static = {name: given[name] for name in static}
            arrays, now.forms = bare([given[name] for name in traced])
            try:
                jitted = program((*now.static.values(), *now.forms))
                run = undisturbed(jitted) if jax.config.jax_debug_nans else jitted  # type: ignore[attr-defined]
                return run(*arrays)
            finally:
                now.static, now.forms = {}, ()

        return call

    return decorate


def undisturbed(fn: Callable[Given, Returned]) -> Callable[Given, Returned]:
    """A function that JAX's debugging modes leave alone: it marks with NaN what there is not, and calls programs."""

    @functools.wraps(fn)
    def call(*args: Given.args, **kwargs: Given.kwargs) -> Returned:
        with jax.debug_nans(False), jax.disable_jit(False):
            return fn(*args, **kwargs)

    return call


def x64() -> bool:
    """Whether double precision is on, here and now: the setting is one of the thread and can change."""
    return bool(jax.config.jax_enable_x64)  # type: ignore[attr-defined]


# A layout that is fast for a thousand members is slow for one, and inside vmap a function cannot see the others. The
# names of the axes that it is mapped over it can see, and JAX keeps programs traced under different names apart: a
# sweep maps over axes of these names, and training reads them.


def axis_name(number: int, *, draws: bool) -> str:
    """The name of a sweep's axis; ``draws``: its points are keys, so its members see the rows in different orders."""
    return f"jaxreg.{'draws' if draws else 'values'}.{number}"


def num_members() -> int:
    """The members computed together."""
    return num_sharing() * _size(draws=True)


def num_sharing() -> int:
    """The members that see the same minibatches."""
    return _size(draws=False)


def _size(*, draws: bool) -> int:
    return math.prod(_length(axis_name(number, draws=draws)) for number in range(MOST_AXES))


def _length(name: str) -> int:
    try:
        return lax.axis_size(name)
    except NameError:  # not mapped over this axis
        return 1
