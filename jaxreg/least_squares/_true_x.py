"""Terms and problems whose points have a true x each, where their residuals are distances from the curve."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from jaxreg._shapes import Bool, Float
from jaxreg.least_squares._errors_in_x import Curve, Factors, Numbers
from jaxreg.least_squares._flat_term import FlatTerm, joined
from jaxreg.models import Params
from jaxreg.models._model import couples_rows, is_rowwise, shown
from jaxreg.problems._form import Term, TermForm
from jaxreg.problems._starts import neutral_rows


class TrueX(NamedTuple):
    """What a term with errors in x has beside its residuals."""

    factors: Factors  # with sigma·unit for that of y
    eliminated: Callable[[Params], Numbers]  # in sigmas·unit, how far each true x lies from the observed one
    adjusted: Callable[[Params], Array]  # x's shape, the true x
    nearby: Callable[[Numbers, int | None], FlatTerm]  # the term whose true x are sought from other places

    def noisy(
        self, key: Array, x: Array, params: Params, size: Float[Array, ""], pairs: Bool[Array, ""]
    ) -> tuple[Array, Array]:
        """The true x with new errors, and those of y, which may go with them; where pairs are drawn x as it is."""
        normal = jax.random.normal(key, (len(self.factors.of_x) + 1, *self.factors.of_y.shape), self.factors.of_y.dtype)
        shifts, noise = self.factors.coloured(size * normal)
        adjusted = self.adjusted(params)
        moved = adjusted + jnp.stack(shifts, axis=-1).reshape(adjusted.shape)
        return jnp.where(pairs, x.astype(moved.dtype), moved), noise


def with_errors_in_x(flat: FlatTerm, term: Term, factors: Factors, dtype: Any) -> FlatTerm:
    """The term whose residuals are distances from the curve."""
    x, y = jax.tree.map(lambda leaf: leaf.astype(dtype), neutral_rows(term.x, term.y, term.mask))

    def begun_at(start: Numbers, most: int | None = None) -> FlatTerm:
        def curve(params: Params) -> Curve:
            return Curve.of(lambda params, x: flat.predict(params, x).astype(dtype), params, x, y, factors, start, most)

        def adjusted(params: Params) -> Array:
            return curve(params).adjusted(params)

        def predict(params: Params) -> Array:
            return flat.predict(params, adjusted(params))

        def residual(params: Params) -> Float[Array, "k"]:
            return jnp.where(flat.counted, curve(params).distance(params).ravel(), 0)

        return flat._replace(
            residual=residual,
            raw=lambda params: y - predict(params).astype(dtype),
            predict=predict,
            true_x=TrueX(factors, lambda params: curve(params).eliminated(params), adjusted, begun_at),
        )

    return begun_at(tuple(jnp.zeros_like(y) for _ in factors.of_x))


def rows_are_apart(flat: FlatTerm, term: Term, form: TermForm, params: Params) -> Bool[Array, ""]:
    """Whether the model says, or shows, that it takes each row of x for itself, as a true x for each point needs it."""
    if is_rowwise(form.model):
        return jnp.asarray(True)
    x, _ = neutral_rows(term.x, term.y, term.mask)
    return ~couples_rows(lambda x: flat.predict(shown(params), x), x)


def eliminated(problem: Any, params: Float[Array, "p"]) -> list[Numbers]:
    """Of each term of a flat problem the way to the true x, of one whose x is exact nothing."""
    everything = problem.restore(params)
    return [() if term.true_x is None else term.true_x.eliminated(everything) for term in problem.terms]


def nearby(problem: Any, starts: list[Numbers], most: int | None = None) -> Any:
    """The same flat problem, its true x sought from others, near which few steps find them: as many as ``most``."""
    if not problem.has_errors_in_x:
        return problem
    pairs = zip(problem.terms, starts, strict=True)
    terms = tuple(term if term.true_x is None else term.true_x.nearby(start, most) for term, start in pairs)

    def residual(params: Float[Array, "p"]) -> Float[Array, "n"]:
        everything = problem.restore(params)
        return joined([term.residual(everything) for term in terms])

    return problem._replace(terms=terms, residual=residual)
