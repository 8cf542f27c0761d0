"""The page of a data set, from stages' results to HTML; what is missing is said in a sentence."""

import json
import re
import shutil
from html.parser import HTMLParser

import matplotlib
import matplotlib.pyplot as plt
import pandas as pd
import pytest
from made_up_results import write_results

from slr_lib import comparison, result_charts
from slr_lib.baselines import published, slovo_table
from slr_lib.charts import save_all
from slr_lib.data_sets import load_data_set
from slr_lib.errors import InputError
from slr_lib.report import read_results, write_overview, write_report

matplotlib.use("Agg")


@pytest.fixture(autouse=True)
def close_figures():
    yield
    plt.close("all")


@pytest.fixture
def demo(project):
    """The demo's settings in a project where every stage before compare has reported."""
    write_results(project / "reports" / "demo")
    return load_data_set("demo")


def make_page(data_set) -> tuple[str, object]:
    """A page with files in place of charts."""
    results = read_results(data_set)
    folder = data_set.reports("compare") / "charts"
    folder.mkdir(parents=True, exist_ok=True)
    names = ["accuracy_10_signs", "slovo_size", "contact_sheet"]
    for name in names:
        (folder / f"{name}.png").write_bytes(b"PNG")
    page = write_report(results, folder, names)
    return page.read_text(encoding="utf-8"), page


def make_page_with_charts(data_set) -> tuple[str, object]:
    results = read_results(data_set)
    axes = {}
    for signs in results.class_counts:
        rows = results.measured[results.measured["signs"] == signs]
        axes[f"accuracy_{signs}_signs"] = comparison.own_results(rows)
        axes[f"pairs_{signs}_signs"] = result_charts.confused_pairs(results.tables[signs]["confusions"], "x")
    axes["slovo_accuracy_1000_signs"] = comparison.accuracy_on_slovo(slovo_table(1000, results.measured), 1000)
    folder = data_set.reports("compare") / "charts"
    save_all(axes, folder)
    page = write_report(results, folder, axes)
    return page.read_text(encoding="utf-8"), page


class Links(HTMLParser):
    """Collects where a page's links and pictures point, and its cells."""

    def __init__(self, page: str):
        super().__init__()
        self.targets, self.open = [], []
        self.feed(page)

    def handle_starttag(self, tag, attributes):
        self.targets += [value for name, value in attributes if name in ("href", "src")]
        if tag not in ("meta", "img", "br"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag, f"</{tag}> closes nothing"


def test_the_page_shows_figures_charts_and_links_that_lead_somewhere(demo):
    page, path = make_page_with_charts(demo)
    links = Links(page)
    assert not links.open
    pictures = [target for target in links.targets if target.startswith("data:image/svg+xml;base64,")]
    assert len(pictures) == 5
    files = [target for target in links.targets if not target.startswith(("data:", "#"))]
    missing = [name for name in files if not (path.parent / name).resolve().exists()]
    # this stage's own notebook and the list of all data sets are written after the page
    assert set(missing) <= {"compare/06_compare.html", "../index.html"}
    assert "train/03_train-10-0.html" in files
    headline = json.loads((demo.reports("evaluate") / "metrics.json").read_text())["20_signs"]["headline"]
    assert f"{headline['mean_accuracy']:.2f}" in page and f"{headline['unseen_signers']['top1']:.2f}" in page
    assert "the file breaks off after 3 of 40 frames" in page


def test_the_page_needs_no_other_file_and_no_network(demo):
    page, _ = make_page(demo)
    assert not re.search(r"""(src|href)=["'](https?:)?//""", page)
    assert "<script" not in page and "@import" not in page and "url(" not in page


def test_the_demo_is_called_synthetic_and_kept_off_slovo(demo):
    page, _ = make_page(demo)
    assert "Synthetic." in page and "is not Slovo" in page
    assert all(row["source"] in page.replace("&#39;", "'") for row in published().to_dict("records")
               if row["data_set"] == "slovo")


def test_a_page_without_validation_says_so(project):
    write_results(project / "reports" / "demo", validation=False, unseen=False)
    page, _ = make_page(load_data_set("demo"))
    assert "has no validation clips" in page and "picked on validation clips" not in page
    assert "No figure on unseen signers alone" in page


def test_the_same_results_give_the_same_page(demo):
    assert make_page(demo)[0] == make_page(demo)[0]


def test_folds_are_gathered(project):
    reports = project / "reports" / "demo"
    write_results(reports, folds=("0", "1", "2"))
    metrics = json.loads((reports / "evaluate" / "metrics.json").read_text())
    metrics["10_signs"]["headline"]["folds"] = {"0": 50.0, "1": 60.0, "2": 73.0}
    (reports / "evaluate" / "metrics.json").write_text(json.dumps(metrics))
    results = read_results(load_data_set("demo"))
    assert results.curves.groupby("run")["fold"].unique().map(list).to_dict() == {
        run: ["0", "1", "2"] for run in ("base", "round_1", "round_2")
    }
    assert set(results.curves["signs"]) == {10, 20} and len(results.curves) == 2 * 3 * (40 + 15 + 15)
    page, _ = make_page(load_data_set("demo"))
    assert "50.00, 60.00, 73.00; their mean 61.00" in page


def test_glosses_that_look_like_something_else_stay_text(demo):
    table = pd.DataFrame({"gloss": ["NA", "7:45", "null", "<b>"], "n": 1, "accuracy": [0.0, 100.0, 0.0, 0.0]})
    table.to_csv(demo.reports("evaluate") / "tables" / "10_signs" / "per_sign.csv", index=False)
    assert read_results(demo).tables[10]["per_sign"]["gloss"].tolist() == ["NA", "7:45", "null", "<b>"]


def test_text_of_others_is_escaped(demo):
    (demo.reports("extract_landmarks") / "rejects.csv").write_text("clip,reason\n<img src=x>,a & b\n", encoding="utf-8")
    page, _ = make_page(demo)
    assert "&lt;img src=x&gt;" in page and "<img src=x>" not in page


def test_checkpoints_give_the_sizes(demo):
    folder = demo.models(10)
    folder.mkdir(parents=True)
    (folder / "base.safetensors").write_bytes(b"0" * 2_500_000)
    rows = read_results(demo).measured
    assert rows[(rows["signs"] == 10) & (rows["model"] == "base")]["size_mb"].item() == 2.5
    assert rows[rows["signs"] == 20]["size_mb"].isna().all()


@pytest.mark.parametrize(("path", "stage"), [
    ("evaluate/metrics.json", "evaluate"), ("evaluate/tables/10_signs/per_signer.csv", "evaluate"),
])
def test_a_missing_result_is_said_in_a_sentence(demo, path, stage):
    (demo.reports("") / path).unlink()
    with pytest.raises(InputError) as error:
        read_results(demo)
    assert path in str(error.value) and f"run the stage {stage}" in str(error.value) and "\n" not in str(error.value)


def test_missing_curves_are_said(demo):
    for path in demo.reports("").glob("*/*/curves"):
        shutil.rmtree(path)
    with pytest.raises(InputError, match="run the stage train first"):
        read_results(demo)


@pytest.mark.parametrize("content", ["", "{", "[1]"])
def test_broken_metrics_are_said(demo, content):
    (demo.reports("evaluate") / "metrics.json").write_text(content)
    with pytest.raises(InputError, match=r"metrics\.json .*run the stage evaluate again"):
        read_results(demo)


def test_a_chart_that_was_not_drawn_is_said(demo):
    with pytest.raises(InputError, match=r"pairs_10_signs\.png is missing; run the stage compare"):
        write_report(read_results(demo), demo.reports("compare") / "charts", ["pairs_10_signs"])


def test_the_overview_lists_every_data_set(demo, project):
    make_page(demo)
    page = write_overview(project / "reports").read_text(encoding="utf-8")
    assert 'href="demo/index.html"' in page and page.count("synthetic") >= 2 and "do not compare" in page
    Links(page)
