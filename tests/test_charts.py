"""Published figures as published, axes that mix nothing, charts that come out the same twice."""

import itertools
import warnings

import matplotlib
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from made_up_results import make_curves, make_metrics, make_tables

from slr_lib import baselines, charts, comparison, result_charts
from slr_lib.contact_sheet import choose_clips, clip_pictures, colour_note
from slr_lib.data_sets import DataSet
from slr_lib.errors import InputError
from slr_lib.skeleton import HANDS, HANDS_BY_DETECTION, HOLISTIC

matplotlib.use("Agg")


@pytest.fixture(autouse=True)
def close_figures():
    yield
    plt.close("all")


def a_data_set(name="slovo", synthetic=False, class_counts=(500, 1000)) -> DataSet:
    counts = list(class_counts)
    return DataSet(name=name, title=name.title(), kind="videos", path="x", synthetic=synthetic, class_counts=counts)


def measured_on(name: str, synthetic=False, class_counts=(500, 1000)) -> pd.DataFrame:
    return baselines.measured(make_metrics(class_counts), a_data_set(name, synthetic, class_counts))


def bar_lengths(axes) -> dict[str, float]:
    labels = [label.get_text() for label in axes.get_yticklabels()]
    return {labels[round(bar.get_y() + bar.get_height() / 2)]: bar.get_width() for bar in axes.patches}


# published rows: (model, frames, interval, mean accuracy, megabytes)
PUBLISHED = [
    ("MViTv2-small", 16, 4, 58.35, 140.51), ("MViTv2-small", 32, 2, 64.09, 140.79),
    ("MViTv2-small", 48, 2, 62.18, 141.05),
    ("Swin-large", 16, 3, 48.04, 821.65), ("Swin-large", 32, 2, 54.84, 821.74), ("Swin-large", 48, 1, 55.66, 821.78),
    ("ResNet-I3D", 16, 3, 32.86, 146.43), ("ResNet-I3D", 32, 2, 38.38, 146.43), ("ResNet-I3D", 48, 1, 43.91, 146.43),
    ("S3D", 32, None, 44.22, 34.6), ("S3D", 48, None, 52.28, 34.6), ("S3D", 64, None, 55.86, 34.6),
]


@pytest.mark.parametrize(("model", "frames", "interval", "accuracy", "size"), PUBLISHED)
def test_published_rows_of_slovo(model, frames, interval, accuracy, size):
    rows = baselines.published_on("slovo", 1000)
    row = rows[(rows["model"] == model) & (rows["frames"] == frames)].iloc[0]
    assert (row["mean_accuracy"], row["size_mb"]) == (accuracy, size)
    assert pd.isna(row["interval"]) if interval is None else row["interval"] == interval


def test_the_predecessors_rows():
    table = baselines.published()
    rows = table[table["origin"] == "predecessor"].set_index(["model", "signs"])["mean_accuracy"]
    wanted = {("base", 1000): 13.03, ("fine-tune 1", 1000): 40.28, ("fine-tune 2", 1000): 51.53, ("base", 500): 39.68,
              ("fine-tune 1", 500): 57.20, ("fine-tune 2", 500): 63.16, ("first version", 1000): 22}
    assert rows.to_dict() == {(f"Predecessor, {stage}", signs): value for (stage, signs), value in wanted.items()}
    by_skip = table[table["origin"] == "predecessor's chart"].groupby("model")["mean_accuracy"].apply(list).to_dict()
    assert by_skip == {"ResNet3D": [43.91, 40.81, 36.88, 32.06], "Swin Large": [47.21, 54.84, 54.40, 51.33],
                       "MViTv2 Small": [52.02, 53.18, 59.54, 56.90]}


def test_every_published_row_names_source_and_certainty():
    table = baselines.published()
    assert (table["source"] != "").all() and table["mark"].isin(baselines.MARKS).all()
    derived = table[table["mark"] == "D"]
    assert derived["mean_accuracy"].tolist() == [78.2]  # 64.09 + 14.12


METRICS = st.fixed_dictionaries({
    "name": st.sampled_from(["slovo", "demo", "rsl", "wlasl_hands", "slovo_360p", "Slovo"]),
    "synthetic": st.booleans(),
    "class_counts": st.lists(st.sampled_from([10, 20, 100, 500, 1000]), min_size=1, max_size=3, unique=True),
})


@settings(max_examples=30, deadline=None)
@given(METRICS, st.sampled_from([500, 1000]))
def test_only_slovos_own_figures_stand_on_slovos_axis(chosen, signs):
    own = measured_on(chosen["name"], chosen["synthetic"], tuple(chosen["class_counts"]))
    table = baselines.slovo_table(signs, own)
    belongs = chosen["name"] == "slovo" and not chosen["synthetic"] and signs in chosen["class_counts"]
    assert (table["kind"] == "measured").sum() == (3 if belongs else 0)
    assert set(table["data_set"]) == {"slovo"} and set(table["signs"]) == {signs}
    assert (table["kind"] != "measured").sum() == len(baselines.published_on("slovo", signs))


def test_the_demo_adds_no_bar_to_slovos_chart():
    axes = comparison.accuracy_on_slovo(baselines.slovo_table(1000, measured_on("demo", True, (10, 1000))), 1000)
    published = baselines.published_on("slovo", 1000)["mean_accuracy"].astype(float)
    assert sorted(bar_lengths(axes).values()) == sorted(published)
    words = [text.get_text() for text in axes.get_legend().get_texts()]
    assert not any("measured" in text for text in words)


def test_slovos_own_bars_are_told_apart_and_said():
    own = measured_on("slovo")
    axes = comparison.accuracy_on_slovo(baselines.slovo_table(1000, own), 1000)
    lengths = bar_lengths(axes)
    headline = own[own["headline"] & (own["signs"] == 1000)]["mean_accuracy"].item()
    assert lengths["This project, round 2 (headline)"] == headline
    assert lengths["MViTv2-small 32-2"] == 64.09
    looks = {(*bar.get_facecolor(), bar.get_hatch(), bar.get_linestyle()) for bar in axes.patches}
    words = [text.get_text() for text in axes.get_legend().get_texts()]
    assert len(looks) == len(words) == 4 and "measured here" in words


@pytest.mark.parametrize("draw", ["accuracy_on_slovo", "accuracy_by_size", "accuracy_by_frames"])
@pytest.mark.parametrize("change", [{"data_set": "demo"}, {"signs": 10}, {"kind": "synthetic"}])
def test_a_stranger_on_slovos_axis_is_an_error(draw, change):
    table = baselines.slovo_table(1000, measured_on("slovo"))
    for column, value in change.items():
        table.loc[0, column] = value
    with pytest.raises(InputError, match="has no place on the axis of Slovo"):
        getattr(comparison, draw)(table, 1000)


def test_own_results_name_the_data_set_and_say_synthetic():
    demo = measured_on("demo", True, (10, 20))
    axes = comparison.own_results(demo[demo["signs"] == 10])
    words = " ".join(text.get_text() for text in axes.get_legend().get_texts())
    assert "synthetic" in words and "Demo" in axes.figure.get_suptitle()
    assert "say nothing about real signing" in axes.figure.get_supxlabel().replace("\n", " ")
    assert {bar.get_hatch() for bar in axes.patches} == {"////"}
    assert len(axes.patches) == 4  # three models, and the headline on unseen signers


def test_synthetic_bars_are_hatched_and_real_ones_are_not():
    tables = make_tables(10, 2)
    for synthetic, hatch in ((True, "////"), (False, None)):
        pairs = result_charts.confused_pairs(tables["confusions"], "x", synthetic=synthetic)
        signs = result_charts.accuracy_by_sign(tables["per_sign"], "x", synthetic=synthetic)
        assert {bar.get_hatch() for axes in (pairs, *signs) for bar in axes.patches} == {hatch}


def test_long_names_keep_what_tells_them_apart():
    first, second = (charts.short(f"кулак-плечо-дважды-ладонь_к_себе-рот_{end}", 30) for end in "ои")
    assert first != second and len(first) == len(second) == 30 and charts.short("я") == "я"


def test_the_headline_of_folds_that_differ_is_a_row_of_its_own():
    metrics = make_metrics((30,))
    metrics["30_signs"]["headline"] |= {"model": "by fold", "mean_accuracy": 77.5}
    rows = baselines.measured(metrics, a_data_set("isl", class_counts=(30,)))
    assert rows["model"].tolist() == ["base", "round_1", "round_2", "by_fold"]
    assert rows[rows["headline"]]["mean_accuracy"].tolist() == [77.5]


def test_metrics_without_a_headline_are_said():
    metrics = make_metrics((10,))
    del metrics["10_signs"]["headline"]
    with pytest.raises(InputError, match="run the stage evaluate again"):
        baselines.measured(metrics, a_data_set("demo", True, (10,)))
    with pytest.raises(InputError, match="no `<N>_signs`"):
        baselines.measured({}, a_data_set())


def every_chart() -> dict:
    """One of each kind, on made-up tables with Cyrillic glosses."""
    tables = make_tables(60, 40)
    runs = (("base", 9), ("round_1", 4))
    curves = pd.concat([make_curves(epochs).assign(run=run, fold="0") for run, epochs in runs])
    own = measured_on("slovo")
    table = baselines.slovo_table(1000, own)
    random = np.random.default_rng(0)
    index = pd.DataFrame({
        "gloss": tables["per_sign"]["gloss"], "signer": random.permutation(list("abcdef") * 10),
        "split": ["train", "val", "test"] * 20, "frames": random.integers(10, 90, 60),
    })
    detection = pd.DataFrame({"clip": list("ab"), "frames": [30, 40], "left_hand": [0.4, 0.9], "face": [1.0, np.nan]})
    points = random.uniform(0.2, 0.8, (20, 543, 3))
    points[5:9, 468:489] = np.nan
    picture = random.integers(0, 255, (90, 60, 3), dtype=np.uint8)
    return {
        "slovo": comparison.accuracy_on_slovo(table, 1000), "size": comparison.accuracy_by_size(table, 1000),
        "frames": comparison.accuracy_by_frames(table, 1000),
        "skip": comparison.accuracy_by_skip(baselines.published()),
        "own": comparison.own_results(own[own["signs"] == 500]),
        "curves": result_charts.training_curves(curves, "Демо"),
        "pairs": result_charts.confused_pairs(tables["confusions"], "Демо"),
        "signers": result_charts.accuracy_by_signer(tables["per_signer"], "Демо"),
        "signs": result_charts.accuracy_by_sign(tables["per_sign"], "Демо"),
        "clips": charts.clips_by(index, "gloss", "Демо"), "lengths": charts.clip_lengths(index["frames"], "Демо"),
        "detection": charts.detection_shares(detection),
        "parts": charts.parts_over_time(points, np.arange(20) / 30, HOLISTIC, "Демо"),
        "contact_sheet": charts.contact_sheet([("день рождения", [picture] * 4), ("я", [picture])], "Демо"),
    }


def test_the_same_tables_give_the_same_bytes_and_every_letter_has_a_glyph(tmp_path, monkeypatch):
    monkeypatch.setitem(charts.STYLE, "savefig.dpi", 60)  # quicker
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message="Glyph .* missing")
        first = charts.save_all(every_chart(), tmp_path / "first")
    second = charts.save_all(every_chart(), tmp_path / "second")
    assert [path.name for path in first] == [path.name for path in second] and len(first) == 2 * 14 - 1
    for one, other in zip(first, second):
        assert one.read_bytes() == other.read_bytes(), one.name
        assert one.stat().st_size > 2000
    assert b"<dc:date>" not in first[1].read_bytes()


def test_saving_all_takes_old_charts_away(tmp_path):
    (tmp_path / "old.png").write_bytes(b"")
    axes = charts.clip_lengths(pd.Series([1, 2, 3]), "x")
    assert {path.name for path in charts.save_all({"new": axes}, tmp_path)} == {"new.png", "new.svg"}
    assert not (tmp_path / "old.png").exists()


def test_long_tables_are_cut_and_say_so():
    tables = make_tables(300, 174)
    pairs = result_charts.confused_pairs(tables["confusions"], "x", top=15)
    assert len(pairs.get_yticklabels()) == 15 and "15 most frequent of" in pairs.figure.get_supxlabel()
    signers = result_charts.accuracy_by_signer(tables["per_signer"], "x", top=25)
    assert len(signers.get_yticklabels()) == 25 and "25 of 174" in signers.figure.get_supxlabel()
    signs = result_charts.accuracy_by_sign(tables["per_sign"], "x", worst=20)[1]
    assert [bar.get_width() for bar in signs.patches] == sorted(tables["per_sign"]["accuracy"])[:20]


def test_empty_tables_make_no_error():
    result_charts.confused_pairs(make_tables(10, 2)["confusions"].head(0), "x")
    charts.clip_lengths(pd.Series([], dtype=float), "x")
    curves = make_curves(3, validation=False).assign(run="base", fold="0")
    panels = result_charts.training_curves(curves, "x")
    assert "no validation clips" in panels[1, 0].texts[0].get_text()


def test_a_wilson_interval_holds_its_share():
    # reference: Newcombe 1998, Statistics in Medicine 17, table I: 81 of 263 gives 0.2553 to 0.3662
    low, high = result_charts._wilson(pd.Series([81 / 263]), pd.Series([263]))
    assert (low[0], high[0]) == pytest.approx((25.53, 36.62), abs=0.01)


def test_landmarks_are_drawn_where_they_lie():
    points = np.full((543, 3), np.nan, np.float32)
    frame = np.zeros((100, 200, 3), np.uint8)
    assert not charts.draw_landmarks(frame, points, HOLISTIC).any()
    points[522] = 0.25, 0.5, 0  # the right hand's wrist
    drawn = charts.draw_landmarks(frame, points, HOLISTIC)
    rows, columns = np.nonzero(drawn.any(-1))
    assert abs(rows.mean() - 49.5) < 1.5 and abs(columns.mean() - 49.75) < 1.5
    assert drawn[50, 50, 0] > drawn[50, 50, 1] and not frame.any()  # red; the frame itself is untouched
    points[523] = 900, -3, 0  # far outside the picture
    assert charts.draw_landmarks(frame, points, HOLISTIC, height=50).shape == (50, 100, 3)


def test_skeletons_without_pictures_fill_the_square():
    points = np.full((3, 42, 3), np.nan, np.float32)
    points[0, :21, :2] = np.random.default_rng(0).uniform(3, 5, (21, 2))  # metres, say
    drawn = charts.draw_skeletons(points, HANDS)
    assert len(drawn) == 3 and len(np.unique(drawn[0].reshape(-1, 3), axis=0)) > 2
    assert len(np.unique(drawn[1].reshape(-1, 3), axis=0)) == 1


def test_a_sheet_shows_as_many_signers_and_signs_as_it_can():
    names = [(gloss, signer) for gloss, signer, _ in itertools.product("abcdef", "uvwxyz", range(3))]
    index = pd.DataFrame(names, columns=["gloss", "signer"]).assign(clip=[str(i) for i in range(len(names))])
    chosen = choose_clips(index, 6)
    assert chosen["signer"].nunique() >= 4 and chosen["gloss"].nunique() >= 4
    assert chosen.equals(choose_clips(index, 6))
    assert choose_clips(index, 6, store={"5", "7"})["clip"].isin({"5", "7"}).all()


def test_the_foot_of_a_sheet_says_what_colours_mean():
    assert "left hand" in colour_note(HANDS) and "face" not in colour_note(HANDS)
    assert "order of detection" in colour_note(HANDS_BY_DETECTION)


def test_a_film_has_the_pictures_of_the_video(tmp_path):
    from slr_lib.video import write_video

    path = tmp_path / "clip.mp4"
    write_video(path, [np.full((64, 96, 3), 20 * place, np.uint8) for place in range(10)], 30)
    row = next(pd.DataFrame([{"path": str(path), "begin": "", "end": ""}]).itertuples())
    points = np.full((10, 543, 3), np.nan, np.float32)
    films = list(clip_pictures(row, points, HOLISTIC, a_data_set(), height=32))
    assert [film.shape for film in films] == [(32, 48, 3)] * 10
    assert abs(float(films[5].mean()) - 100) < 4
    some = list(clip_pictures(row, points, HOLISTIC, a_data_set(), wanted={2, 7}, height=32))
    assert len(some) == 2 and np.array_equal(some[1], films[7])


def test_interactive_mode_that_a_notebooks_backend_turns_on_stays_on(monkeypatch):
    # the backend loads with the first figure, inside the style; if that were undone, later charts would not show
    monkeypatch.setattr(charts, "new_axes", lambda *size: (plt.ion(), plt.subplots(figsize=size)[1])[1])
    try:
        charts.clip_lengths(pd.Series([1, 2]), "x")
        assert plt.isinteractive()
    finally:
        plt.ioff()
    assert plt.rcParams["svg.hashsalt"] != charts.STYLE["svg.hashsalt"]  # the rest of the style is taken back
