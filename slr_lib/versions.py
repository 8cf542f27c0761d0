"""Which versions a notebook ran with."""

from __future__ import annotations

import platform
from importlib.metadata import version


def versions(*packages: str) -> dict[str, str]:
    """Versions of Python and of installed packages.

    Raises:
        importlib.metadata.PackageNotFoundError: a package is not installed.
    """
    return {"python": platform.python_version(), **{package: version(package) for package in packages}}
