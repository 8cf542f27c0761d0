"""From landmarks to batches: the compiled loops and short cuts give, to the byte, what plain NumPy gives."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from conftest import PROJECT
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from slr_lib import loops
from slr_lib.batches import collate_landmarks
from slr_lib.clips import Clip, ClipSettings, _every_line, flat, prepare_clip
from slr_lib.landmark_store import ClipLandmarks
from slr_lib.packed_clips import Statistics
from slr_lib.skeleton import HANDS, HANDS_BY_DETECTION, HOLISTIC, Part, Skeleton, load_skeleton
from slr_lib.slots import swapped_slots

KINECT = load_skeleton(PROJECT / "data_sets" / "skeletons" / "kinect20.yaml")
HANDS_AND_FACE = load_skeleton(PROJECT / "data_sets" / "skeletons" / "hands_face.yaml")
# slots and a body at once, scattered; an origin of ten points
SLOTS_AND_BODY = Skeleton(
    "slots_and_body", tuple(f"p{i}" for i in range(16)),
    (Part("a", (0, 9, 4), "right", "hand"), Part("body", (1, 2, 3, 5, 6), None, "body"),
     Part("b", (8, 7, 11), "left", "hand")), tuple(range(16)), slots_by_detection=True,
    origin=(1, 2, 3, 5, 6, 10, 12, 13, 14, 15), unit=(2, 6))
SKELETONS = (HOLISTIC, HANDS, HANDS_BY_DETECTION, KINECT, HANDS_AND_FACE, SLOTS_AND_BODY)
RARE = np.float32([np.nan, np.inf, -np.inf, 0.0, -0.0, 1e6, -1e6, 999_999.94, 3e38, 1e-40, -1e-42, 6e-8])


def plain_clip(landmarks: ClipLandmarks, skeleton: Skeleton, chosen: ClipSettings) -> Clip | str:
    """`prepare_clip` step by step, every step over the whole clip."""
    skeleton, indices = skeleton.select()
    points, times = landmarks.points[:, indices].copy(), landmarks.times
    mask = (np.abs(points[..., :2]) < 1e6).all(-1)
    points[~(np.abs(points) < 1e6)] = 0
    points[~mask] = 0
    hands = [list(part.points) for part in skeleton.hands]
    if skeleton.slots_by_detection:
        plain_sorting(points, mask, times, skeleton)
    width, height = landmarks.info.get("width"), landmarks.info.get("height")
    aspect = width / height if width and height else chosen.aspect
    points[..., 0] *= aspect
    if skeleton.depth_by_part:
        points[..., 2] *= aspect
    kept = mask.any(1)
    if not kept.any():
        return f"no point in any of its {len(kept)} frames"
    with_hand = mask[:, [point for hand in hands for point in hand]].any(1)
    if hands and not chosen.keep_handless and with_hand.sum() >= chosen.minimum_frames:
        kept = with_hand
    points, mask, times = points[kept], mask[kept], times[kept]
    if len(times) < chosen.minimum_frames:
        return f"only {len(times)} of its {len(kept)} frames can be used, {chosen.minimum_frames} are needed"
    points = np.clip((points - plain_origin(points, mask, skeleton, hands, aspect))
                     * np.float32(1 / plain_unit(points, mask, skeleton, hands)), -50, 50)
    points[~mask] = 0
    return Clip(points, (times - times[0]).astype(np.float32), mask)


def plain_sorting(points, mask, times, skeleton):
    right, left = sorted(skeleton.hands, key=lambda part: part.side == "left")
    slots = [list(left.points), list(right.points)]
    seen = np.stack([mask[:, slot].any(1) for slot in slots], 1)
    if not seen.any():
        return
    centres = np.stack([points[:, slot, :2].sum(1) / np.maximum(mask[:, slot].sum(1), 1)[:, None] for slot in slots], 1)
    origin = list(skeleton.origin)
    body = mask[:, origin].all(1) & bool(origin)
    middle = float(np.median(points[body][:, origin, 0].mean(1))) if body.any() else 0.5
    for frame in np.flatnonzero(swapped_slots(centres, seen, times, middle)):
        for values in (points, mask):
            values[frame, slots[0] + slots[1]] = values[frame, slots[1] + slots[0]]


def plain_origin(points, mask, skeleton, hands, aspect):
    origin = list(skeleton.origin)
    if skeleton.in_picture and not origin:
        return np.float32([aspect / 2, 0.5, 0])
    seen = mask[:, origin].all(1) & bool(origin)
    if seen.any():
        centres = points[seen][:, origin].mean(1)
    else:
        chosen = sorted(point for hand in hands for point in hand) or list(range(mask.shape[1]))
        counts = mask[:, chosen].sum(1)
        centres = (points[:, chosen].sum(1) / np.maximum(counts, 1)[:, None])[counts > 0]
        if not len(centres):
            centres = points[mask].mean(0)[None]
    middle = np.median(centres, axis=0).astype(np.float32)
    if skeleton.depth_by_part:
        middle[2] = 0
    return middle


def plain_unit(points, mask, skeleton, hands):
    if skeleton.unit:
        both = mask[:, skeleton.unit].all(1)
        way = points[both, skeleton.unit[0]] - points[both, skeleton.unit[1]]
        lengths = np.linalg.norm(way[:, :2] if skeleton.depth_by_part else way, axis=-1)
        if len(lengths) and np.median(lengths) > 1e-4:
            return float(np.median(lengths))
    elif skeleton.in_picture:
        return 0.3

    def radius(chosen):
        whole = points[mask[:, chosen].all(1)][:, chosen, :2]
        return float(np.sqrt(np.quantile(whole.var(axis=1).sum(-1), 0.8))) if len(whole) else 0.0

    radii = [radius(hand) for hand in hands if radius(hand) > 1e-4]
    return max(radii) * 7 if radii else max(radius(list(range(mask.shape[1]))), 1e-2)


def plain_batch(clips, statistics: Statistics, max_frames: int):
    """points, mask, frames, times of `collate_landmarks`, frame by frame."""
    longest = min(max(len(clip.times) for clip in clips), max_frames)
    frames = longest + -longest % 8
    points = np.zeros((len(clips), frames, *clips[0].points.shape[1:]), np.float32)
    mask, there = np.zeros(points.shape[:3], bool), np.zeros(points.shape[:2], bool)
    times = np.zeros(there.shape, np.float32)
    for row, clip in enumerate(clips):
        count = min(len(clip.times), max_frames)
        for to in range(count):
            of = round(to * ((len(clip.times) - 1) / max(count - 1, 1)))
            points[row, to] = clip.points[of].astype(np.float16)
            mask[row, to], there[row, to], times[row, to] = clip.mask[of], True, clip.times[of]
    points = (points - statistics.mean) / statistics.std * mask[..., None].astype(np.float32)
    return points, mask, there, times


def assert_same_bytes(found, expected):
    for one, two in zip(found, expected, strict=True):
        one, two = np.asarray(one), np.asarray(two)
        assert one.dtype == two.dtype and one.shape == two.shape
        np.testing.assert_array_equal(one, two)
        assert one.tobytes() == two.tobytes(), "a zero of another sign"


def drawn(skeleton: Skeleton, frames: int, faults: set[str], seed: int) -> ClipLandmarks:
    """Random landmarks with faults of detection."""
    random = np.random.default_rng(seed)
    points = random.uniform(0, 1, (frames, len(skeleton.points), 3)).astype(np.float32)
    parts = [list(part.points) for part in skeleton.parts]
    if "points" in faults:
        points[random.random(points.shape[:2]) < 0.2] = np.nan
    if "parts" in faults:
        for part in parts:
            points[np.ix_(random.random(frames) < 0.4, part)] = np.nan
    if "hands" in faults:
        points[:, [point for part in skeleton.hands for point in part.points]] = np.nan
    if "few" in faults:  # frames with a hand, perhaps too few of them
        points[1 + seed % 3 :, [point for part in skeleton.hands for point in part.points]] = np.nan
    if "body" in faults:
        points[:, list(skeleton.origin)] = np.nan
    if "frames" in faults:
        points[random.random(frames) < 0.5] = np.nan
    if "depth" in faults:
        points[random.random(points.shape[:2]) < 0.1, 2] = np.nan
    if "coordinates" in faults:
        points[random.random(points.shape) < 0.02] = np.nan
    if "rare" in faults:
        where = random.random(points.shape) < 0.02
        points[where] = random.choice(RARE, where.sum())
    if "whole" in faults:  # a point that is absurd with all its coordinates
        where = random.random(points.shape[:2]) < 0.05
        points[where] = random.choice(RARE, where.sum())[:, None]
    if "still" in faults:  # no unit of length
        points[:, list({*skeleton.origin, *(skeleton.unit or ())})] = 0.5
    if "outlier" in faults:
        points[random.random(points.shape) < 0.01] = 900.0
    if "all" in faults:
        points[:] = np.nan
    info = {"width": 1920, "height": 1080} if "picture" in faults else {}
    return ClipLandmarks(points, np.cumsum(random.uniform(0, 0.1, frames)) + 5, info)


FAULTS = ("points", "parts", "hands", "few", "body", "frames", "depth", "coordinates", "rare", "whole", "still",
          "outlier", "all", "picture")
CLIPS = st.lists(st.tuples(st.integers(1, 30), st.sets(st.sampled_from(FAULTS), max_size=4), st.integers(0, 999)),
                 min_size=1, max_size=4)


def statistics_of(skeleton: Skeleton, seed: int) -> Statistics:
    random = np.random.default_rng(seed)
    count = len(skeleton.select()[0].points)
    return Statistics(random.choice(np.float32([0, 0.3, -0.7]), (count, 3)),
                      random.uniform(0.5, 2, (count, 3)).astype(np.float32))


@pytest.mark.parametrize("skeleton", SKELETONS, ids=lambda skeleton: skeleton.name)
@settings(max_examples=60, deadline=None)
@given(CLIPS, st.sampled_from([1.0, 0.5625, 1.7]), st.integers(1, 4), st.booleans(), st.integers(1, 40))
def test_every_branch_gives_the_bytes_of_plain_numpy(skeleton, clips, aspect, minimum, keep_handless, max_frames):
    chosen = ClipSettings(aspect, minimum, keep_handless)
    shown = [drawn(skeleton, *clip) for clip in clips]
    before = [given.points.tobytes() for given in shown]
    with np.errstate(all="ignore"):
        expected = [plain_clip(given, skeleton, chosen) for given in shown]
    prepared = [prepare_clip(given, skeleton, chosen) for given in shown]
    for found, right in zip(prepared, expected, strict=True):
        if isinstance(right, str):
            assert found == right
        else:
            assert_same_bytes((found.points, found.times, found.mask), (right.points, right.times, right.mask))
    usable = [clip for clip in expected if not isinstance(clip, str)]
    made = statistics_of(skeleton, max_frames)
    batch, reasons = collate_landmarks(shown, skeleton, chosen, made, max_frames)
    assert reasons == {number: clip for number, clip in enumerate(expected) if isinstance(clip, str)}
    assert len(batch.labels) == len(usable) and (batch.labels == -1).all()
    if usable:
        assert_same_bytes(batch[:4], plain_batch(usable, made, max_frames))
    assert [given.points.tobytes() for given in shown] == before, "the landmarks themselves were changed"


@settings(max_examples=80, deadline=None)
@given(arrays.arrays(np.float32, (5, 42, 3), elements=st.floats(width=32)),
       st.sampled_from([HANDS, HANDS_BY_DETECTION]))
def test_any_numbers_whatever_give_the_bytes_of_plain_numpy(points, skeleton):
    given, chosen = ClipLandmarks(points, np.arange(5) / 30), ClipSettings(minimum_frames=1)
    with np.errstate(all="ignore"):
        expected = plain_clip(given, skeleton, chosen)
    found = prepare_clip(given, skeleton, chosen)
    if isinstance(expected, str):
        assert found == expected
    else:
        assert_same_bytes((found.points, found.times, found.mask), (expected.points, expected.times, expected.mask))


@settings(max_examples=50, deadline=None)
@given(st.lists(st.integers(0, 400), min_size=1, max_size=40), st.integers(0, 15))
def test_every_cache_line_that_is_needed_is_touched(numbers, begins):
    touched = _every_line(np.array(numbers))
    assert set(touched) <= set(numbers) and (np.diff(touched) > 0).all()
    assert {(number + begins) // 16 for number in numbers} == {(number + begins) // 16 for number in touched}


def test_half_precision_rounds_as_numpy_does():
    exact = np.arange(2**16, dtype=np.uint16).view(np.float16).astype(np.float32)
    exact = np.sort(exact[np.abs(exact) <= 60_000])
    between = (exact[1:] + exact[:-1]) / 2  # exactly in the middle
    above, below = (np.nextafter(between, np.float32(end)) for end in (1e9, -1e9))
    tiny = np.float32([1e-40, -1e-40, 2.0**-25, -(2.0**-25), 3e-8, -3e-8])
    values = np.concatenate([exact, between, above, below, tiny])
    values = np.resize(values, (-(-len(values) // 126), 42, 3))
    nothing = np.zeros(126, np.float32)
    found, mask = np.empty_like(values), np.empty(values.shape[:2], bool)
    loops.place_and_normalise(flat(values), np.arange(len(values)), np.arange(126), np.arange(0), nothing + 1,
                              np.float32(np.inf), nothing[:3], np.float32(1), np.float32(1e9), nothing, nothing + 1,
                              flat(found), mask)
    assert found.tobytes() == (values.astype(np.float16).astype(np.float32) - nothing[0]).tobytes() and mask.all()


def test_threads_change_nothing():
    shown = [drawn(HOLISTIC, 5 + 3 * number, {"parts", "picture", "all" if number == 4 else "depth"}, number)
             for number in range(12)]
    made, before = statistics_of(HOLISTIC, 0), torch.get_num_threads()
    try:
        made_by = []
        for threads in (1, 3):
            torch.set_num_threads(threads)
            made_by.append(collate_landmarks(shown, HOLISTIC, None, made, 32))
    finally:
        torch.set_num_threads(before)
    (one, reasons), (several, again) = made_by
    assert_same_bytes(one, several)
    assert list(reasons) == [4] and reasons == again and len(one.labels) == 11


def test_a_batch_is_no_longer_than_the_frames_that_are_left():
    long = drawn(HOLISTIC, 40, set(), 0)
    long.points[10:] = np.nan
    batch, _ = collate_landmarks([long, drawn(HOLISTIC, 3, set(), 1)], HOLISTIC, None, statistics_of(HOLISTIC, 0))
    assert batch.points.shape == (2, 16, 108, 3) and batch.points.is_contiguous()
    assert batch.frames.sum(1).tolist() == [10, 3]


def test_not_one_usable_clip_is_an_empty_batch():
    batch, reasons = collate_landmarks([drawn(HANDS, 4, {"all"}, 0)], HANDS, None, statistics_of(HANDS, 0))
    assert len(batch.points) == 0 and reasons == {0: "no point in any of its 4 frames"}
