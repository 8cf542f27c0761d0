"""Which clips train, validate and test: the data set's own split, a validation part carved from it by signer, folds."""

from __future__ import annotations

import numpy as np
import pandas as pd

from slr_lib.annotations import FOLDS
from slr_lib.data_sets import LEAVE_ONE_SIGNER_OUT, OFFICIAL, STRATIFIED, DataSet, TestSigners
from slr_lib.errors import InputError
from slr_lib.index import known_signers

TRAIN, VAL, TEST, UNUSED = "train", "val", "test", ""

# against one for the share of signs that validation lacks; on Slovo 18 % of the clips and 96 % of the signs come out
_SHARE_WEIGHT = 0.3
_SWAPS = 8  # signers tried for removal in a step


def folds(data_set: DataSet, index: pd.DataFrame) -> list[str]:
    """Names of the folds, "0", "1", ...: one, one for every signer (sorted) to hold out, or 5 of a stratified split."""
    if data_set.split == LEAVE_ONE_SIGNER_OUT:
        return [str(number) for number in range(len(known_signers(index)))]
    return [str(number) for number in range(FOLDS if data_set.split == STRATIFIED else 1)]


def held_out_signer(data_set: DataSet, index: pd.DataFrame, fold: str) -> str | None:
    """The signer whom a fold of leave_one_signer_out tests (the fold's number in the sorted list); else None.

    Raises:
        InputError: there is no such fold.
    """
    names = folds(data_set, index)
    if fold not in names:
        raise InputError(f"data set {data_set.name} has no fold {fold}; choose one of {', '.join(names)}.")
    return known_signers(index)[int(fold)] if data_set.split == LEAVE_ONE_SIGNER_OUT else None


def assign_parts(
    index: pd.DataFrame, data_set: DataSet, fold: str = "0", validation_share: float = 0.15, seed: int = 0
) -> pd.Series:
    """Part of every clip of the index: train, val, test or '' (unused). Deterministic, whatever the order of the rows.

    Validation is the set's own where it brings one; another fifth of a stratified split; else carved from the
    training clips by signer (`carve_signers`), or by clip where no signer is known. It never takes a sign's last
    training clip. Copies of a clip stay on one side: a training or validation clip is left unused where the table
    says that it repeats a test clip, a validation clip where it repeats a training clip. An official split's validation
    and test clips are taken as they are, and its training clips left unused that repeat one of them: under another
    gloss a copy teaches the wrong answer, under the same one it gives the answer away.

    Raises:
        InputError: no such fold, or a share that is not between 0 and 0.5.
    """
    if not 0 <= validation_share <= 0.5:
        raise InputError(f"validation_share is {validation_share}; it must lie between 0 and 0.5.")
    held_out = held_out_signer(data_set, index, fold)
    if data_set.split == STRATIFIED:
        return _stratified(index, int(fold), seed)
    if data_set.split == OFFICIAL:
        parts = index["split"].astype(object).copy()
        parts[_repeats(index, parts, (TRAIN,), (VAL, TEST))] = UNUSED
    else:
        tested = data_set.split.test_signers if isinstance(data_set.split, TestSigners) else [held_out]
        parts = pd.Series(np.where(index["signer"].isin(tested), TEST, TRAIN), index=index.index, dtype=object)
        parts[_repeats(index, parts, (TRAIN, VAL), (TEST,))] = UNUSED
    if data_set.split == OFFICIAL and (parts == VAL).any():
        return parts
    training = index[parts == TRAIN]
    if (training["signer"] == "").all():
        parts[_carve_clips(training, validation_share, seed)] = VAL
    else:
        taken = carve_signers(training, validation_share, seed)
        parts[(parts == TRAIN) & index["signer"].isin(taken)] = VAL
    parts[_repeats(index, parts, (VAL,), (TRAIN,))] = UNUSED
    return parts


def carve_signers(training: pd.DataFrame, share: float, seed: int = 0) -> list[str]:
    """Signers to validate on: about `share` of the clips, as many signs as possible both in them and in the rest.

    Signers differ wildly in size, so the set is searched for: a signer is added, removed or exchanged for as long as
    that lowers (share of the signs that validation lacks) + 0.3 (relative deviation from `share`)^2 + (share of the
    clips that leave a sign with less than half of its own). No sign ever loses its last training clip, and at most
    half of the clips are taken.

    Returns:
        The signers, sorted; none where every choice would take some sign's only training clips, where most signs
        have a single signer (one-shot sets), or where less than a third of the share can be had.
    """
    known = training[training["signer"] != ""]
    glosses = sorted(set(training["gloss"]))
    table = pd.crosstab(known["signer"], known["gloss"]).reindex(columns=glosses, fill_value=0).sort_index()
    total = training["gloss"].value_counts().reindex(glosses).to_numpy()
    counts = table.to_numpy()  # [signers, signs]
    if share == 0 or 2 * one_signer_signs(training) > len(glosses):
        return []
    order = np.random.default_rng(seed).permutation(len(counts))
    taken = _search(counts[order], total, share * len(training), np.random.default_rng(seed))
    signers = sorted(table.index[order[taken]])
    return signers if 3 * known["signer"].isin(signers).sum() >= share * len(training) else []


def one_signer_signs(training: pd.DataFrame) -> int:
    """How many signs have the clips of one signer only, and so cannot be in two signer-disjoint parts."""
    signers = training["signer"].where(training["signer"] != "", "unknown")
    return int((signers.groupby(training["gloss"]).nunique() == 1).sum())


def unseen_signers(index: pd.DataFrame, parts: pd.Series) -> np.ndarray | None:
    """[clips] bool: a test clip of a signer who is in neither train nor val; official splits may well mix signers.

    None where that cannot be told: no test clip names its signer, or more than 1 % of the other clips do not.
    """
    signers = index["signer"].to_numpy(dtype=object)
    seen, test = parts.isin([TRAIN, VAL]).to_numpy(), (parts == TEST).to_numpy()
    if not (signers[test] != "").any() or (seen.any() and (signers[seen] == "").mean() > 0.01):
        return None
    return test & (signers != "") & ~np.isin(signers, sorted(set(signers[seen])))


def describe_parts(index: pd.DataFrame, data_set: DataSet, fold: str, parts: pd.Series) -> dict:
    """What a split gives and where it falls short: clips, signs and signers by part, missing signs by name, copies.

    `validation` says in words where the validation clips come from, or why there are none; `unseen_test_clips` is
    None where signers are unknown; `test_clips_that_repeat_train_or_val` counts the copies under the same gloss.
    """
    glosses = sorted(set(index["gloss"][parts != UNUSED]))
    sides = {part: index[parts == part] for part in (TRAIN, VAL, TEST)}
    unseen = unseen_signers(index, parts)
    signers = {part: known_signers(rows) for part, rows in sides.items()}
    train_and_val = len(sides[TRAIN]) + len(sides[VAL])
    return {
        "fold": fold,
        "held_out_signer": held_out_signer(data_set, index, fold),
        "clips": {part: len(rows) for part, rows in sides.items()},
        "unused_clips": int((parts == UNUSED).sum()),
        "signs": {part: int(rows["gloss"].nunique()) for part, rows in sides.items()},
        "signers": {part: len(names) for part, names in signers.items()},
        "missing_signs": {part: sorted(set(glosses) - set(rows["gloss"])) for part, rows in sides.items()},
        "validation": _say_validation(index, data_set, parts),
        "validation_share": round(len(sides[VAL]) / train_and_val, 4) if train_and_val else 0.0,
        "validation_signers": signers[VAL],
        "signers_in_train_and_val": len(set(signers[TRAIN]) & set(signers[VAL])),
        "signers_in_train_and_test": len(set(signers[TRAIN]) & set(signers[TEST])),
        "test_clips_of_seen_signers": None if unseen is None else int((parts == TEST).sum() - unseen.sum()),
        "unseen_test_clips": None if unseen is None else int(unseen.sum()),
        "test_clips_that_repeat_train_or_val": int(_repeats(_by_sign(index), parts, (TEST,), (TRAIN, VAL)).sum()),
    }


def _say_validation(index: pd.DataFrame, data_set: DataSet, parts: pd.Series) -> str:
    training = index[parts == TRAIN]
    if data_set.split == STRATIFIED:
        return "signers unknown: another fifth of the clips, stratified by sign; signers may be on both sides"
    if (parts == VAL).any():
        if data_set.split == OFFICIAL and (index["split"] == VAL).any():
            return "the data set's own validation split"
        if (index["signer"][parts.isin([TRAIN, VAL])] == "").all():
            return "signers unknown: carved from the training clips by clip"
        return "carved from the training clips by signer"
    alone = one_signer_signs(training)
    if 2 * alone > training["gloss"].nunique():
        return (
            f"none: {alone} of {training['gloss'].nunique()} signs have training clips of one signer only, whom "
            "validation would take away"
        )
    return "none: no choice of signers leaves every sign a training clip and yields enough for validation"


def _search(counts: np.ndarray, total: np.ndarray, target: float, rng: np.random.Generator) -> np.ndarray:
    """Local search over sets of signers; counts [signers, signs], total [signs] -> bool [signers]."""
    clips = total.sum()

    def cost(sums: np.ndarray) -> np.ndarray:  # [..., signs] clips in validation -> [...]
        size = sums.sum(-1)
        starved = np.maximum(0, sums - total / 2).sum(-1) / clips
        value = (sums == 0).mean(-1) + _SHARE_WEIGHT * (size / target - 1) ** 2 + starved
        return np.where((sums >= total).any(-1) | (size > clips / 2), np.inf, value)

    taken = np.zeros(len(counts), bool)
    sums = np.zeros_like(total)
    best = float(cost(sums))
    while True:
        inside = np.flatnonzero(taken)
        removals = rng.permutation(inside)[:_SWAPS]
        outside = np.flatnonzero(~taken)
        steps = []  # (cost, signer to remove or -1, signer to add or -1)
        for remove in (-1, *removals):
            base = sums - counts[remove] if remove >= 0 else sums
            if remove >= 0:
                steps.append((float(cost(base)), int(remove), -1))
            if len(outside):
                costs = cost(base + counts[outside])
                steps.append((float(costs.min()), int(remove), int(outside[costs.argmin()])))
        value, remove, add = min(steps)
        if value >= best - 1e-9:  # each step lowers the cost, so the search ends
            return taken
        best = value
        for signer, state in ((remove, False), (add, True)):
            if signer >= 0:
                taken[signer] = state
                sums = sums + counts[signer] if state else sums - counts[signer]


def _carve_clips(training: pd.DataFrame, share: float, seed: int) -> pd.Index:
    """Rows to validate on where signers are unknown: `share` of each sign's clips, copies together, never all."""
    rows = []
    for clips in _shuffled_groups(training, seed).values():
        wanted, left = share * sum(map(len, clips)), len(clips) - 1
        taken: list = []
        for group in clips[:left]:
            if len(taken) + len(group) / 2 > wanted:
                break
            taken += group
        rows += taken
    return pd.Index(rows)


def _stratified(index: pd.DataFrame, fold: int, seed: int) -> pd.Series:
    parts = pd.Series(TRAIN, index=index.index, dtype=object)
    start = 0
    for groups in _shuffled_groups(index, seed).values():
        places = [(start + number) % FOLDS for number in range(len(groups))]
        start += len(groups)  # else the first folds would get every sign's odd clip
        validated = [group for group, place in zip(groups, places) if place == (fold + 1) % FOLDS]
        tested = [group for group, place in zip(groups, places) if place == fold]
        for group in tested:
            parts[group] = TEST
        if len(tested) + len(validated) < len(groups):  # else validation would take the last training clips
            for group in validated:
                parts[group] = VAL
    parts[_repeats(index, parts, (TRAIN, VAL), (TEST,))] = UNUSED  # copies under another gloss
    parts[_repeats(index, parts, (VAL,), (TRAIN,))] = UNUSED
    return parts


def _shuffled_groups(index: pd.DataFrame, seed: int) -> dict[str, list[list]]:
    """By gloss, its clips (as labels of rows) in groups that must stay together, in a seeded order."""
    rng = np.random.default_rng(seed)
    copies, clips = index["duplicates"].astype(str), index["clip"].astype(str)
    groups = np.where(copies != "", "of " + copies, "=" + clips)
    table = pd.DataFrame({"gloss": index["gloss"], "group": groups, "clip": index["clip"]}, index=index.index)
    table = table.sort_values(["gloss", "group", "clip"])
    result = {}
    for gloss, rows in table.groupby("gloss", sort=True):
        together = [list(labels.index) for _, labels in rows.groupby("group", sort=True)]
        result[gloss] = [together[place] for place in rng.permutation(len(together))]
    return result


def _by_sign(index: pd.DataFrame) -> pd.DataFrame:
    # the same picture under two glosses inflates no score
    copies = index["duplicates"].astype(str)
    return index.assign(duplicates=copies.where(copies == "", copies + " " + index["gloss"].astype(str)))


def _repeats(index: pd.DataFrame, parts: pd.Series, these: tuple[str, ...], those: tuple[str, ...]) -> pd.Series:
    """[clips] bool: the clip is in one of `these` parts, and a copy of it in one of `those`."""
    groups = set(index["duplicates"][parts.isin(those)]) - {""}
    return parts.isin(these) & index["duplicates"].isin(groups)
