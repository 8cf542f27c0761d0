"""The pipeline's contract: stages, notebooks, modules, pins and workspaces agree with one another."""

import ast
import json
import re
import subprocess
import sys

import pytest
import yaml
from conftest import PROJECT

from slr_lib import pipeline
from slr_lib.data_sets import load_data_set
from slr_lib.errors import InputError
from slr_lib.notebook import check_parameters, read_params, run_notebook

NOTEBOOKS = sorted((PROJECT / "notebooks").glob("*.ipynb"))
DATA_FILES = [path.name for path in (PROJECT / "slr_lib").iterdir() if path.suffix == ".csv"] + ["pages"]
DVC = yaml.safe_load((PROJECT / "dvc.yaml").read_text(encoding="utf-8"))
# from the raw file to the chart: a module may import only what stands on its own line or on a line above it
ORDER = [
    ["curves", "errors", "memory", "precision", "versions"],
    ["data_sets", "skeleton", "mp4_boxes", "video", "download", "baselines", "geometry", "loops", "slots",
     "recordings", "processes"],
    ["gislr", "pose_files", "slovo_hands"],
    ["index"],
    ["signs"],
    ["annotations"],
    ["splits", "inventory", "landmark_formats"],
    ["hands", "landmarks", "landmark_store", "demo"],
    ["extraction", "exchange", "landmark_export", "corpus", "clips"],
    ["packed_clips"],
    ["parts", "augment"],
    ["batches", "layers", "losses", "metrics", "mixup"],
    ["tasks", "views", "model", "optimiser"],
    ["checkpoint", "fitting", "joint_clips"],
    ["engines", "masked_modelling"],
    ["training", "recogniser", "onnx_export"],
    ["evaluation"],
    ["charts", "contact_sheet", "comparison", "result_charts"],
    ["report"],
    ["notebook", "pipeline", "pretraining"],
]


def imported_modules(source: str) -> set[str]:
    """Files of slr_lib that a piece of Python imports anywhere, functions included."""
    names = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            names |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    paths = set()
    for name in names:
        if name.split(".")[0] != "slr_lib" or name == "slr_lib":
            continue
        path = PROJECT / name.replace(".", "/")
        if path.with_suffix(".py").is_file():
            paths.add(str(path.with_suffix(".py").relative_to(PROJECT)))
        elif path.is_dir():
            paths.add(str(path.relative_to(PROJECT)))
    return paths


def closure(paths: set[str]) -> set[str]:
    """The files and all that they import, transitively; a package counts as a whole, by its folder."""
    seen, todo = set(), set(paths)
    while todo:
        path = todo.pop()
        package = re.match(r"slr_lib/\w+(?=/)", path)
        path = package[0] if package else path
        if path in seen:
            continue
        seen.add(path)
        files = (PROJECT / path).rglob("*.py") if (PROJECT / path).is_dir() else [PROJECT / path]
        for file in files:
            source = file.read_text(encoding="utf-8")
            todo |= imported_modules(source)
            seen |= {f"slr_lib/{name}" for name in DATA_FILES if f'"{name}"' in source}
    return seen


def code(notebook) -> str:
    cells = json.loads(notebook.read_text(encoding="utf-8"))["cells"]
    return "\n".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "code")


def wanted_modules(stage: str) -> set[str]:
    """What a stage's deps must list of slr_lib."""
    command = DVC["stages"][stage]["cmd"]
    if module := re.match(r"python -m slr_lib\.(?!notebook)(\w+)", command):
        return closure({f"slr_lib/{module[1]}.py"})
    notebook, = (PROJECT / "notebooks").glob(f"[0-9][0-9]_{stage}.ipynb")
    return closure(imported_modules(code(notebook)))


@pytest.mark.parametrize("stage", DVC["stages"])
def test_a_stage_depends_on_every_module_that_it_runs(stage):
    listed = {dep for dep in DVC["stages"][stage]["deps"] if dep.startswith("slr_lib")}
    wanted = wanted_modules(stage)
    missing = "\n".join(f"      - {path}" for path in sorted(wanted))
    assert listed == wanted, f"deps of `{stage}` in dvc.yaml must be:\n{missing}"


@pytest.mark.parametrize("stage", DVC["stages"])
def test_a_notebook_stage_lists_its_notebook_and_no_executed_copy(stage):
    deps = DVC["stages"][stage]["deps"]
    assert not any(dep.startswith("reports/") and dep.endswith((".ipynb", ".html", "${name}")) for dep in deps)
    if "slr_lib.notebook" in DVC["stages"][stage]["cmd"]:
        assert [dep for dep in deps if dep.startswith("notebooks/")] == [
            str(path.relative_to(PROJECT)) for path in NOTEBOOKS if path.stem[3:] == stage
        ]


@pytest.mark.parametrize("stage", [path.stem[3:] for path in NOTEBOOKS if path.stem[:2] != "00"])
def test_params_are_parameters_of_the_notebook(stage):
    notebook, = (PROJECT / "notebooks").glob(f"[0-9][0-9]_{stage}.ipynb")
    check_parameters(notebook, read_params(stage))


def test_the_params_sections_are_stages():
    params = yaml.safe_load((PROJECT / "params.yaml").read_text(encoding="utf-8"))
    assert set(params) - {"dataset"} <= set(DVC["stages"])
    assert params["dataset"] == "demo"


def test_the_first_vars_block_describes_the_demo():
    assert DVC["vars"][0] == pipeline.variables(load_data_set("demo"), "data_sets/demo.yaml")


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_narrates_calls_and_shows(notebook):
    cells = json.loads(notebook.read_text(encoding="utf-8"))["cells"]
    assert cells[0]["cell_type"] == "markdown" and cells[0]["source"][0].startswith("# ")
    code_cells = [cell for cell in cells if cell["cell_type"] == "code"]
    assert all(not cell["outputs"] and cell["execution_count"] is None for cell in code_cells), "strip the outputs"
    tree = ast.parse("\n".join(line for line in code(notebook).splitlines() if not line.startswith("%")))
    assert not any(isinstance(node, (ast.FunctionDef, ast.ClassDef, ast.Lambda)) for node in ast.walk(tree))
    assert "sys.path" not in code(notebook)
    parameters, = [cell for cell in code_cells if "parameters" in cell["metadata"].get("tags", [])]
    for line in "".join(parameters["source"]).splitlines():
        assert re.fullmatch(r"\w+: [\w\[\], |]+ = .+  # .+", line), f"{line!r}: name: type = value  # help"
    assert "assert " in "".join(code_cells[-1]["source"])


def test_modules_import_along_the_flow_of_data():
    rank = {name: place for place, names in enumerate(ORDER) for name in names}
    modules = {path.name: [path] for path in (PROJECT / "slr_lib").glob("*.py") if path.stem != "__init__"}
    modules["demo"] = list((PROJECT / "slr_lib" / "demo").glob("*.py"))
    for name, files in modules.items():
        for file in files:
            for path in imported_modules(file.read_text(encoding="utf-8")):
                other = re.match(r"slr_lib/(\w+)", path)[1]
                own = name.removesuffix(".py")
                assert rank[other] <= rank[own], f"{file.name} imports {other}, which comes after it"


@pytest.mark.parametrize(("package", "only"), [
    ("av", {"video.py"}), ("mediapipe", {"landmarks.py"}), ("cv2", {"demo", "charts.py"}), ("numba", {"loops.py"}),
    ("dvclive", {"curves.py"}), ("streamlit", set()),
])
def test_one_module_alone_imports_a_package(package, only):
    for file in (PROJECT / "slr_lib").rglob("*.py"):
        tree = ast.parse(file.read_text(encoding="utf-8"))
        nodes = list(ast.walk(tree))
        names = {alias.name.split(".")[0] for node in nodes if isinstance(node, ast.Import) for alias in node.names}
        names |= {(node.module or "").split(".")[0] for node in nodes if isinstance(node, ast.ImportFrom)}
        place = file.relative_to(PROJECT / "slr_lib").parts[0]
        assert package not in names or place in only, f"{file} imports {package}"


def test_the_library_never_imports_the_notebooks_or_the_service():
    for file in (PROJECT / "slr_lib").rglob("*.py"):
        assert not re.search(r"^\s*(from|import) (service|notebooks)\b", file.read_text(encoding="utf-8"), re.M)


def _pins(text):
    return dict(re.findall(r"(?m)^[\s-]*([A-Za-z0-9_.-]+)==(\S+)", text))


def test_environment_yml_gives_the_locks_pins_with_reasons():
    lock = _pins((PROJECT / "requirements.lock").read_text(encoding="utf-8"))
    text = (PROJECT / "environment.yml").read_text(encoding="utf-8")
    pins = _pins(text)
    assert pins and pins.items() <= lock.items()
    for line in text.splitlines():
        assert "==" not in line or re.search(r"  # \w+", line), f"no reason: {line}"
    asked = tomllib_names((PROJECT / "pyproject.toml").read_text(encoding="utf-8"))
    assert {name.lower() for name in pins} == asked


def tomllib_names(text: str) -> set[str]:
    """Names that pyproject.toml asks for, with the extras that the lock holds."""
    import tomllib

    project = tomllib.loads(text)["project"]
    extras = project["optional-dependencies"]
    wanted = project["dependencies"] + extras["mediapipe"] + extras["test"]
    return {re.match(r"[\w.-]+", line)[0].lower() for line in wanted}


def test_the_lock_holds_exact_versions_alone():
    for line in (PROJECT / "requirements.lock").read_text(encoding="utf-8").splitlines():
        assert re.fullmatch(r"[\w.-]+==[\w.]+", line), line


def test_a_misspelt_parameter_is_an_error_that_names_the_right_one(project):
    sentence = r"`learning_rat` is no parameter of 03_train\.ipynb; did you mean `learning_rate`"
    with pytest.raises(InputError, match=sentence):
        run_notebook("train", "demo", learning_rat=1.0)


def test_a_parameter_of_a_wrong_type_is_an_error(project):
    with pytest.raises(InputError, match=r"`epochs` of 03_train\.ipynb must be of type int, not 'many'"):
        run_notebook("train", "demo", epochs="many")


def test_an_unknown_stage_names_the_known_ones(project):
    with pytest.raises(InputError, match=r"no notebook for the stage `trian`; choose one of .*train"):
        run_notebook("trian", "demo")


def test_a_data_set_gets_a_workspace_and_leaves_the_committed_lock_alone(project):
    definition = project / "mine.yaml"
    definition.write_text("title: Mine\nkind: videos\npath: data/my_clips\nclass_counts: [3]\n", encoding="utf-8")
    before = {path: path.read_bytes() for path in (project / "dvc.yaml", project / "params.yaml")}
    folder = pipeline.workspace(load_data_set(definition), definition)
    assert folder == project / ".workspaces" / "mine"
    assert {path: path.read_bytes() for path in before} == before
    listing = [sys.executable, "-m", "dvc", "stage", "list", "--name-only"]
    stages = subprocess.run(listing, cwd=folder, capture_output=True, text=True, check=True)
    assert stages.stdout.split() == [
        "corpus_on_disk@mine", "extract_landmarks@mine", "prepare_clips", "train@3-0",
        "finetune@3-0-round0", "finetune@3-0-round1", "evaluate", "compare",
    ]
    assert yaml.safe_load((folder / "params.yaml").read_text(encoding="utf-8"))["dataset"] == "mine"
    (folder / "data" / "mine").mkdir()
    assert (project / "data" / "mine").is_dir()
    ignored = [sys.executable, "-m", "dvc", "check-ignore", *(f"data/mine/models/3-0/base.{suffix}"
                                                              for suffix in ("onnx", "safetensors"))]
    found = subprocess.run(ignored, cwd=folder, capture_output=True, text=True, check=True)
    assert found.stdout.split() == ["data/mine/models/3-0/base.onnx"]  # an export makes no stage run again


def test_the_demo_runs_at_the_top(project):
    assert pipeline.workspace(load_data_set("demo"), project / "data_sets" / "demo.yaml") == project


@pytest.mark.parametrize(("text", "sentence"), [
    ("title: x\nkind: videos\npath: x\nclass_counts: [2]\nskelton: hands\n", "skelton: unknown key"),
    ("kind: videos\npath: x\nclass_counts: [2]\n", "title: key is missing"),
    ("title: [", "is not a YAML file"),
    ("title: x\nkind: landmarks\npath: x\nclass_counts: [2]\n", "needs a section `import`"),
    ("title: x\nkind: videos\npath: x\nclass_counts: [1]\n", "class_counts.0"),
])
def test_a_faulty_data_set_file_is_named_with_its_key(project, text, sentence):
    path = project / "faulty.yaml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(InputError, match=re.escape(sentence)) as error:
        load_data_set(path)
    assert "faulty.yaml" in str(error.value)
    command = [sys.executable, "-m", "slr_lib.pipeline", "--dataset", str(path)]
    result = subprocess.run(command, capture_output=True, text=True)
    assert result.returncode == 1 and result.stderr.count("\n") == 1 and "Traceback" not in result.stderr


def test_an_unknown_data_set_names_the_known_ones(project):
    with pytest.raises(InputError, match=r"nowhere\.yaml: no such data set; choose one of demo"):
        load_data_set("nowhere")
