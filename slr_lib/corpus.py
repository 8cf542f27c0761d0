"""The stage `corpus` of a data set of videos: draw the demo's, or check a folder in Slovo's layout; index the clips.

`python -m slr_lib.corpus --dataset demo`
"""

from __future__ import annotations

import argparse
import sys

from slr_lib.annotations import list_videos
from slr_lib.data_sets import DataSet, load_data_set
from slr_lib.errors import InputError, exit_status
from slr_lib.index import accepted, rejected
from slr_lib.inventory import record
from slr_lib.signs import choose_signs


def prepare_corpus(data_set: DataSet) -> str:
    """Draw the corpus if the data set is a demo, then write its index, list of signs, rejects and metrics.

    Returns:
        One line that sums it up.

    Raises:
        InputError: the set is not one of videos, or its table, split or signs cannot be used as they are.
    """
    if data_set.kind != "videos":
        command = f"python -m slr_lib.exchange --dataset {data_set.name}"
        raise InputError(f"data set {data_set.name} has landmarks, not videos; import them by `{command}`.")
    if data_set.demo is not None:
        from slr_lib.demo import draw_corpus

        draw_corpus(data_set.root, **data_set.demo.model_dump())
    listed, orphans = list_videos(data_set)
    signs = choose_signs(listed, data_set)
    index = accepted(listed, data_set)
    rejects = rejected(listed, orphans)
    frames = [number for number in index["frames"] if number != ""]
    further = {"synthetic": data_set.synthetic, "videos_without_row": len(orphans), "frames_claimed": sum(frames)}
    return record("corpus", data_set, listed, index, rejects, signs, further)


def main(arguments: list[str] | None = None) -> int:
    """Command line; prints an InputError's sentence alone and returns 1."""
    parser = argparse.ArgumentParser(prog="python -m slr_lib.corpus", description=__doc__.splitlines()[0])
    parser.add_argument("--dataset", required=True, help="name of a data set, or path of its YAML file")
    options = parser.parse_args(arguments)
    return exit_status(lambda: prepare_corpus(load_data_set(options.dataset)))


if __name__ == "__main__":
    sys.exit(main())
