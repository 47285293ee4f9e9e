"""Draw what a description of a person leaves open, and whole populations.

Distributions, each by the person's seed: sex even; age 18 to 80 with a peak at 30; skin tone even over the Monk scale; ancestry by
tone; heights of adults normal with the means of the United States (175.3 cm men, 161.3 cm women: C. D. Fryar et al., Anthropometric
Reference Data 2015-2018, National Center for Health Statistics, Series 3 No. 46, 2021) and deviations of 7.4 and 6.9 cm; of
children by anny's own calibration with WHO data; body mass index log-normal around 25 with a deviation of a sixth.
"""

from __future__ import annotations

import numpy as np

from posefactory_dagster.people.documents import (
    COLOURS,
    EYE_COLOURS,
    Footwear,
    Garment,
    Hair,
    Person,
    Skin,
)

MEAN_HEIGHT_M = {"male": 1.753, "female": 1.613}
HEIGHT_DEVIATION_M = {"male": 0.074, "female": 0.069}
#: Median body mass index of an adult by build, kg/m².
BMI = {"slim": 20.0, "average": 24.5, "athletic": 24.5, "stocky": 28.5, "heavy": 33.0}
ADULT = 18.0
#: Dark and muted colours for what is worn below and over, any for the rest.
_MUTED = ("black", "grey", "charcoal", "navy", "blue", "olive", "brown", "beige", "tan", "khaki", "burgundy", "green")  # fmt: skip


def population(count: int, seed: int, first: int = 0) -> list[Person]:
    """``count`` people drawn from the stated distributions; the same for the same seed, whatever their number."""
    return [Person(seed=_seed(seed, first + number)) for number in range(count)]


def _seed(seed: int, number: int) -> int:
    return int(np.random.SeedSequence([seed, number]).generate_state(1)[0] % 2**31)


def complete(person: Person) -> Person:
    """The person with everything drawn that a description leaves open, save what only the body model knows."""
    chance = np.random.default_rng([person.seed, 1])
    gender = person.gender or str(chance.choice(("female", "male")))
    age = person.age if person.age is not None else round(float(chance.triangular(18, 30, 80)), 1)
    build = person.body_type or str(chance.choice(tuple(BMI), p=(0.2, 0.35, 0.2, 0.13, 0.12)))
    tone, ethnicity = _skin_tone(person, chance)
    height, weight = _size(person, gender, age, build, chance)
    older = float(np.clip((age - 35) / 40, 0, 1))
    skin = Skin(
        tone=tone,
        freckles=_or(person.skin.freckles, _freckles(tone, chance)),
        ruddiness=_or(person.skin.ruddiness, float(chance.uniform(0.1, 0.8))),
        stubble=_or(person.skin.stubble, float(chance.choice((0.0, 0.3, 0.7, 1.0), p=(0.5, 0.2, 0.2, 0.1))) if gender == "male" and age >= 18 else 0.0),
        lipstick=_or(person.skin.lipstick, float(chance.uniform(0.3, 0.9)) if gender == "female" and age >= 18 and chance.random() < 0.4 else 0.0),
    )  # fmt: skip
    return person.model_copy(
        update={
            "gender": gender, "age": age, "body_type": build, "ethnicity": ethnicity, "height_m": height, "weight_kg": weight,
            "skin": skin, "hair": _hair(person, gender, tone, older, chance), "eyes": person.eyes or _eyes(tone, chance),
            "clothes": _clothes(person, gender, chance), "shoes": _shoes(person, gender, chance),
        }
    )  # fmt: skip


def _or(given: float | None, drawn: float) -> float:
    return round(drawn, 3) if given is None else given


def _skin_tone(person: Person, chance: np.random.Generator) -> tuple[float, str]:
    bands = {"african": (6.5, 10.0), "asian": (2.5, 6.5), "caucasian": (1.0, 5.0), "mixed": (3.0, 8.5)}  # fmt: skip
    tone, ethnicity = person.skin.tone, person.ethnicity
    drawn = float(chance.uniform(1, 10))
    pick = chance.random()
    if tone is None:
        low, high = bands[ethnicity] if ethnicity else (1.0, 10.0)
        tone = low + (drawn - 1) / 9 * (high - low)
    if ethnicity is None:
        fitting = [name for name, (low, high) in bands.items() if low <= tone <= high]
        ethnicity = fitting[int(pick * len(fitting))]
    return round(tone, 2), ethnicity


def _size(
    person: Person, gender: str, age: float, build: str, chance: np.random.Generator
) -> tuple[float | None, float | None]:
    z, spread = float(np.clip(chance.normal(), -2.4, 2.4)), float(np.clip(chance.normal(), -2, 2))
    if age < ADULT:
        return person.height_m, person.weight_kg
    height = person.height_m
    if height is None and "height" not in person.phenotypes:
        # People shrink by about 1 cm in ten years after 50 (J. D. Sorkin et al., American Journal of Epidemiology, 1999).
        height = round(MEAN_HEIGHT_M[gender] + z * HEIGHT_DEVIATION_M[gender] - 0.001 * max(age - 50, 0), 3)  # fmt: skip
    weight = person.weight_kg
    if weight is None and height is not None and "weight" not in person.phenotypes:
        weight = round(BMI[build] * float(np.exp(0.06 * spread)) * height**2, 1)
    return height, weight


def _freckles(tone: float, chance: np.random.Generator) -> float:
    return float(chance.uniform(0.2, 1.0)) if tone < 4.5 and chance.random() < 0.25 else 0.0


def _eyes(tone: float, chance: np.random.Generator) -> str:
    light = float(np.interp(tone, (1, 5, 6), (0.75, 0.3, 0.0)))
    if chance.random() < light:
        return str(chance.choice(EYE_COLOURS[2:]))
    return str(chance.choice(EYE_COLOURS[:2]))


def _hair(
    person: Person, gender: str, tone: float, older: float, chance: np.random.Generator
) -> Hair:
    given = person.hair
    styles = {
        "female": (("short", "crop", "afro", "bob", "long", "wavy", "bun", "ponytail", "buzz"), (0.06, 0.04, 0.08, 0.2, 0.2, 0.16, 0.12, 0.13, 0.01)),
        "male": (("bald", "buzz", "short", "crop", "afro", "wavy", "bun"), (0.10, 0.17, 0.38, 0.22, 0.07, 0.03, 0.03)),
    }[gender]  # fmt: skip
    style = given.style
    if style is None and given.piece is None:
        weights = np.array(styles[1])
        # Tight curls go with dark skin more often than not.
        factor = np.array([(0.2 if tone < 6 else 3.0) if n == "afro" else 1.0 for n in styles[0]])
        if person.hat is not None:
            factor *= [n not in ("afro", "bun") for n in styles[0]]
        weights = weights * factor
        style = str(chance.choice(styles[0], p=weights / weights.sum()))
    colour = given.colour
    if colour is None:
        fair = float(np.interp(tone, (1, 4, 5.5), (0.65, 0.35, 0.02)))
        names = ("light_brown", "blond", "red", "brown") if chance.random() < fair else ("black", "dark_brown", "black", "brown")  # fmt: skip
        colour = str(chance.choice(names, p=(0.35, 0.35, 0.1, 0.2)))
        if older > 0.9 and chance.random() < 0.5:
            colour = "white"
    grey = _or(given.grey, older**1.5 * float(chance.uniform(0.2, 1.0)))
    return Hair(style=style, piece=given.piece, colour=colour, grey=grey)


def _garment(kind: str, chance: np.random.Generator) -> Garment:
    patterns = {
        "t_shirt": ("plain", "stripes", "print", "heather"), "tank_top": ("plain", "stripes"), "shirt": ("plain", "plaid", "stripes", "dots"),
        "sweater": ("knit", "heather", "stripes"), "hoodie": ("heather", "plain"), "jacket": ("denim", "leather", "plain"),
        "coat": ("plain", "heather"), "trousers": ("plain", "heather"), "jeans": ("denim",), "leggings": ("plain",),
        "shorts": ("plain", "denim"), "skirt": ("plain", "plaid", "denim", "dots"), "long_skirt": ("plain", "print"),
        "dress": ("plain", "print", "dots", "stripes"),
    }[kind]  # fmt: skip
    muted = kind in ("jacket", "coat", "trousers", "leggings", "shorts")
    colour = "navy" if kind == "jeans" and chance.random() < 0.5 else str(chance.choice(("navy", "blue", "charcoal", "black", "light_blue") if kind == "jeans" else _MUTED if muted else COLOURS))  # fmt: skip
    second = str(chance.choice([c for c in COLOURS if c != colour]))
    return Garment(
        kind=kind, pattern=str(chance.choice(patterns)), colour=colour, second_colour=second
    )  # type: ignore[arg-type]


def _clothes(person: Person, gender: str, chance: np.random.Generator) -> list[Garment]:
    given = list(person.clothes or ())
    kinds = {g.kind for g in given}
    wardrobe = any(g.piece for g in given)
    worn = []
    female = gender == "female"
    has_above = kinds & {"t_shirt", "tank_top", "shirt", "sweater", "hoodie", "dress"}
    has_below = kinds & {"trousers", "jeans", "leggings", "shorts", "skirt", "long_skirt"}
    if not wardrobe and not has_above:
        if female and not has_below and not person.clothes and chance.random() < 0.2:
            worn.append(_garment("dress", chance))
        else:
            names = ("t_shirt", "shirt", "sweater", "hoodie", "tank_top")
            worn.append(
                _garment(str(chance.choice(names, p=(0.36, 0.24, 0.18, 0.17, 0.05))), chance)
            )
    whole = "dress" in kinds or any(g.kind == "dress" for g in worn)
    if not wardrobe and not has_below and not whole:
        shares = (0.4, 0.32, 0.14, 0.06, 0.06, 0.02) if female else (0.45, 0.38, 0.17, 0, 0, 0)
        below = ("jeans", "trousers", "shorts", "leggings", "skirt", "long_skirt")
        worn.append(_garment(str(chance.choice(below, p=shares)), chance))
    if person.clothes is None and not whole and chance.random() < 0.18:
        worn.append(_garment(str(chance.choice(("jacket", "coat"), p=(0.7, 0.3))), chance))
    return [*(_filled(g, chance) for g in given), *worn]


def _filled(garment: Garment, chance: np.random.Generator) -> Garment:
    if garment.kind is None:
        return garment
    drawn = _garment(garment.kind, chance)
    return Garment(
        kind=garment.kind, pattern=garment.pattern or drawn.pattern, colour=garment.colour or drawn.colour,
        second_colour=garment.second_colour or drawn.second_colour,
    )  # fmt: skip


def _shoes(person: Person, gender: str, chance: np.random.Generator) -> Footwear:
    kinds, shares = (("sneakers", "shoes", "boots", "high_tops"), (0.45, 0.25, 0.15, 0.15)) if gender == "male" else (("sneakers", "shoes", "boots", "flats", "high_tops"), (0.4, 0.12, 0.18, 0.2, 0.1))  # fmt: skip
    kind, colour = str(chance.choice(kinds, p=shares)), str(chance.choice(("white", "black", "brown", "grey", "navy", "red", "tan")))  # fmt: skip
    given = person.shoes or Footwear()
    return Footwear(
        kind=given.kind or (None if given.piece else kind),
        piece=given.piece,
        colour=given.colour or colour,
    )  # type: ignore[arg-type]
