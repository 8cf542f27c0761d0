"""Compiled loops over a clip's points: what NumPy and torch would take a dozen passes and twice as many calls for.

One thread runs each, without Python's lock, so that several clips can be made at once; that is why they are compiled
(by Numba, in some seconds at the very first call, and kept on disk for later processes): of a clip's NumPy calls each
is so short that threads mostly wait for the lock. Arithmetic is IEEE's, an operation at a time, as NumPy's.

T frames, P points of the selection, P' points of the landmarks.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from numba import njit, types
from numba.extending import intrinsic

CACHE_LINE = 16  # float32
_HALF_POWERS = np.int32((127 - 14) << 23)  # bits of 2**-14, from which on down half precision's places stay as they are
_HALF_STEP = np.int32((13 << 23) + (1 << 22))  # bits that make 1.5 * 2**(n + 13) of 2**n
_0, _1, _2, _3, _4 = (np.uintp(number) for number in range(5))  # uintp and a signed number would make a float
_POWER, _SIGN = np.int32(0x7F800000), np.int32(-0x80000000)
# without `error_model` a division is a branch that may raise, one number at a time
_compiled = njit(nogil=True, cache=True, error_model="numpy")
_summing = njit(nogil=True, cache=True, error_model="numpy", fastmath={"reassoc"})  # sums in any order


@_compiled
def gather(landmarks, chosen, touched, of_hand, largest, points, mask, shows):
    """Fill points float32 [T, 3 P] and mask bool [T, P] with the numbers `chosen` [3 P] of landmarks [T, 3 P'].

    touched: ascending numbers of a frame, one at least in each of the cache lines in which the chosen ones lie.

    A point is seen if x and y are smaller than `largest`, whatever their sign; NaN is not. Else it is zero, and so is
    depth that is missing alone. shows bool [2, T]: whether the frame has any point, and any of a hand (of_hand [P]).
    """
    total, good = np.float32(0), np.empty(points.shape[1], np.bool_)
    for frame in range(points.shape[0]):
        given, row, seen = landmarks[frame], points[frame], mask[frame]
        # A look at each cache line to come, in order, for the processor fetches ahead what is read in order: the
        # points, which lie about, would each wait for the memory. (A sum of floats that is returned: the compiler may
        # neither leave it out nor read several lines at once, which takes twice as long.)
        for i in touched:
            total += given[i]
        # in loops of one step each, which the compiler does for several numbers at once
        for i in range(row.shape[0]):
            row[i] = given[chosen[i]]
        for i in range(row.shape[0]):
            good[i] = abs(row[i]) < largest
        anything, hand = False, False
        for point in range(seen.shape[0]):
            there = good[3 * point] & good[3 * point + 1]
            seen[point] = there
            good[3 * point], good[3 * point + 1] = there, there
            good[3 * point + 2] &= there
            anything |= there
            hand |= there & of_hand[point]
        for i in range(row.shape[0]):
            row[i] = row[i] if good[i] else np.float32(0)
        shows[0, frame], shows[1, frame] = anything, hand
    return total


@_compiled
def middles(points, mask, chosen):
    """The mean of the points `chosen` in each frame that shows them all: float32 [N, 3]."""
    made, count = np.zeros((points.shape[0], 3), np.float32), 0
    for frame in range(points.shape[0]):
        there = True
        for point in chosen:
            there &= mask[frame, point]
        if there:
            for axis in range(3):
                for point in chosen:
                    made[count, axis] += points[frame, point, axis]
                made[count, axis] /= np.float32(len(chosen))
            count += 1
    return made[:count]


@_compiled
def distances(points, mask, a, b, axes):
    """Between the points a and b in the first `axes` coordinates, in each frame that shows both: float32 [N]."""
    made, count = np.zeros(points.shape[0], np.float32), 0
    for frame in range(points.shape[0]):
        if mask[frame, a] and mask[frame, b]:
            for axis in range(axes):
                way = points[frame, a, axis] - points[frame, b, axis]
                made[count] += way * way
            made[count] = np.sqrt(made[count])
            count += 1
    return made[:count]


@_compiled
def medians(values):
    """numpy.median over the first axis of values [N, C], N at least 1: [C]. In a fifth of its time."""
    made = np.empty(values.shape[1], values.dtype)
    for axis in range(values.shape[1]):
        made[axis] = np.median(values[:, axis])
    return made


@_compiled
def _thrice(mask, there):
    """Each value of a frame's mask [P] for the point's three coordinates, there float32 [3 P]."""
    for point in range(mask.shape[0]):
        seen = np.float32(mask[point])
        there[3 * point] = seen
        there[3 * point + 1] = seen
        there[3 * point + 2] = seen


@_compiled
def _repeated(origin, count):
    """origin [3] once for each of `count` points: float32 [3 count]."""
    row = np.empty(3 * count, np.float32)
    for point in range(count):
        row[3 * point], row[3 * point + 1], row[3 * point + 2] = origin
    return row


@_compiled
def _within(value, most, there):
    """A number, no more than `most` to either side of zero, and zero where `there` is."""
    return min(max(value, -most), most) if there > 0 else np.float32(0)


@_compiled
def place(points, mask, frames, origin, scale, farthest, made, seen):
    """Fill made float32 [F, 3 P] and seen bool [F, P] with some frames [F] of points [T, 3 P] and of their mask [T, P].

    made is (points - origin) * scale within -farthest and farthest, and zero where the mask is False. origin float32
    [3], scale and farthest float32.
    """
    there, origins = np.empty(points.shape[1], np.float32), _repeated(origin, mask.shape[1])
    for number in range(len(frames)):
        given, row = points[frames[number]], made[number]
        seen[number] = mask[frames[number]]
        _thrice(seen[number], there)
        for i in range(row.shape[0]):
            row[i] = _within((given[i] - origins[i]) * scale, farthest, there[i])


@intrinsic
def _bits(_, number):
    """The bits of a float32, as int32; a whole loop can then stay in the processor's registers."""
    return types.int32(types.float32), lambda context, builder, _, arguments: builder.bitcast(
        arguments[0], context.get_value_type(types.int32))


@intrinsic
def _number(_, bits):
    """The inverse of `_bits`."""
    return types.float32(types.int32), lambda context, builder, _, arguments: builder.bitcast(
        arguments[0], context.get_value_type(types.float32))


@_compiled
def _halved(value):
    """A float32 in half precision: adding a step leaves of its 24 bits the 11 of it, and zero keeps its sign."""
    bits = _bits(value)
    step = _number(np.int32(np.int32(max(np.int32(bits & _POWER), _HALF_POWERS)) + _HALF_STEP))
    return _number(np.int32(_bits((value + step) - step) | np.int32(bits & _SIGN)))


@_compiled
def place_and_normalise(landmarks, frames, chosen, touched, factors, largest, origin, scale, farthest, mean, std, made,
                        seen):
    """Fill made float32 [F, 3 P] and seen bool [F, P] with some frames [F] of landmarks [T, 3 P'].

    made is (what `gather`, a multiplication by factors float32 [3 P] and `place` make of them, in half precision as
    packed clips have it - mean) / std; mean, std float32 [3 P]; farthest must be small enough for half precision.
    Frame by frame, while one lies in the processor's cache.
    """
    size, total, one, zero = len(chosen), np.float32(0), np.float32(1), np.float32(0)
    row, there, origins = np.empty(size, np.float32), np.empty(size, np.float32), _repeated(origin, size // 3)
    for number in range(len(frames)):
        given, out, shown = landmarks[frames[number]], made[number], seen[number]
        for i in touched:  # as in `gather`
            total += given[i]
        for i in range(size):
            row[i] = given[chosen[i]]
        for i in range(size):
            there[i] = one if abs(row[i]) < largest else zero
        for i in range(size):
            row[i] = row[i] * factors[i] if there[i] > 0 else zero
        for point in range(size // 3):
            both = there[3 * point] * there[3 * point + 1]
            shown[point] = both > 0
            there[3 * point], there[3 * point + 1], there[3 * point + 2] = both, both, both
        for i in range(size):
            placed = _halved(_within((row[i] - origins[i]) * scale, farthest, there[i]))
            out[i] = (placed - mean[i]) / std[i] * there[i]
    return total


@_compiled
def _shown(given, point, largest):
    """Whether `gather` sees the point whose x is at `point` of a frame."""
    return (abs(given[point]) < largest) & (abs(given[point + 1]) < largest)


@_compiled
def _stretched(value, factor, largest):
    """A coordinate of a point that is seen, times a factor; depth may be missing alone, and is zero then."""
    return value * factor if abs(value) < largest else np.float32(0)


@_compiled
def usual_clip(landmarks, chosen, touched, factors, largest, hands, body, unit, flat, fewest, most, smallest, farthest,
               mean, std, made, seen):
    """All of slr_lib.clips.find_clip and `place_and_normalise` in one call, so that threads seldom wait for Python's
    lock, of a clip that shows a body and, in `fewest` frames, a hand.

    hands, body [N]: where in a frame the x of the hands' points and of the origin's are; unit: of the two points whose
    distance is the unit; flat: whether depth counts in neither; most: frames to make; smallest: unit to believe in.
    Fills the first F of made and seen, and returns the numbers int64 [F] of their frames; none of another clip.
    """
    count, middles, lengths = 0, 0, 0
    kept = np.empty(landmarks.shape[0], np.int64)
    middle, length = np.zeros((landmarks.shape[0], 3), np.float32), np.zeros(landmarks.shape[0], np.float32)
    for frame in range(landmarks.shape[0]):
        given, hand, whole = landmarks[frame], False, True
        for point in hands:
            if _shown(given, point, largest):
                hand = True
                break
        if not hand:
            continue
        kept[count] = frame
        count += 1
        for point in body:
            whole &= _shown(given, point, largest)
        if whole:
            for axis in range(3):
                for point in body:
                    middle[middles, axis] += _stretched(given[point + axis], factors[axis], largest)
                middle[middles, axis] /= np.float32(len(body))
            middles += 1
        if _shown(given, unit[0], largest) & _shown(given, unit[1], largest):
            for axis in range(2 if flat else 3):
                a, b = given[unit[0] + axis], given[unit[1] + axis]
                way = _stretched(a, factors[axis], largest) - _stretched(b, factors[axis], largest)
                length[lengths] += way * way
            length[lengths] = np.sqrt(length[lengths])
            lengths += 1
    if count < fewest or not middles or not lengths:
        return kept[:0]
    size = float(medians(length[:lengths].reshape(-1, 1))[0])
    if size <= smallest:
        return kept[:0]
    origin = medians(middle[:middles])
    if flat:
        origin[2] = 0
    frames = np.empty(min(count, most), np.int64)
    step = (count - 1) / max(len(frames) - 1, 1)
    for number in range(len(frames)):  # as slr_lib.clips.evenly
        frames[number] = kept[min(int(np.rint(number * step)), count - 1)]
    place_and_normalise(landmarks, frames, chosen, touched, factors, largest, origin, np.float32(1 / size), farthest,
                        mean, std, made, seen)
    return frames


@_compiled
def hang(points, mask, order, before, turns, made):
    """Hang the points `order` [J] anew, each on its own of `before` [J], in frames in which the mask shows them all.

    points, made float32 [B, T, P, 3], at first the same; mask bool [B, T, P]; turns float32 [B, J, 3]: what multiplies
    the way from one point to the other, cosine and sine of the turn in x and y, and a factor in z.
    """
    for clip in range(points.shape[0]):
        for frame in range(points.shape[1]):
            whole = True
            for point in order:
                whole &= mask[clip, frame, point]
            if not whole:
                continue
            old, new = points[clip, frame], made[clip, frame]
            for number in range(1, len(order)):
                a, b = before[number], order[number]
                x, y, z = old[b, 0] - old[a, 0], old[b, 1] - old[a, 1], old[b, 2] - old[a, 2]
                cosine, sine, length = turns[clip, number, 0], turns[clip, number, 1], turns[clip, number, 2]
                new[b, 0] = new[a, 0] + x * cosine - y * sine
                new[b, 1] = new[a, 1] + x * sine + y * cosine
                new[b, 2] = new[a, 2] + z * length


@_summing
def part_features(points, mask, times, members, chosen, rooted, starts, ends, unit, limit, small, made, halves,
                  present):
    """What slr_lib.geometry.PartFeatures says of one part of B clips, frame by frame in the processor's cache.

    points float32 [B, T, 3 P']; mask bool [B, T, P']; times float32 [B, T]; members [P]: the part's points; chosen
    [3 P]: its numbers among a frame's; rooted: whether the first point is its root; starts, ends [E]: of bones, where
    their x is among the chosen numbers; unit, limit, small: as there. Fills made float32 or halves uint16 (bfloat16's
    bits), both [B, T, 3 (4 P + E + 1)], and present bool [B, T]; the one of made and halves that is not wanted has
    B = 0. Places in arrays are uintp, those given too: of a signed one each use asks whether it counts from the end,
    which keeps the compiler from doing several numbers at once (a quarter of the time).

    One function with one loop for each step, which the compiler does for several numbers at once: calls and views of
    arrays took half of the time.
    """
    size, width, bones = np.uintp(len(members)), np.uintp(len(chosen)), np.uintp(len(starts))
    one, zero, first, together = np.float32(1), np.float32(0), chosen[0], True
    for i in range(width):
        together &= chosen[i] == first + i
    relative, speed, change, bone = width, _2 * width, _3 * width, _4 * width  # where they begin in a row
    share = bone + _3 * bones
    whole = share + _3
    row, old = np.zeros(whole, np.float32), np.zeros(whole, np.float32)
    seen, old_seen = np.zeros(width, np.float32), np.zeros(width, np.float32)
    moving, old_moving = np.zeros(width, np.float32), np.zeros(width, np.float32)
    scales = np.zeros(bones, np.float32)
    for clip in range(points.shape[0]):
        old[:], old_seen[:], old_moving[:] = 0, 0, 0
        for frame in range(points.shape[1]):
            number, pace = zero, zero
            for point in range(size):
                there = np.float32(mask[clip, frame, members[point]])
                number += there
                seen[_3 * point], seen[_3 * point + _1], seen[_3 * point + _2] = there, there, there
            if together:
                for i in range(width):
                    row[i] = points[clip, frame, first + i] * seen[i]
            else:
                for i in range(width):
                    row[i] = points[clip, frame, chosen[i]] * seen[i]
            if frame:
                pace = unit / max(times[clip, frame] - times[clip, frame - 1], unit / np.float32(100))
            for i in range(width):
                moving[i] = seen[i] * old_seen[i]
                row[speed + i] = min(max((row[i] - old[i]) * pace, -limit), limit) * moving[i]
            for i in range(width):
                row[change + i] = (min(max((row[speed + i] - old[speed + i]) * pace, -limit), limit)
                                   * (moving[i] * old_moving[i]))
            x, y, z, portion = row[_0], row[_1], row[_2], one / max(number, one)
            if not (rooted and seen[_0] > 0):
                x, y, z = zero, zero, zero
                for i in range(_0, width, _3):
                    x += row[i]
                    y += row[i + _1]
                    z += row[i + _2]
                x, y, z = x * portion, y * portion, z * portion
            for i in range(_0, width, _3):
                row[relative + i] = (row[i] - x) * seen[i]
                row[relative + i + _1] = (row[i + _1] - y) * seen[i]
                row[relative + i + _2] = (row[i + _2] - z) * seen[i]
            square = zero
            for i in range(width):
                square += row[relative + i] * row[relative + i]
            scale = one / max(np.sqrt(square * portion), small)
            for i in range(width):
                row[relative + i] *= scale
            for i in range(bones):
                a, b, place = starts[i], ends[i], bone + _3 * i
                x, y, z = row[b] - row[a], row[b + _1] - row[a + _1], row[b + _2] - row[a + _2]
                row[place], row[place + _1], row[place + _2] = x, y, z
                scales[i] = x * x + y * y + z * z
            for i in range(bones):
                scales[i] = one / max(np.sqrt(scales[i]), small)
            for i in range(bones):
                scale, place = scales[i] * seen[starts[i]] * seen[ends[i]], bone + _3 * i
                row[place] *= scale
                row[place + _1] *= scale
                row[place + _2] *= scale
            for i in range(share, whole):
                row[i] = number / np.float32(size)
            present[clip, frame] = number > 0
            if made.shape[0]:
                for i in range(whole):
                    made[clip, frame, i] = row[i]
            else:
                bits = row.view(np.uint32)
                for i in range(whole):  # rounded to the nearest, to even in between; there is no NaN
                    rounded = bits[i] + np.uint32(0x7FFF) + ((bits[i] >> np.uint32(16)) & np.uint32(1))
                    halves[clip, frame, i] = np.uint16(rounded >> np.uint32(16))
            row, old, seen, old_seen, moving, old_moving = old, row, old_seen, seen, old_moving, moving


def in_threads(work: Callable[[range], object], count: int, threads: int) -> None:
    """Call `work` for the numbers of `count` clips, in even shares on as many threads at most."""
    threads = min(threads, count)
    if threads < 2:
        work(range(count))
        return
    bounds = [count * number // threads for number in range(threads + 1)]
    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(work, map(range, bounds, bounds[1:])))
