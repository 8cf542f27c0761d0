"""Memory of processes that make and drop large arrays over and over: pictures, or the tensors of a training step."""

from __future__ import annotations

import contextlib
import ctypes
import functools
import math
import weakref

import numpy as np

_LARGE = 1 << 20  # bytes from which on an array's memory is worth keeping
_MOST_KEPT = 2  # blocks
_free: dict[int, np.ndarray] = {}  # of uint8 by address, the last let go last


@functools.cache
def keep_memory() -> None:
    """Let this process keep freed memory for the next array, where its C library is glibc; others are left alone.

    Else blocks of a few megabytes go back to the kernel each time, to be cleared and mapped anew for the next. That
    takes 10 ms of CPU time a picture of 720x1280 and 16 ms at full HD under Dask, which starts workers with
    MALLOC_TRIM_THRESHOLD_=65536, and some 7 % of a training step on the CPU. The process holds the most that it ever
    needed until it ends.
    """
    with contextlib.suppress(AttributeError, OSError, TypeError):
        mallopt = ctypes.CDLL(None).mallopt
        mallopt(-1, 1 << 30)  # M_TRIM_THRESHOLD: bytes free at the heap's end before any are given back
        mallopt(-3, 32 << 20)  # M_MMAP_THRESHOLD: bytes from which a block is mapped apart; more is refused


def reused(shape: tuple[int, ...], dtype: type) -> np.ndarray:
    """An array of any content, a large one in memory of an earlier one that nobody looks at any more, where it fits.

    For batches made one after another: clearing fresh memory may take the system longer than making the batch. Kept are
    the last _MOST_KEPT blocks that were let go; one serves arrays of half its size and more.
    """
    size = math.prod(shape) * np.dtype(dtype).itemsize
    if size < _LARGE:
        return np.empty(shape, dtype)
    fitting = [place for place, memory in list(_free.items()) if size <= len(memory) <= 2 * size]
    memory = _free.pop(fitting[-1], None) if fitting else None  # None where another thread was faster
    if memory is None:
        memory = np.empty(size, np.uint8)  # NumPy asks for large pages, which are cleared in a third of the time
    return np.asarray(_Block(memory))[:size].view(dtype).reshape(shape)


class _Block:
    """Memory that NumPy holds for as long as any array or tensor shows a part of it, and that is then free again."""

    def __init__(self, memory: np.ndarray):
        self.__array_interface__ = memory.__array_interface__
        weakref.finalize(self, _let_go, memory).atexit = False


def _let_go(memory: np.ndarray) -> None:
    _free[memory.ctypes.data] = memory
    for place in list(_free)[:-_MOST_KEPT]:
        _free.pop(place, None)
