"""Every kind of clip, good and broken, made by benchmarks/formats.py and compared with its truth."""

from __future__ import annotations

import re

import pytest

import broken_clips
import formats
import made_clips
from made_people import PEOPLE
from reading import measure
from slr_lib.video import read_video

BY_FILE = {case.file: case for case in made_clips.FORMATS}


@pytest.fixture(scope="module")
def sources(tmp_path_factory):
    """A folder with the clips to break."""
    folder = tmp_path_factory.mktemp("sources")
    broken_clips.write_sources(folder)
    return folder


@pytest.mark.parametrize("case", made_clips.FORMATS, ids=lambda case: case.file)
def test_a_clip_of_every_format_is_read_as_it_was_made(tmp_path, case):
    assert formats.check_format(case, case.write(tmp_path))["wrong"] == "–"


def test_the_comparison_sees_what_is_wrong(tmp_path):
    other = BY_FILE["turned_90.mov"].write(tmp_path)
    other.write_bytes(made_clips.turned(other.read_bytes(), "270"))
    assert formats.check_format(BY_FILE["turned_90.mov"], other)["wrong"] == "order, colours"
    other = BY_FILE["uneven.mp4"].write(tmp_path)
    assert formats.check_format(BY_FILE["h264.mp4"], other)["wrong"] == "times"
    pattern = made_clips.draw_pattern(5, 160, 120)
    limited = pattern * (219 / 255) + 16
    assert made_clips.colour_error(pattern) == 0 and made_clips.read_number(pattern) == 5
    for wrong in (limited, (pattern - 16.0) * 255 / 219, pattern[::-1], pattern[:, ::-1], pattern[:, :, ::-1]):
        assert made_clips.colour_error(wrong) > formats.COLOUR_LIMIT


def test_ten_minutes_cost_no_more_memory_than_a_second(tmp_path):
    second, minutes = measure([BY_FILE[name].write(tmp_path) for name in ("h264.mp4", "ten_minutes.mp4")])
    assert (second.frames, minutes.frames) == (24, 6000)
    assert minutes.peak_mb - second.peak_mb < 15


@pytest.mark.parametrize("name", PEOPLE)
def test_people_are_found_where_they_are(tmp_path, name):
    file, draw, write = PEOPLE[name]
    scene = draw()
    write(scene, tmp_path / file)
    row = formats.check_people(name, scene, tmp_path / file)
    persons = len(scene.noses)
    assert row["pose found"] == (0 if name == "no person" else 1)
    assert row["face found"] == (1 if persons else 0)
    if persons == 1:
        assert row["nose"] == pytest.approx(scene.noses[0], abs=0.03)
        assert row["left hand found"] == 0 and row["right hand found"] > 0.3
    if persons == 2:
        assert row["followed"] in ("left", "right")  # one of them, from the first frame to the last


@pytest.mark.parametrize("source", broken_clips.SOURCES)
def test_a_clip_cut_off_anywhere_keeps_its_good_frames(sources, source):
    good = [picture for _, picture in read_video(sources / source)]
    counts = formats.check_broken(list(broken_clips.cut_off(sources, source)), good)
    assert counts["bad"] == 0 and counts["unnoticed"] == 0
    if source != "h264.ts":  # where the frames that wait to be shown may be lost with the one that is cut
        assert counts["kept"] == sorted(counts["kept"])
    if source in ("index_first.mp4", "mjpeg.avi", "clip.gif"):  # which say how many frames there are, or where they end
        assert counts["marked"] >= 25 and counts["unmarked"] <= 1


@pytest.mark.parametrize("source", [name for name in broken_clips.SOURCES if name not in broken_clips.UNCHECKED])
def test_flipped_bytes_seldom_go_unnoticed(sources, source):
    good = [picture for _, picture in read_video(sources / source)]
    counts = formats.check_broken(list(broken_clips.flipped(sources, source)), good)
    assert counts["unnoticed"] <= broken_clips.MOST_UNNOTICED and counts["marked"] >= 10


def test_broken_files_are_refused_or_marked_fast_and_in_little_memory(sources):
    paths = [broken_clips.write_broken(sources, case) for case in broken_clips.BROKEN]
    readings = dict(zip([case.file for case in broken_clips.BROKEN], measure(paths), strict=True))
    for file, reading in readings.items():
        assert reading.seconds < formats.SECONDS and reading.peak_mb < formats.MEGABYTES, file
        assert reading.refused or reading.damage, file
    assert [file for file, reading in readings.items() if not reading.refused] == ["half.mp4"]
    reasons = {
        "empty.mp4": "is empty", "text.mp4": "no video", "many.mp4": "promises 1000000000 frames",
        "fewer.mp4": "promises 80000000", "fragment.mp4": "promises 1000000000", "many.avi": "promises 1000000000",
        "large.h264": "16000x16000 pixels", "huge.gif": "no frame decodes", "huge.h264": "no frame decodes"}
    for file, reason in reasons.items():
        assert reason in readings[file].refused, file


def test_a_recording_that_promises_no_count_is_not_damaged_by_its_end(sources):
    data = (sources / "vp8.webm").read_bytes()
    (sources / "stopped.webm").write_bytes(data[:len(data) // 2])
    with read_video(sources / "stopped.webm") as video:
        count = len(list(video))
    assert 5 < count < 20 and video.damage is None and video.promised_frames is None


def test_a_clip_that_begins_with_a_lost_key_frame_starts_at_the_next(sources):
    """What is predicted from a lost picture is no good frame."""
    data = bytearray((sources / "mpeg4.avi").read_bytes())
    place = data.index(b"movi") + 100
    data[place:place + 400] = bytes(400)
    (sources / "headless.avi").write_bytes(data)
    with read_video(sources / "headless.avi") as video:
        numbers = [made_clips.read_number(picture) for _, picture in video]
    assert numbers == list(range(12, 24)) and "before the first good frame" in video.damage.text
    assert (video.damage.decoded, video.damage.promised) == (12, 24)


def test_faults_beside_the_pictures_cost_no_frame(tmp_path):
    """Before each picture a message that claims more bytes than it has: players pass it over; we do too, and say so."""
    path = tmp_path / "messages.h264"
    pictures = [made_clips.draw_pattern(number, 160, 120) for number in range(10)]
    made_clips.encode(path, pictures, made_clips.Encoding(container="h264"), range(0, 400, 40))
    message = b"\0\0\0\1\6\5\xf0abc\x80"
    path.write_bytes(re.sub(rb"\x00\x00\x00?\x01([\x65\x41\x01])", lambda start: message + b"\0\0\0\1" + start[1],
                            path.read_bytes()))
    with read_video(path) as video:
        numbers = [made_clips.read_number(picture) for _, picture in video]
    assert numbers == list(range(10)) and "passed over" in video.damage.text
