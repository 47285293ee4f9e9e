"""From a sentence to a description of a person: a documented vocabulary, no guessing.

"a tall older woman, athletic, red jacket, grey bun" becomes the fields of ``Person``; what was not understood is told.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from posefactory_dagster.people.documents import AGES, COLOURS, HAIR_COLOURS, Person

#: Words for fields, longest first where one holds another.
GENDER = {"woman": "female", "women": "female", "female": "female", "girl": "female", "lady": "female", "man": "male", "male": "male", "boy": "male", "guy": "male", "gentleman": "male"}  # fmt: skip
AGE_WORDS = {
    "child": "child", "kid": "child", "girl": "child", "boy": "child", "teenager": "teenager", "teenage": "teenager", "teen": "teenager",
    "young": "young", "adult": "adult", "middle-aged": "middle_aged", "middle aged": "middle_aged", "older": "older", "old": "older",
    "elderly": "older", "senior": "older",
}  # fmt: skip
BUILD = {
    "slim": "slim", "thin": "slim", "slender": "slim", "lean": "slim", "average": "average", "athletic": "athletic", "muscular": "athletic",
    "fit": "athletic", "stocky": "stocky", "broad": "stocky", "heavy": "heavy", "overweight": "heavy", "plump": "heavy", "fat": "heavy",
}  # fmt: skip
ETHNICITY = {
    "african": "african", "black-skinned": "african", "asian": "asian", "caucasian": "caucasian", "european": "caucasian", "mixed": "mixed",
}  # fmt: skip
TONE = {"pale": 1.5, "fair": 2.5, "light-skinned": 2.5, "olive-skinned": 5.0, "tanned": 5.5, "brown-skinned": 7.0, "dark-skinned": 8.5}  # fmt: skip
#: Height in deviations from the mean.
HEIGHT = {"very tall": 2.0, "very short": -2.0, "tall": 1.2, "short": -1.2}
GARMENT = {
    "t-shirt": "t_shirt", "tee": "t_shirt", "tank top": "tank_top", "vest": "tank_top", "shirt": "shirt", "blouse": "shirt", "sweater": "sweater",
    "pullover": "sweater", "jumper": "sweater", "hoodie": "hoodie", "sweatshirt": "hoodie", "jacket": "jacket", "blazer": "jacket",
    "coat": "coat", "trousers": "trousers", "pants": "trousers", "chinos": "trousers", "jeans": "jeans", "leggings": "leggings",
    "shorts": "shorts", "long skirt": "long_skirt", "skirt": "skirt", "dress": "dress",
}  # fmt: skip
SHOE = {
    "sneakers": "sneakers", "trainers": "sneakers", "boots": "boots", "flats": "flats", "ballerinas": "flats", "high-tops": "high_tops",
    "high tops": "high_tops", "shoes": "shoes",
}  # fmt: skip
HAT = {"beanie": "beanie", "cap": "cap", "hat": "beanie"}
STYLE = {
    "bald": "bald", "shaved": "buzz", "buzz cut": "buzz", "buzzcut": "buzz", "crew cut": "crop", "crop": "crop", "afro": "afro",
    "curls": "afro", "bob": "bob", "bun": "bun", "ponytail": "ponytail", "wavy": "wavy", "long": "long", "short": "short",
}  # fmt: skip
PATTERN = {
    "striped": "stripes", "stripes": "stripes", "checked": "plaid", "plaid": "plaid", "tartan": "plaid", "dotted": "dots", "denim": "denim",
    "knitted": "knit", "leather": "leather", "printed": "print", "plain": "plain", "heather": "heather",
}  # fmt: skip
HAIR_WORDS = {"brunette": "brown", "blonde": "blond", "blond": "blond", "redhead": "red", "ginger": "red", "gray": "grey", "grey-haired": "grey", "white-haired": "white"}  # fmt: skip
FILLER = frozenset(
    ["a", "an", "the", "with", "and", "in", "of", "wearing", "wears", "who", "is", "has", "her", "his", "their", "aged", "years", "year", "old", "very", "hair", "haired", "eyes", "eyed", "skin", "m", "cm", "kg", "tall", "at", "about", "around", "person", "people", "someone"]
)  # fmt: skip
_NUMBERS = (
    (re.compile(r"\b(\d{1,2})[- ]?(?:years?[- ]old|years?|yo)\b"), "age", 1.0),
    (re.compile(r"\baged (\d{1,2})\b"), "age", 1.0),
    (re.compile(r"\b([12][.,]\d{1,2}) ?m\b"), "height_m", 1.0),
    (re.compile(r"\b(\d{3}) ?cm\b"), "height_m", 0.01),
    (re.compile(r"\b(\d{2,3}) ?kg\b"), "weight_kg", 1.0),
)


class DescriptionError(ValueError):
    """A sentence that describes nobody; the text says why and what would be understood."""


@dataclass(frozen=True)
class Understood:
    """What came of a sentence: the person, what was understood (field, words), and the words that were not."""

    person: Person
    understood: tuple[tuple[str, str], ...]
    not_understood: tuple[str, ...]


def parse(sentence: str, seed: int = 0) -> Understood:
    """The person that a sentence describes.

    The sentence is cut at commas and at "and" and "with"; in each part a garment, hair or eyes take the colours and patterns of that part.

    Raises:
        DescriptionError: nothing is understood, or what is understood contradicts itself.
    """
    text = " ".join(sentence.lower().split())
    fields: dict[str, Any] = {"seed": seed}
    said: list[tuple[str, str]] = []
    left = text
    for pattern, name, factor in _NUMBERS:
        if (found := pattern.search(left)) is not None:
            fields[name] = round(float(found.group(1).replace(",", ".")) * factor, 3)
            said.append((name, found.group(0)))
            left = left[: found.start()] + " " + left[found.end() :]
    unknown: list[str] = []
    for part in re.split(r",|;|\band\b|\bwith\b|\bin\b|\bwearing\b", left):
        unknown += _read_part(" ".join(part.split()), fields, said)
    if not said:
        raise DescriptionError(
            f"nothing in {sentence!r} is understood; say a gender, an age, a build, clothes or hair, for instance: "
            "a tall older woman, athletic, red jacket, grey bun"
        )
    try:
        return Understood(Person(**fields), tuple(said), tuple(unknown))
    except ValidationError as error:
        raise DescriptionError(f"{sentence!r}: {error.errors()[0]['msg']}") from error


def _read_part(part: str, fields: dict[str, Any], said: list[tuple[str, str]]) -> list[str]:
    """Take the words of one part into ``fields``; the words that were not understood are returned."""
    words = part

    def take(table: dict[str, Any]) -> tuple[str, Any] | None:
        nonlocal words
        for word in sorted(table, key=lambda w: (-len(w), w)):
            found = re.search(rf"(?<![\w-]){re.escape(word)}(?![\w-])", words)
            if found is not None:
                words = f"{words[: found.start()]} {words[found.end() :]}"
                return word, table[word]
        return None

    def put(name: str, value: Any, word: str) -> None:
        if name in fields and fields[name] != value:
            raise DescriptionError(f"{word!r} contradicts another word for {name.replace('_', ' ')} ({fields[name]}); keep one")  # fmt: skip
        fields[name] = value
        said.append((name, word))

    thing = next(((kind, found) for kind, table in (("garment", GARMENT), ("shoes", SHOE), ("hat", HAT)) if (found := take(table)) is not None), None)  # fmt: skip
    colours = {c.replace("_", " "): c for c in COLOURS} | {"gray": "grey"}
    if thing is not None:
        kind, (word, value) = thing
        colour, pattern = take(colours), take(PATTERN) if kind == "garment" else None
        made: dict[str, Any] = {"kind": value}
        made |= {"colour": colour[1]} if colour else {}
        made |= {"pattern": pattern[1]} if pattern else {}
        named = [found[0] for found in (colour, pattern) if found is not None]
        phrase = " ".join([*named, word])
        if kind == "garment":
            fields.setdefault("clothes", []).append(made)
            said.append(("clothes", phrase))
        else:
            put(kind, made, phrase)
    hairy = re.search(r"\bhair(ed)?\b", words) is not None
    hair_table = {n.replace("_", " "): n for n in HAIR_COLOURS} | HAIR_WORDS
    style_words = STYLE if hairy else {w: s for w, s in STYLE.items() if w not in ("long", "short")}
    if thing is None and ((style := take(style_words)) is not None or hairy):
        hair: dict[str, Any] = dict(fields.get("hair", {}))
        words_said = []
        if (colour := take(hair_table)) is not None:
            hair["colour"] = colour[1]
            words_said.append(colour[0])
        if style is not None:
            hair["style"] = style[1]
            words_said.append(style[0])
        if words_said:
            fields["hair"] = hair
            said.append(("hair", " ".join(words_said)))
    elif thing is None and (colour := take(HAIR_WORDS)) is not None:
        fields["hair"] = {**fields.get("hair", {}), "colour": colour[1]}
        said.append(("hair", colour[0]))
    if re.search(r"\beyes?\b|\beyed\b", words) and (eyes := take({"dark brown": "dark_brown", "brown": "brown", "hazel": "hazel", "green": "green", "blue": "blue", "grey": "grey"})):  # fmt: skip
        put("eyes", eyes[1], f"{eyes[0]} eyes")
    _read_body(take, put, fields, said)
    return [w for w in re.findall(r"[\w-]+", words) if w not in FILLER]


def _read_body(take: Any, put: Any, fields: dict[str, Any], said: list[tuple[str, str]]) -> None:
    while (gender := take(GENDER)) is not None:
        put("gender", gender[1], gender[0])
        if gender[0] in ("girl", "boy") and "age" not in fields:
            put("age", _middle("child"), gender[0])
    while (age := take(AGE_WORDS)) is not None:
        put("age", _middle(age[1]), age[0])
    for name, table in (("body_type", BUILD), ("ethnicity", ETHNICITY)):
        while (found := take(table)) is not None:
            put(name, found[1], found[0])
    while (tone := take(TONE)) is not None:
        fields["skin"] = {**fields.get("skin", {}), "tone": tone[1]}
        said.append(("skin.tone", tone[0]))
    while (height := take(HEIGHT)) is not None:
        from posefactory_dagster.people.sampling import HEIGHT_DEVIATION_M, MEAN_HEIGHT_M

        known = fields.get("gender", "female")
        metres = round(MEAN_HEIGHT_M[known] + height[1] * HEIGHT_DEVIATION_M[known], 3)
        put("height_m", metres, height[0])


def _middle(age: str) -> float:
    low, high = AGES[age]
    return (low + high) / 2
