"""The filling in of a sweep's or a batch's blocks: what a store has, and then the rest."""

from collections.abc import Callable, Sequence

import jax

from jaxreg import _blocks
from jaxreg.store._blocks import Place, Store


def fill(
    places: Sequence[Place],
    store: Store | None,
    *,
    restored: Callable[[Place], bool],
    compute: Callable[[list[Place]], None],
) -> None:
    """Have this process's share of the blocks filled in; with a store all processes wait until it is whole.

    Args:
        places: of all blocks.
        store: where finished blocks are, if anywhere.
        restored: ``restored(place)``: takes a block from the store, and says whether it was there.
        compute: of the blocks that were not.
    """
    mine = _blocks.shares(places)[jax.process_index()]
    compute([place for place in mine if store is None or not restored(place)])
    if store is not None:
        _blocks.wait_for_all("blocks stored")
        if jax.process_index() == 0:
            store.finish()
