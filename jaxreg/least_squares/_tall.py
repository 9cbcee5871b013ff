"""One fit of data that are read in chunks: Levenberg-Marquardt's steps on the host, each look a pass over all rows.

A pass leaves a triangle. The first comes of QRs; later ones of the products of derivatives along the directions that
the last triangle made orthonormal, which have nearly the digits of a QR at a third of its price.

Source: J. Demmel et al., SIAM J. Sci. Comput. 34 (2012) A206, for the tree of QRs; T. Fukaya et al., SIAM J. Sci.
Comput. 42 (2020) A477, for products of preconditioned columns.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxreg import _jit
from jaxreg import covariance as covariances
from jaxreg._blocks import Deadline
from jaxreg._shapes import Float
from jaxreg.covariance._rows import variance_of_sums
from jaxreg.least_squares import _levenberg_marquardt as levenberg_marquardt
from jaxreg.least_squares._chunks import Chunks
from jaxreg.least_squares._fit import Fit
from jaxreg.least_squares._flat_problem import FlatProblem, Options, moved_by
from jaxreg.least_squares._flattening import flat_problem
from jaxreg.least_squares._levenberg_marquardt import State
from jaxreg.least_squares._look import Look, directions, from_products
from jaxreg.least_squares._passes import Facts, Sums, joined, of_piece
from jaxreg.least_squares._result import at_edge, of_params, onto_bounds, status_of
from jaxreg.least_squares._solver import num_free, solve
from jaxreg.least_squares._watched import Step
from jaxreg.problems import Problem
from jaxreg.status import Part, Status

_BLOCK = 4096  # rows whose rounding says whether columns are independent


class Passes:
    """Passes over the rows. The problem is that of one row, which has all that does not depend on the rows."""

    def __init__(self, problem: Problem, chunks: Chunks, *, careful: bool) -> None:
        self.problem, self.chunks, self.careful = problem, chunks, careful
        self.unit: Any = None
        facts: Facts = self.over("facts")
        self.unit = jnp.where(facts.unit > 0, facts.unit, 1)
        self.facts = facts._replace(unit=self.unit)

    def over(self, kind: str, *given: Array) -> Any:
        """What one pass of a kind finds."""
        options: dict[str, Any] = {"kind": kind, "block": self.chunks.block, "careful": self.careful}
        unit, given = jax.device_get((self.unit, given))  # which any device takes
        found = self.chunks.read(kind, lambda rows, count: of_piece(self.problem, rows, count, unit, given, **options))
        return joined(jax.tree.map(lambda *leaves: np.stack(leaves), *found), kind=kind)

    def look(self, state: State, along: Array) -> tuple[Look, Array]:
        """At a state's trial, along the directions of where it stands, if they serve; and χ² of the data."""
        if not self.careful and np.isfinite(along).all():
            look, chi2 = self.over("products", state.trial, state.here.noise, along)
            look, sound = _from_products(look, state.here)
            # A trial that is refused needs no derivatives.
            if sound or not look.before <= max(state.here.cost, state.ceiling):
                return look, chi2
        found: tuple[Look, Array] = self.over("rows", state.trial, state.here.noise)
        return found


def tall_fit(
    problem: Problem, chunks: Chunks, options: Options, *, tell: Callable[[Step], Any] | None, timeout: float | None
) -> Fit:
    """The fit of all rows, by the steps of ``solve`` without acceleration; without residuals and problem."""
    end = Deadline(timeout)
    passes = Passes(problem, chunks, careful=options.careful)
    facts = passes.facts
    num_params, num_points = num_free(problem), int(facts.num_rows)
    if num_params > num_points:
        raise ValueError(f"y must have at least as many points as there are parameters, {num_params}, got {num_points}")
    state, along, done = _begin(problem, facts, options=options)
    chi2 = facts.size
    while not done and not end.has_passed():
        there, of_trial = passes.look(state, along)
        state, along, done, chi2, params = _stepped(problem, facts, state, there, (chi2, of_trial), options=options)
        if tell is not None:
            tell(Step(int(state.num_steps), float(chi2), float(state.damping), jax.device_get(params)))
    if state.pole and not options.careful:
        return tall_fit(problem, chunks, options._replace(careful=True), tell=tell, timeout=timeout)
    if not state.startable:
        return _failed(passes, facts)

    at = state.last if state.converged else state.params
    sums = passes.over("sums", at, state.here.noise)
    for _ in range(2):  # not the last step after all, and then onto the bounds
        params = _ended(problem, facts, state, at, sums)
        if (params == at).all():
            break
        at, sums = params, passes.over("sums", params, state.here.noise)
    fit: Fit = _close(problem, facts, state, at, sums)
    return fit if done else fit.replace(status=jnp.full_like(fit.status, Status.TIMEOUT))


@_jit.compiled("options")
def _begin(problem: Problem, facts: Facts, options: Options) -> tuple[State, Array, Array]:
    frame = _frame(problem, facts)
    state = levenberg_marquardt.init(frame, frame.start)
    state = state._replace(here=state.here._replace(jacobian=None, root=None))
    return state, directions(state.here), levenberg_marquardt.finished(state, options.max_steps)


@_jit.compiled("options")
def _stepped(
    problem: Problem, facts: Facts, state: State, there: Look, chi2: tuple[Array, Array], options: Options
) -> tuple[State, Array, Array, Array, Any]:
    frame = _frame(problem, facts)
    after = levenberg_marquardt.judged(frame, state, there)
    chi2_after = jnp.where((after.params == state.trial).all(), chi2[1], chi2[0])
    after = levenberg_marquardt.propose(frame, after)
    done = levenberg_marquardt.finished(after, options.max_steps)
    return after, directions(after.here), done, chi2_after, frame.restore(after.params)


@_jit.compiled()
def _from_products(look: Look, before: Look) -> tuple[Look, Array]:
    return from_products(look, before)


@_jit.compiled()
def _ended(problem: Problem, facts: Facts, state: State, at: Float[Array, "p"], sums: Sums) -> Float[Array, "p"]:
    """Where the errors are to be known, of a look at one such place."""
    frame = _frame(problem, facts)
    moved = (at != state.last).any()  # it was not the last step already
    params = jnp.where(moved, at, levenberg_marquardt.with_last_step(state, sums.cost).params)
    if frame.has_domain and frame.bounds is not None:
        params = jnp.where((params == at).all(), onto_bounds(frame, at, sums.gradient), params)
    return params


@_jit.compiled()
def _close(problem: Problem, facts: Facts, state: State, params: Float[Array, "p"], sums: Sums) -> Fit:
    frame = _frame(problem, facts)
    free, status = frame.free(params, sums.gradient), status_of(frame, state)
    # As few rows as parameters stand for all, and as many for those where the loss bends down.
    rows = (sums.columns * sums.unit[:, None]).reshape(-1, params.size)
    rows = jnp.pad(rows, ((0, max(0, _BLOCK - len(rows))), (0, 0)))
    sign = jnp.where(jnp.arange(len(rows)) < params.size, 1, -1).astype(rows.dtype)
    total, (square, first, second) = facts.num_rows.astype(rows.dtype), sums.moments
    mean, used = first / total, jnp.sum(free).astype(rows.dtype)
    estimate = covariances.estimate(
        "classic",
        rows.T,
        jnp.ones_like(sign),
        sign if len(sums.columns) > 1 else None,
        free=free,
        absolute_sigma=problem.absolute_sigma,
        unit=facts.unit,
        variance=variance_of_sums(total, square, (mean, second / total - mean**2), used),
    )
    undetermined = jnp.where((status == Status.SINGULAR) | ~estimate.regular, estimate.undetermined, 0)
    if frame.has_domain:
        status, undetermined = at_edge(status, undetermined, moved_by(*sums.inside) & free, estimate.regular)
    estimate = estimate._replace(undetermined=undetermined)
    fit, lost = of_params(frame, params, status, state.num_steps, estimate, free, facts.num_rows)
    none = jnp.int32(-1)
    place = jnp.asarray(frame.places)[jnp.argmax(lost)]
    culprit = jnp.stack([jnp.int32(Part.ERROR), none, place])
    culprit = jnp.where(fit.status == Status.NONFINITE, culprit, jnp.stack([jnp.int32(Part.NOTHING), none, none]))
    return fit.replace(chi2=sums.chi2, culprit=culprit)


def _frame(problem: Problem, facts: Facts) -> FlatProblem:
    """The solver's view but for the rows."""
    flat = flat_problem(problem, unit=facts.unit, least=0)
    return flat._replace(size=facts.size, valid=jnp.asarray(True), startable=facts.usable)


def _failed(passes: Passes, facts: Facts) -> Fit:
    """What is said of a fit that could not begin: by the piece with the first of what may be wrong."""
    order = (Part.X, Part.Y, Part.SIGMA, Part.PARAMETER, Part.PREDICTION, Part.LOSS, Part.DERIVATIVE)
    problem, size = passes.problem, passes.chunks.like.y[0].size
    worst: tuple[int, ...] = (len(order), 0, int(Part.SQUARES), -1, -1)
    for piece, rows in passes.chunks.terms():
        given = {name: value for name, value in rows._asdict().items() if name != "keywords" and value is not None}
        try:
            whole = problem.replace(**given, **rows.keywords)
        except ValueError as error:
            error.add_note(f"The row is counted from row {piece.first}, where a chunk begins.")
            raise
        fit: Fit = solve(whole, Options(max_steps=0, careful=passes.careful))
        part, row, parameter = map(int, fit.culprit)
        if part in order:  # of a complex number the imaginary part is in the same row
            row = row if row < 0 else piece.first * size + row % (piece.rows * size)
            worst = min(worst, (order.index(Part(part)), piece.number, part, row, parameter))
    return fit.replace(
        residuals=None,
        chi2=jnp.full_like(fit.chi2, jnp.nan),
        dof=facts.num_rows.astype(jnp.int32) - num_free(problem),
        status=jnp.int32(Status.NONFINITE),
        culprit=jnp.asarray(worst[2:], jnp.int32),
    )
