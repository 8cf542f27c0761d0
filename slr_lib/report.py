"""The report of a data set: reads what the stages wrote, and writes one self-contained page, reports/<set>/index.html.

`read_results` gathers the tables, the notebook 06_compare draws the charts, `write_report` puts both on the page.
`write_overview` lists every data set's page in reports/index.html.
"""

from __future__ import annotations

import base64
import json
import os
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import jinja2
import pandas as pd

from slr_lib.baselines import FIGURES, MARKS, SLOVO, measured, published, published_on
from slr_lib.curves import COLUMNS, curve_files
from slr_lib.data_sets import DataSet
from slr_lib.errors import InputError
from slr_lib.result_charts import RUNS

STAGES = ("corpus", "import_landmarks", "extract_landmarks", "prepare_clips", "train", "finetune", "evaluate")
TABLES = ("per_sign", "per_signer", "confusions")
PART_OF_THE_DATA = ("corpus", "import_landmarks", "extract_landmarks", "prepare_clips")
# beginning of a chart's file name -> section of the page, what the chart shows (read out where it cannot be seen)
CHARTS = {
    "accuracy": ("results", "Bars of the accuracy of every model measured here"),
    "slovo": ("published", "Published results on Slovo"),
    "signers": ("errors", "Accuracy by signer"),
    "signs": ("errors", "Accuracy by sign"),
    "pairs": ("errors", "Most confused pairs of signs"),
    "curves": ("training", "Loss and validation accuracy by epoch"),
    "contact_sheet": ("clips", "Clips with the landmarks that were found"),
    "data": ("clips", "Clips by sign, signer and length"),
}
_RUN = re.compile(r"(?P<signs>\d+)-(?P<fold>.+?)(?:-(?P<run>round_[12]))?")


@dataclass(frozen=True)
class Results:
    """What the stages before compare wrote about a data set.

    measured: baselines.measured, and `size_mb` of the checkpoints. curves: the rows of every training, and `signs`,
    `fold`, `run`. tables: class count -> {per_sign, per_signer, confusions}. figures: stage -> its metrics, flat.
    rejects: stage -> clip, reason. folds: class count -> {fold: mean accuracy of its headline}, empty for one fold.
    """

    data_set: DataSet
    measured: pd.DataFrame
    curves: pd.DataFrame
    tables: dict[int, dict[str, pd.DataFrame]]
    figures: dict[str, dict]
    rejects: dict[str, pd.DataFrame]
    folds: dict[int, dict[str, float]]

    @property
    def class_counts(self) -> list[int]:
        """The class counts that were evaluated."""
        return sorted(self.tables)

    @property
    def name(self) -> str:
        """How charts name the data set; says so where it is synthetic."""
        title = self.data_set.title
        return f"{title} (synthetic)" if self.data_set.synthetic and "synthetic" not in title.lower() else title

    def subject(self, signs: int) -> str:
        """How charts name the data set at a class count."""
        return f"{self.name}, {signs} signs"


def read_results(data_set: DataSet) -> Results:
    """Gather what the stages wrote.

    Raises:
        InputError: the metrics or a table of the stage evaluate or every curve is missing or unreadable; names the file
            and the stage to run.
    """
    metrics = _read_json(data_set.reports("evaluate") / "metrics.json", "evaluate", data_set)
    rows = measured(metrics, data_set)
    rows["size_mb"] = pd.array([_size(data_set, row.signs, row.model) for row in rows.itertuples()], dtype="Float64")
    tables = {}
    for signs in sorted(set(rows["signs"])):
        folder = data_set.reports("evaluate") / "tables" / f"{signs}_signs"
        tables[int(signs)] = {name: _read_table(folder / f"{name}.csv", ",", "evaluate", data_set) for name in TABLES}
    figures, rejects = {}, {}
    for stage in PART_OF_THE_DATA:
        folder = data_set.reports(stage)
        if (folder / "metrics.json").is_file():
            figures[stage] = _flat(_read_json(folder / "metrics.json", stage, data_set))
        if (folder / "rejects.csv").is_file():
            table = _read_table(folder / "rejects.csv", ",", stage, data_set)
            if len(table):
                rejects[stage] = table
    folds = {signs: metrics[f"{signs}_signs"]["headline"].get("folds") or {} for signs in tables}
    return Results(data_set, rows, _read_curves(data_set), tables, figures, rejects, folds)


def write_report(results: Results, charts: Path, names: Iterable[str]) -> Path:
    """Write reports/<set>/index.html from the results and saved charts; returns its path.

    The page holds every chart itself and needs no other file; it links to the charts and to the executed notebooks.

    Args:
        charts: the folder of charts.save_all; names: the charts to show, in this order within a section.

    Raises:
        InputError: a chart is not in the folder.
    """
    data_set = results.data_set
    folder = data_set.reports("compare").parent
    sections = {section: [] for section, _ in CHARTS.values()}
    for name in names:
        section, words = CHARTS[max((prefix for prefix in CHARTS if name.startswith(prefix)), key=len)]
        sections[section].append(_chart(charts / f"{name}.png", words, folder))
    page = _render(
        "report.html", data_set=data_set, sections=sections, rows=_result_rows(results), unseen=_unseen_rows(results),
        counts=results.class_counts, folds=results.folds, figures=results.figures,
        validated=bool(results.curves["val_mean_accuracy"].notna().any()), synthetic=data_set.synthetic,
        rejects={stage: (len(table), table.head(20).to_dict("records")) for stage, table in results.rejects.items()},
        published=_published_rows(published()[published()["data_set"] == SLOVO]), marks=MARKS,
        published_here=[] if data_set.name == SLOVO else _published_rows(
            pd.concat([published_on(data_set.name, signs) for signs in results.class_counts], ignore_index=True)
        ),
        on_slovo=data_set.name == SLOVO, notebooks=_notebook_links(data_set, folder),
    )
    summary = {"title": data_set.title, "synthetic": data_set.synthetic, "rows": _result_rows(results)}
    _write(charts / "summary.json", json.dumps(summary, ensure_ascii=False, indent=1) + "\n")
    _write(folder / "index.html", page)
    return folder / "index.html"


def write_overview(reports: Path) -> Path:
    """Write reports/index.html: the headline of every data set that has a report, and a link to it.

    Args:
        reports: the folder reports/.
    """
    summaries = sorted(reports.glob("*/compare/charts/summary.json"))
    sets = [{"name": path.parts[-4], **json.loads(path.read_text(encoding="utf-8"))} for path in summaries]
    _write(reports / "index.html", _render("overview.html", sets=[entry for entry in sets if entry["rows"]]))
    return reports / "index.html"


def _read_json(path: Path, stage: str, data_set: DataSet) -> dict:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise _missing(path, stage, data_set) from None
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise InputError(f"{path} is no JSON ({error}); delete it and run the stage {stage} again.") from error
    if not isinstance(content, dict):
        raise InputError(f"{path} holds no table of metrics; delete it and run the stage {stage} again.")
    return content


def _read_table(path: Path, separator: str, stage: str, data_set: DataSet) -> pd.DataFrame:
    # a gloss may read "NA": only a number may be missing
    words = {name: str for name in ("gloss", "taken_for", "signer", "clip", "reason")}
    missing = {name: [""] for name in ("accuracy", "share", "n", "count")}
    try:
        table = pd.read_csv(path, sep=separator, dtype=words, keep_default_na=False, na_values=missing)
    except FileNotFoundError:
        raise _missing(path, stage, data_set) from None
    except (pd.errors.ParserError, pd.errors.EmptyDataError, UnicodeDecodeError) as error:
        raise InputError(f"{path} is no table ({error}); delete it and run the stage {stage} again.") from error
    return table


def _missing(path: Path, stage: str, data_set: DataSet) -> InputError:
    return InputError(f"{path} is missing; run the stage {stage} first (`make repro DATASET={data_set.name}`).")


def _read_curves(data_set: DataSet) -> pd.DataFrame:
    found = []
    for stage in ("train", "finetune"):
        for folder in sorted(data_set.reports(stage).glob("*/curves")):
            name = _RUN.fullmatch(folder.parent.name)
            if name:
                table = _read_run(folder, stage, data_set)
                found.append(table.assign(signs=int(name["signs"]), fold=name["fold"], run=name["run"] or "base"))
    if not found:
        raise _missing(data_set.reports("train") / "<signs>-<fold>" / "curves", "train", data_set)
    return pd.concat(found, ignore_index=True)


def _read_run(folder: Path, stage: str, data_set: DataSet) -> pd.DataFrame:
    """A training's curves as slr_lib.curves.COLUMNS; without a validation part, its columns are empty."""
    columns = {}
    for column, path in curve_files(folder).items():
        if path.is_file() or not column.startswith("val_"):
            columns[column] = _read_table(path, "\t", stage, data_set).set_index("step").iloc[:, 0]
    table = pd.DataFrame(columns).rename_axis("epoch").reset_index()
    return table.reindex(columns=list(COLUMNS))


def _flat(content: dict, prefix: str = "") -> dict:
    rows = {}
    for key, value in content.items():
        if isinstance(value, dict):
            rows |= _flat(value, f"{prefix}{key}: ")
        elif value is not None and not isinstance(value, list):
            rows[f"{prefix}{key}".replace("_", " ")] = _number(value) if isinstance(value, (int, float)) else str(value)
    return rows


def _number(value: float | int | bool) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:,}" if isinstance(value, int) else f"{value:.4g}"


def _size(data_set: DataSet, signs: int, model: str) -> float | None:
    """Megabytes (10^6 bytes) of the first fold's checkpoint."""
    paths = sorted(data_set.models(int(signs)).parent.glob(f"{signs}-*/{model}.safetensors"))
    return paths[0].stat().st_size / 1e6 if paths else None


def _chart(path: Path, words: str, folder: Path) -> dict:
    if not path.is_file():
        raise InputError(f"{path} is missing; run the stage compare (notebook 06_compare) from its first cell.")
    vector = path.with_suffix(".svg")
    shown, kind = (vector, "svg+xml") if vector.is_file() else (path, "png")
    numbers = re.findall(r"\d+", path.stem)
    return {
        "name": path.stem, "words": f"{words}{f', {numbers[0]} signs' if numbers else ''}.",
        "source": f"data:image/{kind};base64,{base64.b64encode(shown.read_bytes()).decode()}",
        "png": os.path.relpath(path, folder), "svg": os.path.relpath(vector, folder) if vector.is_file() else None,
        "wide": path.stem.startswith("contact_sheet"),
    }


def _result_rows(results: Results) -> list[dict]:
    rows = []
    for row in results.measured.to_dict("records"):
        figures = {name: None if pd.isna(row[name]) else round(float(row[name]), 2) for name in FIGURES}
        rows.append({
            **figures, "signs": int(row["signs"]), "model": RUNS[row["model"]], "picked": bool(row["headline"]),
            "picked_by": row["picked_by"], "interval_over": row["interval_over"] or "",
        })
    return rows


def _unseen_rows(results: Results) -> list[dict]:
    rows = []
    for row in results.measured[results.measured["headline"]].to_dict("records"):
        if pd.notna(row["unseen_mean_accuracy"]):
            figures = {name: row[f"unseen_{name}"] for name in (*FIGURES, "signs")}
            figures = {name: None if pd.isna(value) else round(float(value), 2) for name, value in figures.items()}
            rows.append({**figures, "task": int(row["signs"])})
    return rows


def _published_rows(table: pd.DataFrame) -> list[dict]:
    return table.astype(object).where(table.notna(), None).to_dict("records")


def _notebook_links(data_set: DataSet, folder: Path) -> list[dict]:
    """Pages of executed notebooks. This stage's own page is written after this one, beside its charts."""
    pages = [page for stage in STAGES for page in sorted(data_set.reports(stage).glob("*.html"))]
    own = data_set.reports("compare") / "06_compare.html"
    return [{"name": page.stem, "href": os.path.relpath(page, folder)} for page in (*pages, own)]


def _render(template: str, **values) -> str:
    loader = jinja2.FileSystemLoader(Path(__file__).with_name("pages"))
    options = {"autoescape": True, "undefined": jinja2.StrictUndefined, "trim_blocks": True, "lstrip_blocks": True}
    environment = jinja2.Environment(loader=loader, **options)
    return environment.get_template(template).render(**values)


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}")
    draft.write_text(text, encoding="utf-8")
    draft.replace(path)
