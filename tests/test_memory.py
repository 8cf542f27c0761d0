"""Memory: large arrays are made in memory that the process kept, never in memory that anything still shows."""

from __future__ import annotations

import platform
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch

from slr_lib.memory import reused

MEASURE = """
import resource, sys
import numpy as np
from slr_lib.memory import keep_memory

if sys.argv[1] == "kept":
    keep_memory()
for _ in range(3):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    arrays = [np.full(1 << 18, 1.0) for _ in range(40)]
    del arrays
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""
SHAPE = (300, 1000)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="the C library is not glibc, the only one that is told")
def test_a_process_that_keeps_memory_gets_none_anew():
    faults = {way: int(subprocess.run([sys.executable, "-c", MEASURE, way], check=True, capture_output=True).stdout)
              for way in ("kept", "given back")}
    assert faults["kept"] < 100 < faults["given back"], faults


def address(array: np.ndarray) -> int:
    return array.__array_interface__["data"][0]


@pytest.mark.parametrize("look", [lambda array: array[3:, 5], lambda array: torch.from_numpy(array[:7]).view(-1)],
                         ids=["array", "tensor"])
def test_memory_is_used_again_once_nothing_shows_it(look):
    array = reused(SHAPE, np.float32)
    assert array.shape == SHAPE and array.dtype == np.float32 and array.flags.c_contiguous and array.flags.writeable
    place, shown = address(array), look(array)
    del array
    other = reused(SHAPE, np.float32)
    assert address(other) != place
    other[:] = 1
    del shown
    again = reused((290, 1000), np.float32)  # a little smaller
    assert address(again) == place
    again[:] = 2
    assert (other == 1).all()
    del again
    assert address(reused((30, 10), np.float32)) != place and address(reused((3000, 1000), np.float32)) != place


def test_threads_never_share_memory():
    def work(number: int) -> bool:
        for _ in range(200):
            array = reused(SHAPE, np.float32)
            array[:2] = number
            if (array[:2] != number).any():
                return False
        return True

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(work, range(8)))
