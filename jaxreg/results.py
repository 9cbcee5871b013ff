"""The result of a sweep: a value for every point of a grid with named axes, and its forms as labelled tables."""

import dataclasses
from typing import TYPE_CHECKING, Any

import jax

from jaxreg import _tables
from jaxreg._points import labels

if TYPE_CHECKING:
    import pandas
    import xarray


@dataclasses.dataclass(frozen=True, eq=False)
class Sweep:
    """The result of ``sweep``: named axes and a value for each point of their grid.

    Attributes:
        axes: name → points. Static axes come first, each a tuple of Python values; then array axes, in the order given:
            arrays, typed keys, or any pytree with a common leading axis.
        values: what the function returned, a pytree whose leaves are NumPy arrays with the axes
            (all axes in order, those of one member's leaf).
        static: the names of the static axes.

    >>> import numpy as np
    >>> rates = np.array([0.1, 1.0])
    >>> print(Sweep({"learning_rate": rates}, {"loss": np.array([0.5, 2.0]), "params": {"w": np.zeros((2, 3))}}))
    Sweep
    axis           points  first  last
    learning_rate       2    0.1     1
    <BLANKLINE>
    value  least   25 %  median  75 %  most
    loss     0.5  0.875    1.25  1.62     2
    <BLANKLINE>
    array     shape of one    dtype
    params.w          (3,)  float64
    """

    axes: dict[str, Any]
    values: Any
    static: tuple[str, ...] = ()

    def to_xarray(self) -> "xarray.Dataset":
        """All values as an xarray Dataset, to be selected by name.

        Each leaf is a variable named by its path ("params.w", a bare array "value"). Its dimensions are the axes, then
        its own: "params.w_0", "params.w_1", …. An axis of numbers is its own coordinate. Static values are labelled by
        what they are or by their names, keys and other points by their index; one number for each point, where the
        points are a pytree, is a further coordinate ("start.w" along "start").

        Raises:
            ImportError: without xarray (``pip install 'jaxreg[tables]'``).

        >>> import numpy as np
        >>> rates = np.array([0.1, 1.0])
        >>> table = Sweep({"learning_rate": rates}, {"loss": np.array([0.5, 2.0])}).to_xarray()
        >>> float(table.loss.sel(learning_rate=1.0))
        2.0
        """
        library = _tables.xarray()
        coordinates: dict[str, Any] = {}
        for name, points in self.axes.items():
            for label, along in labels(name, points, static=name in self.static).items():
                coordinates[label] = (name, along)
        found = _tables.variables(self.values, coordinates, leading=len(self.axes))
        fields = zip(found, jax.tree.leaves(self.values), strict=True)
        return library.Dataset({one.name: ((*self.axes, *one.dims), leaf) for one, leaf in fields}, coordinates)

    def to_dataframe(self) -> "pandas.DataFrame":
        """The scalar values of each member as a pandas DataFrame: one row for each point of the grid.

        The columns are the axes, other coordinates, and the leaves without axes of their own; the others are left out.

        Raises:
            ValueError: if every leaf has axes of its own.
            ImportError: without xarray and pandas (``pip install 'jaxreg[tables]'``).

        >>> import numpy as np
        >>> rates = np.array([0.1, 1.0])
        >>> print(Sweep({"learning_rate": rates}, {"loss": np.array([0.5, 2.0])}).to_dataframe())
           learning_rate  loss
        0            0.1   0.5
        1            1.0   2.0
        """
        table = self.to_xarray()
        scalars = [name for name, variable in table.data_vars.items() if variable.ndim == len(self.axes)]
        if not scalars:
            raise ValueError(
                "a table of rows needs a scalar for each member, and all values are arrays: use to_xarray()"
            )
        frame = table[scalars].to_dataframe(dim_order=list(self.axes)).reset_index()
        return frame[[*self.axes, *(name for name in table.coords if name not in self.axes), *scalars]]
