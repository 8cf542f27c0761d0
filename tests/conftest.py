"""What several tests share: where the real data lie, and a project folder of one's own."""

import os
import shutil
from pathlib import Path

import pytest

PROJECT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="session")
def shared():
    """Folder of the real data sets; tests that need one skip where it is absent."""
    return (PROJECT / os.environ.get("SLR_SHARED", "../shared")).resolve() / "data"


@pytest.fixture
def one_thread():
    """Torch on one thread: models as small as the tests' are slower on two."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def project(tmp_path, monkeypatch):
    """An empty copy of the project: the real code, notebooks and settings, data/ and reports/ of its own."""
    # copies, not links: paths in a data set start where notebooks/ really lies
    for name in ("notebooks", "slr_lib", "data_sets"):
        shutil.copytree(PROJECT / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in (".dvcignore", "dvc.yaml", "params.yaml"):
        shutil.copy(PROJECT / name, tmp_path / name)
    (tmp_path / "data").mkdir()
    (tmp_path / "reports").mkdir()
    monkeypatch.chdir(tmp_path)
    return tmp_path
