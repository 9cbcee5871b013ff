"""A global fit driven from the host: pieces of the data sets on all threads or devices, in bounded memory."""

import functools
import itertools
import math
from collections.abc import Callable, Iterator
from typing import Any

import jax
import numpy as np

from jaxreg import _blocks, _jit
from jaxreg.global_fits._fit import GlobalFit
from jaxreg.global_fits._problem import GlobalProblem
from jaxreg.global_fits._solver import solve, solved
from jaxreg.global_fits._view import At, Plan, plan_of

_NUMBERS = 2**20  # of the Jacobians of a piece, which takes some milliseconds; its bits depend on its size
_FEWEST, _MOST = 16, 2**12  # data sets


def fitted(problem: GlobalProblem, max_steps: int) -> GlobalFit:
    """A global fit at the top level: as one program, or in pieces where there are many data sets."""
    plan, devices = plan_of(problem), tuple(jax.local_devices())
    size = _NUMBERS // (plan.rows * (len(plan.columns.own) + len(plan.columns.shared)))
    count = math.ceil(plan.form.num_sets / max(_FEWEST, min(_MOST, size)))
    if count == 1 or (len(devices) == 1 and devices[0].platform != "cpu"):
        return solve(problem, max_steps, differentiable=False)
    return solved(problem, max_steps, _Hosted(math.ceil(plan.form.num_sets / count), devices))


class _Hosted:
    """The runner that computes pieces side by side."""

    def __init__(self, size: int, devices: tuple[jax.Device, ...]) -> None:
        self.size, self.devices, self.known = size, devices, set[Any]()

    def each(self, fn: Callable[..., Any], problem: GlobalProblem, *args: Any) -> Any:
        cut = [list(self._cut(arg)) for arg in args]
        pieces = [(piece, tuple(arg[place] for arg in cut)) for place, piece in enumerate(self._pieces(problem))]
        found: dict[int, Any] = {}

        def compute(place: int) -> Any:
            with jax.default_device(self.devices[place % len(self.devices)]):
                return jax.tree.map(np.asarray, _piece(*pieces[place], fn=fn))

        def keep(place: int, result: Any) -> None:
            found[place] = result

        # A Cholesky decomposition is LAPACK's, which two threads are not to call at once.
        alone = any(np.ndim(term.sigma) > np.ndim(term.y) for term in problem.terms)
        workers = 1 if alone else max(_blocks.workers_on(self.devices), len(self.devices))
        first = 0 if fn in self.known else min(len(self.devices), len(pieces))  # compiled on the caller's thread
        _blocks.run(range(first), compute, workers=1, finished=keep)
        _blocks.run(range(first, len(pieces)), compute, workers=workers, finished=keep)
        self.known.add(fn)
        num_sets = problem.form.num_sets
        parts = [found[place] for place in range(len(pieces))]
        return jax.tree.map(lambda *leaves: np.concatenate(leaves)[:num_sets], *parts)

    def joint(self, fn: Callable[..., Any], plan: Plan, *args: Any) -> Any:
        return _joint(args, fn=fn, plan=plan)

    def repeat(self, going: Callable[[Any], Any], body: Callable[[Any], Any], state: Any) -> Any:
        while bool(going(state)):
            state = body(state)
        return state

    def _pieces(self, problem: GlobalProblem) -> Iterator[GlobalProblem]:
        leaves, structure = jax.tree.flatten((problem.p0, problem.bounds, problem.terms))
        form = problem.form._replace(num_sets=self.size)
        pairs = zip(leaves, problem.form.own, strict=True)
        parts = [self._cut(np.asarray(leaf)) if own else itertools.repeat(leaf) for leaf, own in pairs]
        for piece in zip(*parts, strict=False):
            p0, bounds, terms = jax.tree.unflatten(structure, piece)
            yield GlobalProblem(p0, bounds, terms, form)

    def _cut(self, arg: Any) -> Iterator[Any]:
        """What has an axis of data sets in pieces of one size, the last one filled up."""
        if isinstance(arg, At):
            return (arg._replace(own=own) for own in self._cut(arg.own))
        return map(functools.partial(_filled, np.asarray(arg), self.size), range(0, len(arg), self.size))


def _filled(leaf: np.ndarray, size: int, first: int) -> np.ndarray:
    part = leaf[first : first + size]
    missing = size - len(part)
    return np.concatenate([part, np.repeat(part[-1:], missing, axis=0)]) if missing else part


@_jit.compiled("fn")
def _piece(problem: GlobalProblem, args: Any, fn: Callable[..., Any]) -> Any:
    return fn(problem, *args)


@_jit.compiled("fn", "plan")
def _joint(args: Any, fn: Callable[..., Any], plan: Plan) -> Any:
    return fn(plan, *args)
