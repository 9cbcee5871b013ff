"""Shapes in annotations: ``Float[Array, "p n"]`` is an ``Array`` of floats, (p, n); in a call one name is one size.

Here they are plain ``Annotated`` types, for the reader. The tests put jaxtyping, which has the same names, in the place
of this module and check them at each call. Functions that check their own arguments say shapes in their docstrings.
"""

from typing import Annotated as Bool
from typing import Annotated as Float
from typing import Annotated as Int

__all__ = ["Bool", "Float", "Int"]
