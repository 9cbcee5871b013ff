"""What ``print``, a prompt and a notebook show of results."""

from collections.abc import Callable
from typing import Any

from jaxreg import comparison, uncertainty
from jaxreg._tables import Table, as_html, as_text
from jaxreg.comparison._comparison import parts_of_comparison
from jaxreg.global_fits import GlobalFit
from jaxreg.least_squares import Fit
from jaxreg.models import Model
from jaxreg.problems import Problem
from jaxreg.report._fits import parts_of_fit
from jaxreg.report._global_fits import parts_of_global_fit
from jaxreg.report._results import parts_of_result
from jaxreg.report._studies import parts_of_model, parts_of_problem, parts_of_sweep, parts_of_training
from jaxreg.results import Sweep
from jaxreg.training import Training

Parts = Callable[[Any], list[str | Table]]


def show(kind: Any, parts: Parts, *, at_prompt: bool = True) -> None:
    """Have ``print`` and notebooks show the things of a class by their parts, and ``repr`` too."""
    plain = kind.__repr__

    def text(self: Any) -> str:
        try:
            return as_text(parts(self))
        except Exception:  # under a trace, and of what was put together by hand: to be shown never fails
            return str(plain(self))

    def html(self: Any) -> str | None:
        try:
            return as_html(parts(self))
        except Exception:  # a notebook then shows the text
            return None

    kind.__str__, kind._repr_html_ = text, html
    if at_prompt:
        kind.__repr__ = text


def show_all() -> None:
    """Of all results that have more to say than their numbers."""
    show(Fit, lambda fit: parts_of_fit(fit, distribution="t" if fit.problem is None else None))
    show(GlobalFit, lambda fit: parts_of_global_fit(fit, distribution="t" if fit.problem is None else None))
    show(Training, parts_of_training)
    show(Sweep, parts_of_sweep)
    show(Problem, parts_of_problem)
    show(Model, parts_of_model)
    show(comparison.Comparison, parts_of_comparison, at_prompt=False)
    for thing in (comparison.Goodness, *vars(uncertainty).values()):
        if isinstance(thing, type) and hasattr(thing, "_fields"):
            show(thing, parts_of_result, at_prompt=False)
