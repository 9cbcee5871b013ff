"""A global fit as one compiled program."""

from jax import Array

from jaxreg.global_fits._view import Blocks
from jaxreg.least_squares import _levenberg_marquardt as levenberg_marquardt
from jaxreg.least_squares._flat_problem import FlatProblem
from jaxreg.least_squares._levenberg_marquardt import State
from jaxreg.least_squares._triangles import joined, split

_OWN_STEPS = 8


def own_steps(blocks: Blocks) -> Blocks:
    """A few steps of each data set alone, the shared parameters held; sets that cannot begin are left out.

    A bad start of one set's parameters would drive the shared ones away; and each set needs a damping of its own.
    """

    def one(flat: FlatProblem, params: Array) -> tuple[Array, Array]:
        columns = blocks.columns
        shared = columns.shared_of(params)
        own = flat._replace(
            start=columns.own_of(params),
            residual=lambda own: flat.residual(columns.params(own, shared)),
            bounds=None if flat.bounds is None else tuple(map(columns.own_of, flat.bounds)),
        )
        end = levenberg_marquardt.advanced(own, levenberg_marquardt.init(own, own.start), _OWN_STEPS, accelerate=False)
        return end.params, end.startable

    own, startable = blocks.of_each(one, blocks.start)
    _, shared = split(blocks.start, *own.shape)
    kept = blocks.kept & startable
    return blocks._replace(start=joined(own, shared), kept=kept, startable=kept.any())


def minimise(blocks: Blocks, max_steps: int) -> State:
    """The joint steps."""
    start = levenberg_marquardt.init(blocks, blocks.start)
    end = levenberg_marquardt.advanced(blocks, start, max_steps, accelerate=False)
    return levenberg_marquardt.ended(blocks, end)
