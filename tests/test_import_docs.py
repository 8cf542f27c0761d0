"""docs/import.md says what is true: its examples load, and the public form of WLASL comes in by them."""

from __future__ import annotations

import json
import re

import numpy as np
import pytest
import yaml
from conftest import PROJECT

from slr_lib import exchange
from slr_lib.data_sets import Columns, LandmarkImport, load_data_set
from slr_lib.index import read_index
from slr_lib.landmark_store import LandmarkStore
from slr_lib.skeleton import load_skeleton

TEXT = (PROJECT / "docs" / "import.md").read_text(encoding="utf-8")
EXAMPLES = {re.match(r"# (\S+\.yaml)", block)[1]: block for block in re.findall(r"```yaml\n(.*?)```", TEXT, re.DOTALL)}


@pytest.mark.parametrize("name", sorted(EXAMPLES))
def test_every_example_loads(name, tmp_path, monkeypatch):
    monkeypatch.chdir(PROJECT)
    path = tmp_path / name.rpartition("/")[2]
    path.write_text(EXAMPLES[name], encoding="utf-8")
    if "skeletons/" in name:
        assert load_skeleton(path).points
    else:
        assert load_data_set(path).landmark_import and load_skeleton(load_data_set(path).skeleton_source).points


def test_every_key_of_the_import_is_documented():
    for name in LandmarkImport.model_fields:
        assert re.search(rf"`(import\.)?{name}`", TEXT), name
    for name in Columns.model_fields:
        assert f"| `{name}` |" in TEXT


def test_the_public_form_of_wlasl_comes_in_by_the_recipe(tmp_path, monkeypatch):
    (tmp_path / "dvc.yaml").write_text("stages: {}\n")
    monkeypatch.chdir(tmp_path)
    source = tmp_path / "data" / "wlasl_public" / "source"
    (source / "landmarks").mkdir(parents=True)
    (source / "wlasl_class_list.txt").write_text("0\tbook\n1\tice cream\n2\tgone\n")
    clips = {f"{number:05d}": {"subset": subset, "action": [label, 1, 20]} for number, (label, subset) in enumerate(
        [(1, "train"), (0, "train"), (0, "val"), (1, "test"), (0, "test"), (2, "train")])}
    (source / "nslt_2000.json").write_text(json.dumps(clips))
    for clip in list(clips)[:5]:
        hands = np.random.default_rng(0).random((4, 2, 21, 3))
        hands[1, 1] = -1
        np.save(source / "landmarks" / f"{clip}.npy", hands)
    exec(re.search(r"```python\n(.*?)```", TEXT, re.DOTALL)[1], {})
    description = yaml.safe_load(EXAMPLES["data_sets/wlasl_public.yaml"]) | {"class_counts": [2]}
    (tmp_path / "wlasl_public.yaml").write_text(yaml.safe_dump(description))
    chosen = load_data_set(tmp_path / "wlasl_public.yaml")
    assert "5 clips of 2 signs by signers unknown, 0 rejects" in exchange.import_landmarks(chosen)
    index = read_index(chosen)
    assert list(index["gloss"]) == ["book"] * 3 + ["ice cream"] * 2
    points = LandmarkStore(chosen.landmarks).read("00000").points
    assert points.shape == (4, 42, 3) and np.isnan(points[1, 21:]).all() and not np.isnan(points[1, :21]).any()
