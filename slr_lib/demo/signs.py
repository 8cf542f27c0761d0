"""The demo's vocabulary: made-up signs, each a choice of seven parameters, as confusable as real ones.

The parameters are those by which linguists describe signs (Stokoe 1960; Battison 1978): handshape, place, movement,
palm orientation, the use of the second hand, and mouthing. Nobody signs these: a gloss spells out its parameters in
Russian (`кулак-лоб-вниз`), so that a reader of a confusion chart sees what two confused signs differ in, and takes
none of them for a word of Russian Sign Language.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from itertools import combinations

import numpy as np

NO_EVENT = "no_event"

# value -> how the gloss names it; an empty name is the unmarked value, which the gloss leaves out
HANDSHAPES = {
    "flat": "лопатка", "fist": "кулак", "index": "палец", "spread": "пятерня", "two": "двойка", "three": "тройка",
    "thumb": "большой", "hook": "крючок", "pinch": "щепоть", "claw": "когти", "horns": "рожки", "corner": "уголок",
    "phone": "трубка",
}
PLACES = {
    "space": "перед", "forehead": "лоб", "cheek": "щека", "chin": "подбородок", "chest": "грудь",
    "shoulder": "плечо", "belly": "живот", "side": "сбоку",
}
MOVEMENTS = {
    "hold": "стоит", "down": "вниз", "out": "наружу", "forward": "вперёд", "arc": "дуга", "circle": "круг",
    "zigzag": "зигзаг", "tap": "дважды", "shake": "дрожит", "twist": "вертит", "open": "раскрыть", "close": "сжать",
}
ORIENTATIONS = {"forward": "", "inward": "ладонь_к_себе", "medial": "ладонь_вбок", "down": "ладонь_вниз",
                "up": "ладонь_вверх"}
HANDS = {"one": "", "mirror": "обе", "base": "на_ладони"}
MOUTHINGS = {"none": "", "a": "рот_а", "o": "рот_о", "pa": "рот_папа", "i": "рот_и"}
_NAMES = {"handshape": HANDSHAPES, "place": PLACES, "movement": MOVEMENTS, "orientation": ORIENTATIONS,
          "hands": HANDS, "mouthing": MOUTHINGS}


@dataclass(frozen=True)
class Sign:
    """One sign of the demo: a value per parameter, each a key of the table of that name in this module.

    Raises:
        ValueError: a value is not in its table.
    """

    handshape: str
    place: str
    movement: str
    orientation: str = "forward"
    hands: str = "one"
    mouthing: str = "none"

    def __post_init__(self):
        for field in fields(self):
            if getattr(self, field.name) not in _NAMES[field.name]:
                raise ValueError(f"{getattr(self, field.name)!r} is no {field.name}")

    @property
    def gloss(self) -> str:
        """The parameters in Russian, joined by hyphens; different signs have different glosses."""
        words = (_NAMES[field.name][getattr(self, field.name)] for field in fields(self))
        return "-".join(word for word in words if word)


# The first ten hold a minimal pair of every parameter, so that even the smallest task is confusable.
_CHOSEN = (
    Sign("flat", "forehead", "out"),
    Sign("two", "forehead", "out"),                                 # handshape
    Sign("flat", "chest", "circle", "inward"),
    Sign("flat", "belly", "circle", "inward"),                      # place
    Sign("index", "side", "down"),
    Sign("index", "side", "zigzag"),                                # movement
    Sign("spread", "space", "forward", "forward", "mirror"),
    Sign("spread", "space", "forward", "up", "mirror"),             # orientation
    Sign("fist", "shoulder", "tap", "inward", mouthing="a"),
    Sign("fist", "shoulder", "tap", "inward", mouthing="o"),        # mouthing
    Sign("corner", "chin", "twist"),
    Sign("corner", "cheek", "twist"),                               # place
    Sign("two", "space", "circle", "down", "base"),
    Sign("three", "space", "circle", "down", "base"),               # handshape
    Sign("claw", "side", "close", mouthing="pa"),
    Sign("claw", "side", "open", mouthing="pa"),                    # movement
    Sign("horns", "side", "shake"),
    Sign("horns", "side", "shake", "inward"),                       # orientation
    Sign("thumb", "chest", "arc", "inward", "mirror", "i"),
    Sign("thumb", "chest", "arc", "inward", "mirror"),              # mouthing
)


def demo_signs(count: int) -> list[Sign]:
    """The first `count` signs; the list for a larger count starts with the list for a smaller one.

    The first 20 are chosen by hand; the others are drawn from a fixed seed: every second one is new, every other one
    differs from it in one parameter.

    Raises:
        ValueError: count is negative, or more than 20,000.
    """
    if not 0 <= count <= 20_000:
        raise ValueError(f"{count} signs asked for; the demo has 0 to 20,000")
    signs = list(_CHOSEN)
    seen = {sign.gloss for sign in signs}
    rng = np.random.default_rng(20)
    while len(signs) < count:
        candidate = _neighbour(signs[-1], rng) if len(signs) % 2 else _new_sign(rng)
        if candidate.gloss not in seen and not (candidate.hands == "base" and candidate.place != "space"):
            signs.append(candidate)
            seen.add(candidate.gloss)
    return signs[:count]


def differing_parameters(a: Sign, b: Sign) -> list[str]:
    """Names of the parameters in which two signs differ."""
    return [field.name for field in fields(Sign) if getattr(a, field.name) != getattr(b, field.name)]


def minimal_pairs(signs: Sequence[Sign]) -> list[tuple[str, str, str]]:
    """All pairs of signs that differ in one parameter only: (gloss, gloss, name of the parameter), in list order."""
    pairs = []
    for a, b in combinations(signs, 2):
        parameters = differing_parameters(a, b)
        if len(parameters) == 1:
            pairs.append((a.gloss, b.gloss, parameters[0]))
    return pairs


def _new_sign(rng: np.random.Generator) -> Sign:
    hands = str(rng.choice(["one", "mirror", "base"], p=[0.6, 0.25, 0.15]))
    mouthing = "none" if rng.random() < 0.6 else str(rng.choice([key for key in MOUTHINGS if key != "none"]))
    return Sign(str(rng.choice(list(HANDSHAPES))), "space" if hands == "base" else str(rng.choice(list(PLACES))),
                str(rng.choice(list(MOVEMENTS))), str(rng.choice(list(ORIENTATIONS))), hands, mouthing)


def _neighbour(sign: Sign, rng: np.random.Generator) -> Sign:
    name = str(rng.choice(["handshape", "place", "movement", "orientation", "mouthing"]))
    others = [value for value in _NAMES[name] if value != getattr(sign, name)]
    return replace(sign, **{name: str(rng.choice(others))})
