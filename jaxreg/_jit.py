"""Programs that go when one of the functions that they are made for goes, and hold nothing of their calls."""

import functools
import inspect
import threading
from collections.abc import Callable, Iterable
from typing import Any, ParamSpec, TypeVar

import jax

from jaxreg._cache import kept
from jaxreg._trace import at_top_level, undisturbed

Given = ParamSpec("Given")
Returned = TypeVar("Returned")


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
