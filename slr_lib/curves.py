"""Curves of a training, live through DVCLive.

A folder of curves holds a table a figure under `plots/metrics/` (columns `step`, the epoch, and the figure), which
`dvc plots` reads; `metrics.json`, the last epoch's figures; and `report.html`, a page that loads itself anew every five
seconds. No file holds a time, so that two runs give the same bytes.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from dvclive import Live

# column of a table of curves -> name of the figure in DVCLive
NAMES = {"train_loss": "train/loss", "val_loss": "val/loss", "val_top1": "val/top1",
         "val_mean_accuracy": "val/mean_accuracy", "learning_rate": "learning_rate"}
COLUMNS = ("epoch", *NAMES)


def open_curves(folder: str | os.PathLike, rows: Iterable[dict] = ()) -> Live:
    """Begin a folder of curves anew, with the rows (COLUMNS) of the epochs that an earlier process trained."""
    from dvclive import Live  # a second: only a training needs it

    # DVC's own stages track the files, and a training is no commit: no experiment, no dvc.yaml of DVCLive's making
    live = Live(str(folder), report="html", save_dvc_exp=False, dvcyaml=None)
    for row in rows:
        _log(live, row)
    return live


def write_epoch(live: Live, row: dict) -> None:
    """Add an epoch's row, and bring summary and page up to it."""
    _log(live, row)
    live.sync()


def curve_files(folder: Path) -> dict[str, Path]:
    """The tables of a folder of curves by column; those of the validation part are not there if it was not."""
    return {column: folder / "plots" / "metrics" / f"{name}.tsv" for column, name in NAMES.items()}


def _log(live: Live, row: dict) -> None:
    live.step = row["epoch"]
    for column, name in NAMES.items():
        if not math.isnan(row[column]):
            live.log_metric(name, float(f"{row[column]:.6g}"))
