"""The filling in of a sweep's or a batch's blocks: what a store has, and then the rest."""

import contextlib
from collections.abc import Callable, Sequence
from typing import Any

import jax

from jaxreg import _blocks
from jaxreg._members import not_computed
from jaxreg._names import is_status, leaf_names
from jaxreg.status import Status
from jaxreg.store._blocks import Place, Store


def stand_ins(shapes: Any) -> list[Any]:
    """For each leaf of a member's values what stands for it where there was no time to compute it."""
    pairs = zip(leaf_names(shapes), jax.tree.leaves(shapes), strict=True)
    return [Status.TIMEOUT if is_status(name) else not_computed(leaf.dtype) for name, leaf in pairs]


def fill(
    places: Sequence[Place],
    store: Store | None,
    *,
    restored: Callable[[Place], bool],
    compute: Callable[[list[Place]], None],
) -> None:
    """Have this process's share of the blocks filled in, until all are or ``_blocks.TimeUpError`` ends it.

    With a store all processes wait until each is done.

    Args:
        places: of all blocks.
        store: where finished blocks are, if anywhere.
        restored: ``restored(place)``: takes a block from the store, and says whether it was there.
        compute: of the blocks that were not.
    """
    mine = _blocks.shares(places)[jax.process_index()]
    left = [place for place in mine if store is None or not restored(place)]
    with contextlib.suppress(_blocks.TimeUpError):
        compute(left)
    if store is not None:
        _blocks.wait_for_all("blocks stored")
        if jax.process_index() == 0:
            store.finish()
