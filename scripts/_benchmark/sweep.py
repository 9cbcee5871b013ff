"""The cases of ``benchmark.py sweep``: the exercises' problem on every program for it, each ratio beside its target."""

import argparse
import functools
import math
import sys
from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np

import jaxreg
from _benchmark import measure, sgd
from _benchmark.measure import Case, Timing, Verdict
from _benchmark.process import answer_all, other_process, timed_there

UNIT = "step/member"
SIZE = "members"  # the option that says how large the problem is
PUBLISHED_MEMBERS = 3  # of the published loop, 40 ms each
TOLERANCE = 2e-6  # (1 + |number|); programs add in other orders, and 96 steps keep the rounding of float32 below this
# The slope of |r| jumps at 0: where rounding decides the sign of one residual, that member's path parts for good.
SHARE = {"squared": 1.0, "huber": 1.0, "absolute": 0.99}

NOT_SLOWER = 1.05  # two runs of the same differ by as much

Settings = argparse.Namespace


def compared(name: str, given: sgd.Problem, makers: Sequence[str], settings: Settings) -> Case:
    """Check that all competitors compute the same numbers, then time them in turn."""
    asked = {maker: functools.partial(getattr(sgd, maker), given) for maker in makers if maker in settings.only}
    competitors, notes = measure.competitors(asked)

    def check(results: dict[str, Any]) -> None:
        wanted = None
        for maker, result in results.items():
            found = competitors[maker].numbers(result)
            wanted = found if wanted is None else wanted
            for part, a, b in zip(("params", "losses"), found, wanted, strict=True):
                measure.close(f"{name}: {maker}'s {part}", a, b, tolerance=TOLERANCE, share=SHARE[given.loss])
        if len(results) > 1:
            share = "" if SHARE[given.loss] == 1 else f" for at least {100 * SHARE[given.loss]:g} % of the members"
            notes.append(f"{', '.join(results)} compute the same parameters and losses to {TOLERANCE:g}{share}")

    timings = measure.interleaved({maker: made.run for maker, made in competitors.items()}, settings.repeats, check)
    return Case(timings, dict.fromkeys(timings, given.steps * len(given.rates)), [], notes)


def judged(name: str, case: Case, *targets: tuple[str, str, float]) -> Case:
    """The case with its targets ``(one, other, limit)``, as far as both were timed."""
    verdicts = [
        measure.ratio(name, case.timings, one, other, limit)
        for one, other, limit in targets
        if one in case.timings and other in case.timings
    ]
    return case._replace(verdicts=verdicts)


def squared(settings: Settings) -> Case:
    """Squared loss against the C limit."""
    makers = ("c", "numba_rows", "numba_members", "plain", "bare", "sweep")
    case = compared("squared", sgd.problem("squared", settings.members), makers, settings)
    return judged("squared", case, ("sweep", "c", 1.0))


def huber(settings: Settings) -> Case:
    """Huber's loss against numba and the C limit."""
    return _robust("huber", settings)


def absolute(settings: Settings) -> Case:
    """The absolute loss against numba and the C limit."""
    return _robust("absolute", settings)


def _robust(loss: str, settings: Settings) -> Case:
    makers = ("c", "numba_rows", "numba_members", "plain", "bare", "sweep")
    case = compared(loss, sgd.problem(loss, settings.members), makers, settings)
    return judged(loss, case, ("sweep", "numba_rows", 0.6), ("sweep", "numba_members", 0.6), ("sweep", "c", 5.0))


def features(settings: Settings) -> Case:
    """32 features, minibatches of 256, against plain vmap(scan)."""
    given = sgd.problem("squared", max(settings.members // 10, 1), features=32, batch_size=256, largest_rate=0.05)
    return judged(
        "features", compared("features", given, ("plain", "c", "bare", "sweep"), settings), ("sweep", "plain", 0.25)
    )


def published(settings: Settings) -> Case:
    """The published loop: one run after another in PyTorch, and in scikit-learn, which makes other steps."""
    given = sgd.problem("squared", settings.members)
    some = given._replace(rates=given.rates[:: math.ceil(len(given.rates) / PUBLISHED_MEMBERS)])
    loops = compared("published", some, ("torch", "c"), settings)
    fast = compared("published", given, ("sweep",), settings)
    timings = {name: loops.timings[name] for name in loops.timings if name != "c"} | fast.timings
    sizes = loops.members_steps | fast.members_steps
    notes, verdicts = [*loops.notes, *fast.notes], []
    asked = {"scikit": functools.partial(sgd.scikit, some)} if "scikit" in settings.only else {}
    others, missing = measure.competitors(asked)
    notes += missing
    timings |= measure.interleaved({name: made.run for name, made in others.items()}, settings.repeats)
    for name in others:
        sizes[name] = given.steps * len(some.rates)
        notes.append(f"{name}'s SGDRegressor steps after every row: not the same numbers, its time is by epochs alike")
    if {"torch", "sweep"} <= timings.keys():
        weight = sizes["torch"] / sizes["sweep"]
        one = measure.ratio("published", timings, "torch", "sweep", 20_000, weight=weight)
        # Not compared with a baseline: a loop in Python loses more than a sweep where other programs run.
        verdicts = [one._replace(at_least=True, compared=False)]
    return Case(timings, {name: sizes[name] for name in timings}, verdicts, notes)


def million(settings: Settings) -> Case:
    """A hundred times the members, final parameters only: peak memory, and the time of a member."""
    few, many = settings.members, 100 * settings.members
    with other_process(__name__) as call:
        runs = {str(size): functools.partial(call, {"members": size}) for size in (few, many)}
        timings = timed_there(runs, max(settings.repeats // 5, 1))
        peak = call({"peak": True})[0]
    ratio = measure.ratio("million", timings, str(many), str(few), 1.5, weight=many / few)
    memory = measure.single("million", f"peak GB of {many} members", peak, 1.0)
    return Case(timings, {str(few): 96 * few, str(many): 96 * many}, [ratio, memory], [])


def devices(settings: Settings) -> Case:
    """One virtual CPU device against two."""
    sizes: dict[str, int] = {}
    timings: dict[str, Timing] = {}
    with other_process(__name__, devices=1) as one, other_process(__name__, devices=2) as two:
        for loss in sgd.LOSSES:
            asked = {"members": settings.members, "loss": loss, "whole": True}
            runs = {f"{loss} on 1": functools.partial(one, asked), f"{loss} on 2": functools.partial(two, asked)}
            timings |= timed_there(runs, settings.repeats)
            sizes |= dict.fromkeys(runs, 96 * settings.members)
    verdicts = [measure.ratio("devices", timings, f"{loss} on 2", f"{loss} on 1", NOT_SLOWER) for loss in sgd.LOSSES]
    return Case(timings, sizes, verdicts, [])


def keys(settings: Settings) -> Case:
    """20 keys, the rows reshuffled for each, against one key."""
    given = sgd.problem("squared", settings.members)
    run, count = sgd.training(given), max(settings.members // 20, 1)
    grid = {"key": jax.random.split(sgd.KEY, 20), "learning_rate": given.rates[::20][:count]}
    timings = measure.interleaved(
        {
            "20 keys": lambda: jaxreg.sweep(run, grid, progress=False),
            "1 key": lambda: jaxreg.sweep(run, {"learning_rate": given.rates}, progress=False),
        },
        settings.repeats,
    )
    sizes = {"20 keys": given.steps * 20 * count, "1 key": given.steps * settings.members}
    weight = sizes["20 keys"] / sizes["1 key"]
    return Case(timings, sizes, [measure.ratio("keys", timings, "20 keys", "1 key", 5.0, weight=weight)], [])


def retrace(settings: Settings) -> Case:
    """A second call with other numbers of the same shapes traces nothing."""
    given, traced = sgd.problem("squared", settings.members), []

    def run(learning_rate: jax.Array) -> jaxreg.Training:
        traced.append(True)
        return sgd.training(given)(learning_rate)

    jaxreg.sweep(run, {"learning_rate": given.rates}, progress=False)
    before = len(traced)
    jaxreg.sweep(run, {"learning_rate": given.rates / 2}, progress=False)
    again = len(traced) - before
    return Case({}, {}, [measure.single("retrace", "traces of a second call", again, 0)], [])


def overhead(settings: Settings) -> Case:
    """One block of ``sweep`` against ``jit`` of the same nested ``vmap``, members first and members last."""
    timings: dict[str, Timing] = {}
    for members in (settings.members, 1):
        runs = _block_and_bare(sgd.problem("squared", members))
        timings |= measure.interleaved(runs, settings.repeats if members > 1 else 20 * settings.repeats)
    one, other = timings["1, sweep"], timings["1, members last"]
    extra = Verdict(
        "overhead",
        "ms more for 1 member",
        value=1e3 * (one.minimum - other.minimum),
        of_medians=1e3 * (one.median - other.median),
        of_work=1e3 * (min(one.work) - min(other.work)),
        limit=1.0,
        compared=False,
    )
    relative = [
        measure.ratio("overhead", timings, f"{settings.members}, sweep", f"{settings.members}, {bare}", 1.05)
        for bare in ("members first", "members last")
    ]
    return Case(timings, {name: 96 * int(name.split(",")[0]) for name in timings}, [*relative, extra], [])


def _block_and_bare(given: sgd.Problem) -> dict[str, Callable[[], Any]]:
    members, run = len(given.rates), sgd.training(given)

    def bare(out_axes: int) -> Callable[[], Any]:
        compiled = jax.jit(jax.vmap(run, out_axes=out_axes))
        return lambda: jax.tree.map(np.asarray, compiled(given.rates))

    def one_block() -> Any:
        return jaxreg.sweep(run, {"learning_rate": given.rates}, chunk_size=members, progress=False)

    return {f"{members}, members first": bare(0), f"{members}, members last": bare(-1), f"{members}, sweep": one_block}


CASES: dict[str, Callable[[Settings], Case]] = {
    case.__name__: case
    for case in (squared, huber, absolute, features, published, million, devices, keys, retrace, overhead)
}
COMPETITORS = ("c", "numba_rows", "numba_members", "plain", "bare", "sweep", "torch", "scikit")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of the command."""
    measure.names(parser, "--case", list(CASES), f"some of {', '.join(CASES)} (all)")
    measure.names(parser, "--only", COMPETITORS, f"competitors, some of {', '.join(COMPETITORS)} (all)")
    parser.add_argument("--members", type=int, default=10_240, help="members of a sweep (%(default)s)")


def run(settings: Settings) -> dict[str, Case]:
    """Run the cases that are asked for."""
    found = {}
    for name in settings.case:
        print(f"{name} …", file=sys.stderr, flush=True)
        found[name] = CASES[name](settings)
    return found


# What runs in processes of its own.


def serve() -> None:
    """Sweep as it is asked, and answer with the seconds."""
    answer_all(lambda **asked: measure.timed(_sweep_of(**asked))[:2])


@functools.cache
def _sweep_of(members: int, loss: str = "squared", whole: bool = False) -> Callable[[], Any]:
    given = sgd.problem(loss, members)
    train = sgd.training(given)

    def final(learning_rate: jax.Array) -> Any:
        result = train(learning_rate)
        return result if whole else result.params

    return lambda: jaxreg.sweep(final, {"learning_rate": given.rates}, progress=False)
