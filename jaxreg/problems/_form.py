"""The parts of a problem: the numbers of a term, and what chooses the program of a term and of the whole."""

from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import numpy as np

from jaxreg.losses._kinds import Kind, kind_of
from jaxreg.models import Apply, Model, Params
from jaxreg.objective import Loss


class Term(NamedTuple):
    """The numbers of one term: data, or a prior's means.

    Attributes:
        x: a pytree of arrays, as the model takes it.
        y: of any shape, real or complex.
        sigma: a scalar, of y's shape, or (y.size, y.size), a covariance.
        mask: of y's shape; None for all.
        keywords: of the loss, such as its threshold.
        sigma_x: a number, of x's shape, or a covariance a point, (…, d, d), or with y (…, d + 1, d + 1); None for an x
            without errors.
    """

    x: Any
    y: Any
    sigma: Any
    mask: Any
    keywords: dict[str, Any]
    sigma_x: Any = None


def without_rows(terms: Iterable[Term]) -> tuple[Term, ...]:
    """For what asks for no row: those of a large file are then not read."""
    return tuple(
        Term(None, np.zeros(0, term.y.dtype), np.ones(0) if np.ndim(term.sigma) else term.sigma, None, term.keywords)
        for term in terms
    )


class TermForm(NamedTuple):
    """What chooses the program of one term: hashable.

    Attributes:
        model: a Model or ``f(params, x)``.
        loss: elementwise in prediction and target, without its keywords; None for the squared one.
        scale: "mad" for a loss whose unit is estimated.
        absolute_sigma: whether sigma is the standard deviation itself.
        names: pairs (the model's name of a parameter, the problem's), in the order given; None where the model takes
            all parameters, as they are.
        is_prior: whether it is no data.
    """

    model: Model | Apply
    loss: Loss | None
    scale: str | None
    absolute_sigma: bool
    names: tuple[tuple[str, str], ...] | None = None
    is_prior: bool = False

    @property
    def kind(self) -> Kind:
        """Of its loss."""
        return kind_of(self.loss)


class Order:
    """Names of parameters in the order in which they were given, to be shown so: JAX sorts a dict by its keys.

    Equal to any other, as no program depends on it.
    """

    __slots__ = ("names",)

    def __init__(self, names: Iterable[str] = ()) -> None:
        self.names = tuple(names)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Order)

    def __hash__(self) -> int:
        return 0


class Form(NamedTuple):
    """What chooses the program of a problem: hashable.

    Attributes:
        terms: a form for each.
        free: of the numbers of ravel_pytree(p0), whether each is fitted; None for all.
        tie: free parameters -> all parameters that the models take; None where those are the same.
        order: of the start that was given.
    """

    terms: tuple[TermForm, ...]
    free: tuple[bool, ...] | None = None
    tie: Callable[[Params], Params] | None = None
    order: Order = Order()

    @property
    def absolute_sigma(self) -> bool:
        """Whether the size of the errors is known, of one term and so of all."""
        return any(term.absolute_sigma for term in self.terms)

    def has(self, *kinds: Kind) -> bool:
        """Whether a term has a loss of one of these kinds."""
        return any(term.kind in kinds for term in self.terms)
