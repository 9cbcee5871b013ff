"""Data that are read chunk by chunk: arrays and memory maps, or what a user gives in chunks."""

import functools
import itertools
from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple

import jax
import numpy as np

from jaxreg import _blocks, _checks
from jaxreg.problems import _arguments as arguments
from jaxreg.problems._form import Term

SIZE = 2**18  # rows, where nobody says how many
_COLUMNS = 256  # of the table whose sums say whether a chunk has changed
_BLOCK = 2**12  # numbers of y whose derivatives stay in the cache


class Piece(NamedTuple):
    """Rows that are computed together."""

    number: int
    first: int  # of its rows among all
    rows: int
    term: Term


class Chunks:
    """The rows of one term, piece by piece, as often as they are asked for.

    Attributes:
        like: the first piece that is not empty; all have its form and its dtypes.
        size: rows to which each piece is filled up, so that there is one program.
        block: rows of it that are computed at once.
    """

    def __init__(self, source: Callable[[], Iterable[Term]], size: int, *, changeable: bool) -> None:
        self._source, self.size = source, _power(size)
        self._changeable = changeable
        self._known: dict[int, tuple[int, int]] = {}  # of each piece that was read its rows, and sums of their bits
        self._warm: set[Any] = set()  # programs that are compiled
        first = next((piece for piece in self._pieces() if piece.rows), None)
        if first is None:
            raise ValueError("y must have at least one point, got empty chunks")
        self.like = _converted(first.term)
        self.devices = jax.local_devices()
        block = _power(max(1, _BLOCK // self.like.y[0].size)) if self.devices[0].platform == "cpu" else self.size
        if changeable:  # small chunks are not filled up to large ones
            self.size = min(self.size, max(block, _power(first.rows)))
        self.block = min(self.size, block)

    def read(self, program: Any, compute: Callable[[Term, int], Any]) -> list[Any]:
        """``compute(rows, how many are there)`` of each piece, in their order, on all threads and devices.

        Raises:
            ValueError: for rows that are not those of the first time.
        """
        found: dict[int, Any] = {}
        totals: dict[int, tuple[int, int]] = {}

        def one(piece: Piece) -> Any:
            term, device = self.as_like(piece), self.devices[piece.number % len(self.devices)]
            if self._changeable:
                totals[piece.number] = piece.rows, _total(term)
                if self._known and self._known.get(piece.number) != totals[piece.number]:
                    raise _changed(f"others where row {piece.first} begins one")
            # Where the memory allows it, which that of a file does, no copy is made.
            rows = jax.tree.map(lambda leaf: jax.device_put(self._filled(leaf), device, may_alias=True), term)
            return jax.device_get(compute(rows, piece.rows))

        def keep(piece: Piece, result: Any) -> None:
            found[piece.number] = result

        pieces = (piece for piece in self._pieces() if piece.rows)
        if program not in self._warm:  # compiled once, not by each thread
            for piece in itertools.islice(pieces, len(self.devices)):
                keep(piece, one(piece))
            self._warm.add(program)
        _blocks.run(pieces, one, workers=_blocks.workers_on(self.devices), finished=keep)
        if not found or len(totals) < len(self._known):
            raise _changed("fewer")
        self._known = totals
        return [found[number] for number in sorted(found)]

    def terms(self) -> Iterator[tuple[Piece, Term]]:
        """The pieces one after the other, on this thread."""
        return ((piece, self.as_like(piece)) for piece in self._pieces() if piece.rows)

    def as_like(self, piece: Piece) -> Term:
        """The rows of a piece in the form and the dtypes of the first."""
        term = _converted(piece.term)
        form: Any = jax.tree.structure(term)
        if form != jax.tree.structure(self.like):
            raise ValueError(f"chunks must have the form of the first, got another where row {piece.first} begins one")

        def cast(leaf: Any, like: Any) -> Any:
            name = f"an array of the chunk that begins at row {piece.first}"
            _checks.shape(name, leaf, (piece.rows,) * bool(np.ndim(like)) + np.shape(like)[1:])
            return np.asarray(leaf, like.dtype)

        return jax.tree.map(cast, term, self.like)

    def _pieces(self) -> Iterator[Piece]:
        number = first = 0
        for term in self._source():
            count = len(term.y)
            for start in range(0, count, self.size):
                part = slice(start, min(start + self.size, count))
                rows = jax.tree.map(lambda leaf, part=part: leaf[part] if np.ndim(leaf) else leaf, term)
                yield Piece(number, first + start, part.stop - start, rows)
                number += 1
            first += count

    def _filled(self, leaf: np.ndarray) -> np.ndarray:
        missing = self.size - len(leaf) if leaf.ndim else 0
        return np.concatenate([leaf, np.repeat(leaf[-1:], missing, axis=0)]) if missing else leaf


def of_arrays(term: Term, size: int) -> Chunks:
    """Of the numbers of a term: arrays or memory maps."""
    _check_rows(term, "where data are read in chunks")
    return Chunks(lambda: [term], size, changeable=False)


def _check_rows(term: Term, where: str) -> None:
    """Refuse what has not a row for each of y's."""
    shape = np.shape(term.y)
    if not shape:
        raise ValueError(f"y must have rows {where}, got one number")
    for leaf in jax.tree.leaves(term.x):
        if np.shape(leaf)[:1] != shape[:1]:
            raise ValueError(f"x must have as many rows as y {where}, {shape[0]}, got shape {np.shape(leaf)}")
    for name, value in {"sigma": term.sigma, "mask": term.mask, **term.keywords}.items():
        if np.ndim(value) or (name == "mask" and value is not None):
            _checks.shape(f"{name}, {where},", value, shape)


def of_chunks(chunks: Any, sigma: Any, keywords: dict[str, Any], size: int) -> Chunks:
    """Of chunks (x, y) or (x, y, sigma)."""
    for name, value in {"sigma": sigma, **keywords}.items():
        if np.ndim(value):
            raise ValueError(f"{name} must be a number where data come in chunks, which may be (x, y, sigma)")
    first = iter(chunks)
    if first is chunks or iter(chunks) is first:
        raise ValueError(
            f"chunks must be read many times, got a {type(chunks).__name__}, which can be read once only: give a list, "
            "or an object whose __iter__ begins anew"
        )

    def terms() -> Iterator[Term]:
        for number, chunk in enumerate(chunks):
            if not isinstance(chunk, tuple | list) or len(chunk) not in (2, 3):
                got = f"{len(chunk)} entries" if isinstance(chunk, tuple | list) else type(chunk).__name__
                raise ValueError(f"chunks must be (x, y) or (x, y, sigma), got {got} as number {number}")
            x, y, own = (*chunk, sigma)[:3]
            term = as_arrays(Term(x, y, own, None, keywords))
            _check_rows(term, f"in chunk {number}")
            yield term

    return Chunks(terms, size, changeable=True)


def are_chunks(x: Any, y: Any) -> bool:
    """Whether x stands for x and y in chunks."""
    if y is not None or isinstance(x, dict | str) or hasattr(x, "__array__") or not hasattr(x, "__iter__"):
        return False
    return not isinstance(x, list | tuple) or all(isinstance(chunk, list | tuple) for chunk in x)


def as_arrays(term: Term) -> Term:
    """Each number of a term as an array; what is a memory map or in another dtype stays so, unread."""

    def gathered(name: str, value: Any) -> Any:
        found = _checks.gathered(name, value)
        return np.asarray(found) if isinstance(found, jax.Array) else found

    x = jax.tree.map(functools.partial(gathered, "x"), term.x, is_leaf=lambda node: isinstance(node, list))
    sigma = None if term.sigma is None else gathered("sigma", term.sigma)
    mask = None if term.mask is None else gathered("mask", term.mask)
    keywords = {name: gathered(f"the loss's {name}", value) for name, value in term.keywords.items()}
    return Term(x, gathered("y", term.y), sigma, mask, keywords)


def _converted(term: Term) -> Term:
    """As numbers that JAX computes with."""
    sigma = None if term.sigma is None else _checks.array("sigma", term.sigma)
    mask = None if term.mask is None else _checks.booleans("mask", term.mask)
    keywords = {name: _checks.array(f"the loss's {name}", value) for name, value in term.keywords.items()}
    return Term(arguments.features(term.x), arguments.targets(term.y), sigma, mask, keywords)


def _total(term: Term) -> int:
    """The bits of all numbers, added up along the rows and the columns of a table, so that their order counts."""
    sums: list[bytes] = []
    for leaf in jax.tree.leaves(term):
        bits = np.ascontiguousarray(leaf).ravel().view(f"u{min(leaf.itemsize, 8)}")
        table, rest = np.split(bits, [bits.size // _COLUMNS * _COLUMNS])
        table = table.reshape(-1, _COLUMNS)
        sums += [part.tobytes() for part in (table.sum(0, np.uint64), table.sum(1, np.uint64), rest)]
    return hash(tuple(sums))


def _changed(got: str) -> ValueError:
    return ValueError(f"chunks must be the same whenever they are read, got {got}")


def _power(size: int) -> int:
    """The power of two from it on."""
    return 1 << (size - 1).bit_length()
