"""`make repro`: run the pipeline for one data set, then show its metrics and where the report lies.

dvc.yaml at the top is the pipeline of the data set that its first `vars` block describes (the demo), and the dvc.lock
beside it is that set's. DVC keeps one lock beside each dvc.yaml, so every other data set gets a workspace of its own,
.workspaces/<name>/: the same dvc.yaml with that block replaced, a params.yaml that names the set, and links to
everything else. Both write data/<name>/ and reports/<name>/ at the top; neither touches the other's lock.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import yaml

from slr_lib.data_sets import DataSet, find_project, load_data_set
from slr_lib.errors import InputError

_LINKED = ("notebooks", "slr_lib", "data", "reports")


def variables(data_set: DataSet, definition: str) -> dict:
    """What dvc.yaml must know of a data set: the values of its first `vars` block.

    Args:
        definition: path of the data set's YAML file from the project's folder, a dependency of the first stage.
    """
    from slr_lib.annotations import count_folds

    videos, drawn = data_set.kind == "videos", data_set.demo is not None
    described = data_set.skeleton_file
    return {
        "name": data_set.name,
        "definition": definition,
        "skeleton": _reachable(described) if described else "data_sets/skeletons",
        "source": _reachable(data_set.root),
        "class_counts": list(data_set.class_counts),
        "folds": [str(fold) for fold in range(count_folds(data_set))],
        # a stage whose list is empty does not exist for this data set
        "drawn": [data_set.name] if drawn else [],
        "on_disk": [data_set.name] if videos and not drawn else [],
        "videos": [data_set.name] if videos else [],
        "imported": [] if videos else [data_set.name],
    }


def workspace(data_set: DataSet, definition: Path) -> Path:
    """Folder in which `dvc repro` runs this data set: the project's own, or one made for it in .workspaces.

    Raises:
        InputError: dvc.yaml or params.yaml at the top cannot be read.
    """
    project = find_project()
    pipeline = _read_yaml(project / "dvc.yaml")
    here = _relative(definition.resolve())
    if pipeline["vars"][0] == variables(data_set, here):
        return project
    folder = project / ".workspaces" / data_set.name
    (folder / ".dvc").mkdir(parents=True, exist_ok=True)
    (folder / "data_sets").mkdir(exist_ok=True)
    for name in _LINKED:
        (project / name).mkdir(exist_ok=True)
        _link(folder / name, project / name)
    _link(folder / ".dvcignore", project / ".dvcignore")
    for entry in (project / "data_sets").iterdir():
        _link(folder / "data_sets" / entry.name, entry)
    _link(folder / "data_sets" / f"{data_set.name}.yaml", definition.resolve())
    pipeline["vars"][0] = variables(data_set, f"data_sets/{data_set.name}.yaml")
    # the workspace is no git repository: its lock is this machine's, and not committed
    config = f'[core]\n    no_scm = true\n    analytics = false\n[cache]\n    dir = {project / ".dvc" / "cache"}\n'
    _write(folder / ".dvc" / "config", config + '    type = "reflink,hardlink,copy"\n')
    _write(folder / "dvc.yaml", yaml.safe_dump(pipeline, sort_keys=False, allow_unicode=True, width=120))
    params = (project / "params.yaml").read_text(encoding="utf-8")
    _write(folder / "params.yaml", re.sub(r"(?m)^dataset:.*$", f"dataset: {data_set.name}", params))
    return folder


def metrics_table(data_set: DataSet) -> str:
    """The headline of every class count as lines of text, per cent; empty where nothing was evaluated."""
    path = data_set.reports("evaluate") / "metrics.json"
    if not path.is_file():
        return ""
    head = f"{'task':<12}{'model':<10}{'test clips':>11}{'mean acc.':>11}{'95 % interval':>17}"
    rows = [f"{head}{'top-1':>8}{'top-5':>8}{'F1':>8}"]
    for task, models in json.loads(path.read_text(encoding="utf-8")).items():
        m = models["headline"]
        interval = f"{m['mean_accuracy_low']:.1f} to {m['mean_accuracy_high']:.1f}"
        rows.append(
            f"{task.replace('_', ' '):<12}{m['model']:<10}{m['n_test']:>11}{m['mean_accuracy']:>11.2f}{interval:>17}"
            f"{m['top1']:>8.2f}{m['top5']:>8.2f}{m['macro_f1']:>8.2f}"
        )
    title = f"{data_set.title}{' - synthetic data, says nothing about real signing' if data_set.synthetic else ''}"
    return "\n".join([title, "per cent, on the test split", *rows])


def main(arguments: list[str] | None = None) -> int:
    """Command line; returns DVC's exit status, or 1 with one sentence where the input is at fault."""
    parser = argparse.ArgumentParser(prog="python -m slr_lib.pipeline", description=__doc__.splitlines()[0])
    parser.add_argument("--dataset", help="name or YAML file of a data set (default: params.yaml's)")
    parser.add_argument("dvc", nargs="*", help="a DVC command for this data set instead of `repro`: `-- metrics show`")
    options = parser.parse_args(arguments)
    try:
        project = find_project()
        dataset = options.dataset or _read_yaml(project / "params.yaml").get("dataset", "demo")
        data_set = load_data_set(dataset)
        definition = Path(dataset) if dataset.endswith((".yaml", ".yml")) else project / "data_sets" / f"{dataset}.yaml"
        folder = workspace(data_set, definition)
    except InputError as error:
        print(error, file=sys.stderr)
        return 1
    # by its module, so that it is found where the environment is not activated
    command = [sys.executable, "-m", "dvc", *(options.dvc or ["repro"])]
    status = subprocess.run(command, cwd=folder, env=_environment(project), check=False).returncode
    if status == 0 and not options.dvc:
        print("\n" + metrics_table(data_set))
        print(f"\nReport: {(data_set.reports('') / 'index.html').relative_to(project)}")
    return status


def _environment(project: Path) -> dict:
    # relative paths in a data set's YAML start at the project, in a workspace too
    shared = os.environ.get("SLR_SHARED")
    # the stages' `python` is this one, whether or not the environment is activated
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}"
    return {**os.environ, "PATH": path, **({"SLR_SHARED": str((project / shared).resolve())} if shared else {})}


def _read_yaml(path: Path) -> dict:
    try:
        return yaml.safe_load(path.read_text(encoding="utf-8")) or {}
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise InputError(f"{path} cannot be read ({' '.join(str(error).split())}); mend or restore it.") from error


def _relative(path: Path) -> str:
    project = (find_project() / "notebooks").resolve().parent
    return str(path.relative_to(project)) if path.is_relative_to(project) else str(path)


def _reachable(path: Path) -> str:
    """A path as it holds at the top and in a workspace, which links to these folders alone."""
    relative = _relative(path)
    return relative if Path(relative).parts[0] in (*_LINKED, "data_sets") else str(path)


def _link(link: Path, target: Path) -> None:
    if link.is_symlink() and link.readlink() == target:
        return
    link.unlink(missing_ok=True)
    link.symlink_to(target)


def _write(path: Path, text: str) -> None:
    if not path.is_file() or path.read_text(encoding="utf-8") != text:
        path.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main())
