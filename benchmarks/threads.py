"""How torch's threads wait for each other."""

from __future__ import annotations

import os
import sys


def spin_briefly() -> None:
    """Start this command anew with GOMP_SPINCOUNT set, unless it is: it is read when torch is loaded.

    As slr_lib.notebook has it: threads that spin long are ten times as slow on shared cores, threads that do not spin
    at all a third slower on free ones.
    """
    if "GOMP_SPINCOUNT" not in os.environ:
        os.environ["GOMP_SPINCOUNT"] = "20000"
        os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])
