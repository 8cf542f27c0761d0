"""Run one notebook of the pipeline: its parameters checked, executed by papermill, an HTML page made of it.

`python -m slr_lib.notebook train --dataset demo --signs 10 --fold 0` takes the section `train` of params.yaml and the
given arguments as the notebook's parameters. The executed copy and its page go to reports/<data set>/<stage>/.
"""

from __future__ import annotations

import argparse
import difflib
import logging
import os
import sys
import time
from pathlib import Path

import yaml

from slr_lib.data_sets import DataSet, find_project, load_data_set
from slr_lib.errors import InputError

_CHECKED_TYPES = {"int": int, "float": (int, float), "str": str, "bool": bool}


def notebook_path(stage: str) -> Path:
    """Path of a stage's notebook: the one whose name, without its number, is the stage's.

    Raises:
        InputError: there is none.
    """
    folder = find_project() / "notebooks"
    found = sorted(folder.glob(f"[0-9][0-9]_{stage}.ipynb"))
    if not found:
        stages = ", ".join(sorted(path.stem[3:] for path in folder.glob("[0-9][0-9]_*.ipynb")))
        raise InputError(f"{folder}: no notebook for the stage `{stage}`; choose one of {stages}.")
    return found[0]


def read_params(stage: str) -> dict:
    """The section of params.yaml with the stage's name.

    Raises:
        InputError: params.yaml is absent or no YAML, or the section is no mapping.
    """
    path = find_project() / "params.yaml"
    try:
        section = (yaml.safe_load(path.read_text(encoding="utf-8")) or {}).get(stage, {})
    except (OSError, UnicodeDecodeError, yaml.YAMLError, AttributeError) as error:
        raise InputError(f"{path} cannot be read ({' '.join(str(error).split())}); mend or restore it.") from error
    if not isinstance(section, dict):
        raise InputError(f"{path}: `{stage}` must be a section of `key: value` lines.")
    return section


def check_parameters(notebook: Path, values: dict) -> None:
    """Every value must be a parameter of the notebook, of the type that its `parameters` cell declares.

    Raises:
        InputError: an unknown name (with the nearest known one) or a wrong type; names the key and the notebook.
    """
    import papermill

    known = papermill.inspect_notebook(str(notebook))
    for key, value in values.items():
        if key not in known:
            near = difflib.get_close_matches(key, known, n=1)
            hint = f"did you mean `{near[0]}`?" if near else f"it has {', '.join(known)}."
            raise InputError(f"params.yaml: `{key}` is no parameter of {notebook.name}; {hint}")
        wanted = _CHECKED_TYPES.get(known[key]["inferred_type_name"])
        wrong_bool = isinstance(value, bool) and wanted is not bool
        if wanted and (wrong_bool or not isinstance(value, wanted)):
            raise InputError(
                f"params.yaml: `{key}` of {notebook.name} must be of type {known[key]['inferred_type_name']}, "
                f"not {value!r}; correct the value."
            )


def run_notebook(stage: str, dataset: str, **given) -> Path:
    """Execute a stage's notebook for a data set; returns the path of the HTML page.

    Args:
        dataset: its name, or the path of its YAML file.
        given: parameters beside params.yaml's; they also name the page, so that runs of a matrix do not meet.

    Raises:
        InputError: a wrong parameter, or one raised inside the notebook (said in its own sentence).
        RuntimeError: any other error inside the notebook, with the cell's traceback.
    """
    import papermill
    from nbconvert import HTMLExporter
    from papermill.exceptions import PapermillExecutionError

    notebook, data_set = notebook_path(stage), load_data_set(dataset)
    values = {**read_params(stage), "dataset": dataset, **given}
    check_parameters(notebook, values)
    folder = data_set.reports(stage)
    folder.mkdir(parents=True, exist_ok=True)
    name = "-".join([notebook.stem, *(str(value) for value in given.values())])
    executed = folder / f"{name}.ipynb"
    started = time.monotonic()
    try:
        papermill.execute_notebook(
            str(notebook), str(executed), values, kernel_name="python3", cwd=str(find_project()),
            progress_bar=False, stdout_file=sys.stdout, stderr_file=sys.stderr,
            extra_arguments=["--IPKernelApp.log_level=40"],  # not its advice on networks: it listens on this machine
        )
    except PapermillExecutionError as error:
        if error.ename == InputError.__name__:
            raise InputError(error.evalue) from None
        trace = "\n".join(error.traceback)
        raise RuntimeError(f"{executed}, cell {error.cell_index}: {error.ename}\n{trace}") from None
    page = executed.with_suffix(".html")
    body, _ = HTMLExporter().from_filename(str(executed))
    page.write_text(body, encoding="utf-8")
    _note_duration(data_set, name, time.monotonic() - started)
    return page


def _note_duration(data_set: DataSet, name: str, seconds: float) -> None:
    # times are no part of any output of the pipeline: two runs must give the same bytes
    with (data_set.reports("durations.csv")).open("a", encoding="utf-8") as file:
        file.write(f"{time.strftime('%Y-%m-%d %H:%M:%S')},{name},{seconds:.1f}\n")


def main(arguments: list[str] | None = None) -> int:
    """Command line; prints an InputError's sentence alone and returns 1."""
    parser = argparse.ArgumentParser(prog="python -m slr_lib.notebook", description=__doc__.splitlines()[0])
    parser.add_argument("stage")
    parser.add_argument("--dataset", required=True, help="name of a data set, or path of its YAML file")
    known, rest = parser.parse_known_args(arguments)
    os.environ["PYDEVD_DISABLE_FILE_VALIDATION"] = "1"  # else each kernel warns about frozen modules
    # torch's threads spin long while they wait: on shared cores training then takes ten times as long. Not to spin at
    # all costs a third of the speed on free ones. So they spin briefly (clips/s: 237; passive 152, default 225)
    os.environ.setdefault("GOMP_SPINCOUNT", "20000")
    os.environ.setdefault("TQDM_MININTERVAL", "5")  # seconds: every line of progress stays on the executed page
    logging.getLogger("papermill").setLevel(logging.ERROR)
    try:
        page = run_notebook(known.stage, known.dataset, **_pairs(rest))
    except (InputError, RuntimeError) as error:
        print(error, file=sys.stderr)
        return 1
    print(f"{known.stage}: {page.relative_to(find_project())}")
    return 0


def _pairs(rest: list[str]) -> dict:
    """`--signs 10 --fold 0` -> {"signs": 10, "fold": "0"}; a fold is a name, though it looks like a number."""
    if len(rest) % 2 or not all(name.startswith("--") for name in rest[::2]):
        raise InputError(f"Arguments come in pairs, `--name value`, not {' '.join(rest)}.")
    names = [name.removeprefix("--").replace("-", "_") for name in rest[::2]]
    return {name: value if name == "fold" else yaml.safe_load(value) for name, value in zip(names, rest[1::2])}


if __name__ == "__main__":
    sys.exit(main())
