"""How well a fit describes its data, and which of several models they prefer."""

from jaxreg.comparison._comparison import Comparison, compare
from jaxreg.comparison._goodness import Goodness, goodness

__all__ = ["Comparison", "Goodness", "compare", "goodness"]
