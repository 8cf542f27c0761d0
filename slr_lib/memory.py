"""Memory of processes that make and drop large arrays over and over: pictures, or the tensors of a training step."""

from __future__ import annotations

import contextlib
import ctypes
import functools


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
