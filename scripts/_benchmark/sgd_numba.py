"""The sweep of ``sgd`` in numba, two features written out, in two layouts; both parallel and with fast math."""

import functools
from collections.abc import Callable
from typing import Any

import numpy as np
from numba import njit, prange

LANES, ROWS = 256, 4  # members to a block, rows at a time: the best of 64, 256, 1024 and of 1, 4
ZERO, HALF, ONE = np.float32(0), np.float32(0.5), np.float32(1)


def _loss(kind: str) -> Any:
    """(slope, loss) of a residual."""

    @njit(inline="always", fastmath=True)
    def squared(r):
        return r, HALF * r * r

    @njit(inline="always", fastmath=True)
    def huber(r):
        clipped = min(max(r, -ONE), ONE)
        return clipped, clipped * (r - HALF * clipped)

    @njit(inline="always", fastmath=True)
    def absolute(r):
        sign = ONE if r > ZERO else (-ONE if r < ZERO else ZERO)
        return sign, sign * r

    return {"squared": squared, "huber": huber, "absolute": absolute}[kind]


@functools.cache
def by_rows(kind: str) -> Callable[..., None]:
    """One member after another; LLVM puts the rows of a minibatch on the vector unit."""
    loss_of = _loss(kind)

    @njit(parallel=True, fastmath=True)
    def run(rates, x0, x1, y, weight, params, history):
        for member in prange(rates.size):
            w0, w1, b = params[0, member], params[1, member], params[2, member]
            for step in range(y.shape[0]):
                g0, g1, g2, loss, total = ZERO, ZERO, ZERO, ZERO, ZERO
                for row in range(y.shape[1]):
                    slope, value = loss_of(w0 * x0[step, row] + w1 * x1[step, row] + b - y[step, row])
                    slope *= weight[step, row]
                    g0 += slope * x0[step, row]
                    g1 += slope * x1[step, row]
                    g2 += slope
                    loss += weight[step, row] * value
                    total += weight[step, row]
                history[step, member] = loss / total
                rate = rates[member] / total
                w0 -= rate * g0
                w1 -= rate * g1
                b -= rate * g2
            params[0, member], params[1, member], params[2, member] = w0, w1, b

    return run


@functools.cache
def by_members(kind: str) -> Callable[..., None]:  # noqa: C901 - loops written out are what it is for
    """Blocks of members that stay in the first-level cache; LLVM puts them on the vector unit."""
    loss_of = _loss(kind)

    @njit(parallel=True, fastmath=True)
    def run(rates, x0, x1, y, weight, params, history):  # noqa: C901
        for block in prange((rates.size + LANES - 1) // LANES):
            first = block * LANES
            count = min(LANES, rates.size - first)
            rate = np.zeros(LANES, np.float32)
            w0, w1, b = np.zeros(LANES, np.float32), np.zeros(LANES, np.float32), np.zeros(LANES, np.float32)
            g0, g1, g2 = np.empty(LANES, np.float32), np.empty(LANES, np.float32), np.empty(LANES, np.float32)
            loss = np.empty(LANES, np.float32)
            for lane in range(count):
                rate[lane] = rates[first + lane]
                w0[lane], w1[lane], b[lane] = params[0, first + lane], params[1, first + lane], params[2, first + lane]
            for step in range(y.shape[0]):
                g0[:], g1[:], g2[:], loss[:], total = ZERO, ZERO, ZERO, ZERO, ZERO
                whole = y.shape[1] // ROWS * ROWS
                for row in range(0, whole, ROWS):
                    for lane in range(LANES):
                        a0, a1, a2, value = g0[lane], g1[lane], g2[lane], loss[lane]
                        for near in range(ROWS):
                            x, z, weighs = x0[step, row + near], x1[step, row + near], weight[step, row + near]
                            slope, each = loss_of(w0[lane] * x + w1[lane] * z + b[lane] - y[step, row + near])
                            slope *= weighs
                            a0 += slope * x
                            a1 += slope * z
                            a2 += slope
                            value += weighs * each
                        g0[lane], g1[lane], g2[lane], loss[lane] = a0, a1, a2, value
                for row in range(whole, y.shape[1]):
                    x, z, weighs = x0[step, row], x1[step, row], weight[step, row]
                    for lane in range(LANES):
                        slope, each = loss_of(w0[lane] * x + w1[lane] * z + b[lane] - y[step, row])
                        slope *= weighs
                        g0[lane] += slope * x
                        g1[lane] += slope * z
                        g2[lane] += slope
                        loss[lane] += weighs * each
                for row in range(y.shape[1]):
                    total += weight[step, row]
                inverse = ONE / total
                for lane in range(count):
                    history[step, first + lane] = loss[lane] * inverse
                for lane in range(LANES):
                    w0[lane] -= rate[lane] * inverse * g0[lane]
                    w1[lane] -= rate[lane] * inverse * g1[lane]
                    b[lane] -= rate[lane] * inverse * g2[lane]
            for lane in range(count):
                params[0, first + lane], params[1, first + lane], params[2, first + lane] = w0[lane], w1[lane], b[lane]

    return run
