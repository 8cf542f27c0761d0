"""One data set = one small YAML file: where its clips lie, its signs, its split, and every path keyed by its name."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Annotated, Literal

import yaml
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from slr_lib.errors import InputError

OFFICIAL, LEAVE_ONE_SIGNER_OUT, STRATIFIED = "official", "leave_one_signer_out", "stratified"

# YAML reads a sign or a signer named 7 as a number
_Text = Annotated[str, BeforeValidator(lambda value: str(value) if type(value) is int else value)]


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class TestSigners(_Section):
    """`split: {test_signers: [...]}`: the named signers' clips are the test part, everyone else's the training part."""

    __test__ = False  # not a test class, whatever its name suggests to pytest

    test_signers: Annotated[list[_Text], Field(min_length=1)]


class DemoCorpus(_Section):
    """How large a demo corpus to draw: `signs` x `signers` x `takes` clips, and of no_event as many as of a sign."""

    signs: Annotated[int, Field(ge=2)] = 20
    signers: Annotated[int, Field(ge=3)] = 8
    test_signers: Annotated[int, Field(ge=1)] = 2
    takes: Annotated[int, Field(ge=1)] = 1
    height: Annotated[int, Field(ge=64)] = 256
    seed: int = 0


class Columns(_Section):
    """Which columns of an index table hold what; null says that the table has no such column."""

    clip: str = "clip"
    gloss: str = "gloss"
    signer: str | None = "signer"
    split: str | None = "split"
    duplicates: str | None = None


class BytePlanes(_Section):
    """A packed array of float32 stored as four planes of bytes, the valid slots of every frame only.

    `bytes` uint8 [4, n] little-endian planes, `shape` of the floats with the axes reversed, [C, P, K], and `valid`
    bool [F, slots] with K true entries.
    """

    bytes: str
    shape: str
    valid: str


class LandmarkImport(_Section):
    """Landmarks that somebody else extracted: how they are stored and which table lists them. docs/import.md explains.

    format: `gislr` (a parquet a clip, Kaggle GISLR's columns), `pose` (a .pose a clip), `npy` (a .npy a clip), `npz`
    (packed files) or `slovo_mediapipe` (Slovo's own file of hands). size: the table's columns with the pictures' width
    and height.
    """

    format: Literal["gislr", "pose", "npy", "npz", "slovo_mediapipe"]
    index: str = "index.csv"
    columns: Columns = Columns()
    where: dict[str, list[_Text]] = {}
    split_values: dict[_Text, Literal["train", "val", "test"]] = {}
    signs: Literal["needed", "all"] = "needed"
    clip_path: str | None = None
    size: Annotated[list[str], Field(min_length=2, max_length=2)] | None = None
    files: list[str] = []
    arrays: list[str | BytePlanes] = []
    offsets: str = "frame_offset"
    names: str = "name"
    times: str | None = None
    missing: float | None = None
    y_up: bool = False

    @model_validator(mode="after")
    def _consistent(self):
        if self.format == "npz" and not (self.files and self.arrays):
            raise ValueError("format `npz` needs `files` and `arrays`")
        if self.format == "slovo_mediapipe" and not self.files:
            raise ValueError("format `slovo_mediapipe` needs `files`")
        return self


class Signs(_Section):
    """The list of signs: the N-class task is its first N, plus no_event where the set has it.

    order: `table` (first appearance), `sorted` (by gloss), `frequent` (most training clips first) or the name of a
    column of the index whose number ranks the glosses; or the list itself as `glosses`. `exclude` leaves signs out:
    a list, or `untrained` for every sign that has no training clip.
    """

    order: str = "table"
    glosses: list[_Text] | None = None
    exclude: list[_Text] | Literal["untrained"] = []


class DataSet(_Section):
    """A data set's YAML file. Unknown keys are errors; `path` may hold environment variables, `${NAME:-default}` too.

    Relative paths are taken from the project's folder. `class_counts` are the tasks that the pipeline trains.
    """

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]+$")]
    title: str
    kind: Literal["videos", "landmarks"]
    path: str
    synthetic: bool = False
    demo: DemoCorpus | None = None
    landmark_import: LandmarkImport | None = Field(default=None, alias="import")
    skeleton: str = "holistic"
    signs: Signs = Signs()
    class_counts: Annotated[list[Annotated[int, Field(ge=2)]], Field(min_length=1)]
    no_event: _Text | None = None
    no_mirror: list[_Text] = []
    fps: Annotated[float, Field(gt=0)] = 30.0
    aspect: Annotated[float, Field(gt=0)] = 1.0
    split: Literal["official", "leave_one_signer_out", "stratified"] | TestSigners = OFFICIAL

    @model_validator(mode="after")
    def _consistent(self):
        if self.kind == "landmarks" and self.landmark_import is None:
            raise ValueError("a data set of kind `landmarks` needs a section `import`")
        return self

    @property
    def root(self) -> Path:
        """Folder of the clips or landmarks as the user keeps them."""
        return locate(self.path)

    @property
    def data(self) -> Path:
        """`data/<name>`: everything that the pipeline makes of this set."""
        return find_project() / "data" / self.name

    @property
    def index(self) -> Path:
        """The table of clips: clip, gloss, signer, split, duplicates, path, begin, end, frames."""
        return self.data / "index.csv"

    @property
    def landmarks(self) -> Path:
        """Folder of the landmark store."""
        return self.data / "landmarks"

    @property
    def clips(self) -> Path:
        """Folder of the packed clips."""
        return self.data / "clips"

    @property
    def skeleton_source(self) -> str:
        """What load_skeleton takes: the name of a built-in skeleton, or the YAML file's path (from the project)."""
        return str(self.skeleton_file or self.skeleton)

    @property
    def skeleton_file(self) -> Path | None:
        """The YAML file that describes the skeleton; None for a built-in one."""
        return locate(self.skeleton) if self.skeleton.endswith((".yaml", ".yml")) else None

    def models(self, signs: int, fold: str = "0") -> Path:
        """Folder of the checkpoints of one class count and fold."""
        return self.data / "models" / f"{signs}-{fold}"

    def reports(self, stage: str) -> Path:
        """Folder of what a stage reports."""
        return find_project() / "reports" / self.name / stage


def load_data_set(name_or_path: str | Path) -> DataSet:
    """Read a data set's YAML by its name in data_sets/ or by its path.

    Raises:
        InputError: the file is absent, is no YAML, or has an unknown, missing or wrong key; names the file and the key.
    """
    path = Path(name_or_path)
    if path.suffix not in (".yaml", ".yml"):
        path = find_project() / "data_sets" / f"{name_or_path}.yaml"
    if not path.is_file():
        known = ", ".join(sorted(p.stem for p in (find_project() / "data_sets").glob("*.yaml")))
        raise InputError(f"{path}: no such data set; choose one of {known}, or write this file (README).")
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise InputError(f"{path} is not a YAML file ({' '.join(str(error).split())}); mend or restore it.") from error
    if not isinstance(content, dict):
        raise InputError(f"{path} holds no keys; see data_sets/demo.yaml for what a data set needs.")
    try:
        return DataSet(**{"name": path.stem, **content})
    except ValidationError as error:
        raise InputError(f"{path}: {describe(error)}; see data_sets/demo.yaml for the keys.") from error


def describe(error: ValidationError) -> str:
    """The first fault of a validation as `key: what is wrong`, and how many more there are."""
    faults = error.errors()
    first = faults[0]
    key = ".".join(str(part) for part in first["loc"]) or "the whole"
    text = {"extra_forbidden": "unknown key", "missing": "key is missing"}.get(first["type"], first["msg"])
    return f"{key}: {text}" + (f" (and {len(faults) - 1} more faults)" if len(faults) > 1 else "")


def find_project(start: Path | None = None) -> Path:
    """The project's folder: the nearest one at or above `start` (default: the working folder) that holds dvc.yaml.

    JupyterLab runs a notebook in notebooks/, papermill in the project's folder; both find the same paths by this.

    Raises:
        InputError: there is none.
    """
    start = (start or Path.cwd()).absolute()
    for folder in (start, *start.parents):
        if (folder / "dvc.yaml").is_file():
            return folder
    raise InputError(f"{start}: no dvc.yaml here or above; run this inside the project's folder.")


def locate(text: str) -> Path:
    """The path that a data set's YAML or an index means: `~`, `$NAME`, `${NAME}` and `${NAME:-default}` are expanded.

    A relative path starts at the project's folder, wherever the command runs.
    """
    expanded = re.sub(r"\$\{(\w+):-([^}]*)\}", lambda match: os.environ.get(match[1]) or match[2], text)
    return find_home() / Path(os.path.expandvars(expanded)).expanduser()


def find_home() -> Path:
    """The project's own folder, also from the workspace of a data set, where notebooks/ is a link into the project."""
    return (find_project() / "notebooks").resolve().parent
