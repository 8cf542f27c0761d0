"""Decoding: true properties of odd files, times, rotation, trimming, damage; and the writer's determinism."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from slr_lib.errors import InputError
from slr_lib.video import count_frames, read_video, write_video

REAL = Path(os.environ.get("SLR_SHARED", Path(__file__).parents[2] / "shared")) / "data" / "real_clips"
ODD = REAL / "odd_files"
needs_odd = pytest.mark.skipif(not ODD.is_dir(), reason=f"needs the odd files in {ODD}")
OFFICIAL = REAL / "slovo_official" / "train" / "f17a6060-6ced-4bd1-9886-8578cfbb864f.mp4"
needs_official = pytest.mark.skipif(not OFFICIAL.is_file(), reason=f"needs Slovo's example {OFFICIAL}")


def pictures(count: int, height: int = 48, width: int = 64) -> list[np.ndarray]:
    """Grey pictures, each of a brightness of its own: 10, 18, 26, ..."""
    return [np.full((height, width, 3), 10 + 8 * i, np.uint8) for i in range(count)]


def brightness(path, begin=None, end=None) -> list[int]:
    """Which of `pictures` were read, by their brightness."""
    return [round((float(picture.mean()) - 10) / 8) for _time, picture in read_video(path, begin, end)]


@pytest.fixture
def clip(tmp_path):
    path = tmp_path / "clip.mp4"
    write_video(path, pictures(20), 25)
    return path


@needs_odd
def test_odd_files_are_read_as_they_are():
    table = pd.read_csv(ODD / "index.csv")
    assert set(table.file) == {path.name for path in ODD.iterdir()} - {"index.csv", "FACTS.md"}
    for row in table[table.decoded_frames.notna()].itertuples():
        with read_video(ODD / row.file) as video:
            times = []
            for time, picture in video:
                times.append(time)
                assert picture.dtype == np.uint8 and picture.flags.c_contiguous
                assert picture.shape == (video.height, video.width, 3), row.file
        upright = (row.height, row.width) if abs(row.rotation) == 90 else (row.width, row.height)
        assert (video.width, video.height) == upright, row.file
        assert len(times) == video.decoded == row.decoded_frames, row.file
        gaps = np.diff(times) * 1000
        assert times[0] == 0
        assert gaps.min() == pytest.approx(row.frame_gap_min_ms, abs=0.1), row.file
        assert gaps.max() == pytest.approx(row.frame_gap_max_ms, abs=0.1), row.file
        assert (video.damage is not None) == (row.file == "decord_corrupted.mp4"), row.file
        if video.damage:
            assert (video.damage.decoded, video.damage.promised) == (28, 50)
        else:
            assert count_frames(ODD / row.file) == len(times)
            assert video.promised_frames in (None, len(times))


@needs_odd
def test_unreadable_odd_files_are_refused_by_name_and_reason():
    reasons = {"lfs_pointer_not_a_video.mp4": "git lfs pull", "made_truncated_60pct.mp4": "index is missing",
               "made_empty.mp4": "empty", "made_text_named.mp4": "no video"}
    table = pd.read_csv(ODD / "index.csv")
    assert set(table.file[table.decoded_frames.isna()]) == set(reasons)  # the others decode: see above
    for name, reason in reasons.items():
        with pytest.raises(InputError, match=reason) as error:
            read_video(ODD / name)
        assert name in str(error.value)


@needs_odd
def test_rotated_files_stand_upright():
    def first(name):
        return next(iter(read_video(ODD / name)))[1].astype(float)

    quarter, half = first("decord_rot90.mov"), first("decord_rot180.mov")
    assert quarter.shape == (568, 320, 3) and half.shape == (320, 568, 3)
    import av  # the stored pictures, to compare with
    with av.open(str(ODD / "decord_rot90.mov")) as container:
        stored = next(container.decode(video=0)).to_ndarray(format="rgb24").astype(float)
    assert np.array_equal(quarter, np.rot90(stored, -1))


@needs_official
def test_untrimmed_official_clip_is_cut_to_its_63_frames():
    whole = [time for time, _ in read_video(OFFICIAL)]
    video = read_video(OFFICIAL, 2, 65)
    cut = [time for time, _ in video]
    assert len(whole) == 112 and len(cut) == 63 and video.trimmed
    assert np.allclose(cut, np.subtract(whole[2:65], whole[2]))


@pytest.mark.parametrize(("begin", "end", "expected"), [
    (None, None, range(20)), (0, 20, range(20)),
    (40, 60, range(20)), (40, 61, range(20)), (41, 60, range(20)),  # trimmed already, one more or less
    (3, 9, range(3, 9)), (5, 20, range(5, 20)), (0, 5, range(5)), (1, 19, range(1, 19)),  # untrimmed
])
def test_trimming_rule(clip, begin, end, expected):
    assert brightness(clip, begin, end) == list(expected)


@pytest.mark.parametrize(("begin", "end"), [(0, 40), (10, 21), (30, 40), (5, 5), (9, 3), (-1, 5)])
def test_begin_and_end_that_fit_no_file_are_refused(clip, begin, end):
    with pytest.raises(InputError, match=r"clip\.mp4.*(fit neither|hold no frame)"):
        read_video(clip, begin, end)


def test_writer_gives_the_same_bytes_and_the_same_pictures(tmp_path, clip):
    write_video(tmp_path / "again.mp4", iter(pictures(20)), 25)
    assert clip.read_bytes() == (tmp_path / "again.mp4").read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["again.mp4", "clip.mp4"]
    video = read_video(clip)
    read = list(video)
    assert [time for time, _ in read] == pytest.approx(np.arange(20) / 25)
    assert (video.width, video.height, video.fps, video.promised_frames, video.damage) == (64, 48, 25, 20, None)
    assert video.aspect == pytest.approx(64 / 48)
    for (_, picture), drawn in zip(read, pictures(20)):
        assert np.abs(picture.astype(int) - drawn).max() <= 3


@pytest.mark.parametrize(("frames", "reason"), [
    ([], "no frame"),
    (pictures(1, 47, 64), "even width"),
    ([*pictures(1), *pictures(1, 50, 64)], "differ in size"),
    ([np.zeros((48, 64), np.uint8)], "uint8"),
    ([np.zeros((48, 64, 3), np.float32)], "uint8"),
])
def test_writer_refuses_and_leaves_nothing(tmp_path, frames, reason):
    with pytest.raises(InputError, match=reason):
        write_video(tmp_path / "clip.mp4", frames, 30)
    assert list(tmp_path.iterdir()) == []


def test_what_is_no_video_is_refused(tmp_path):
    (tmp_path / "list.mp4").write_text("#EXTM3U\n#EXTINF:1,\nhttp://localhost/secret.mp4\n")
    (tmp_path / "art.ans").write_text("a text that FFmpeg would draw as a video")
    cases = {"list.mp4": "no video", "art.ans": "no video", "absent.mp4": "no such file", "": "cannot be read"}
    for name, reason in cases.items():
        with pytest.raises(InputError, match=reason):
            read_video(tmp_path / name)


def test_names_that_look_like_protocols_are_files(tmp_path, clip):
    path = tmp_path / "concat:жест %03d?.mp4"
    path.write_bytes(clip.read_bytes())
    assert len(list(read_video(path))) == 20


def test_a_video_is_read_once(clip):
    video = read_video(clip)
    assert len(list(video)) == 20
    with pytest.raises(RuntimeError, match="once"):
        next(iter(video))
