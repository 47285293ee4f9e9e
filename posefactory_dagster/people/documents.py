"""What the room `people` says to others: the description of a person, the asset, and the names of its set's files."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from posefactory_dagster.storage import layout
from posefactory_dagster.storage.store import Store

#: The asset whose sets hold built people, and the partition set of the same name.
ASSET = PARTITIONS = "person"
#: A set's files: the model, its description with everything drawn, and a picture.
MODEL, DESCRIPTION = "person.glb", "person.yaml"

GARMENTS_ABOVE = ("t_shirt", "tank_top", "shirt", "sweater", "hoodie")
GARMENTS_OVER = ("jacket", "coat")
GARMENTS_BELOW = ("trousers", "jeans", "leggings", "shorts", "skirt", "long_skirt")
GARMENTS_WHOLE = ("dress",)
GARMENTS = (*GARMENTS_ABOVE, *GARMENTS_OVER, *GARMENTS_BELOW, *GARMENTS_WHOLE)
SHOES = ("sneakers", "shoes", "boots", "flats", "high_tops")
HATS = ("beanie", "cap")
HAIR_STYLES = ("bald", "buzz", "short", "crop", "afro", "bob", "long", "wavy", "bun", "ponytail")
HAIR_COLOURS = ("black", "dark_brown", "brown", "light_brown", "blond", "red", "grey", "white")
EYE_COLOURS = ("dark_brown", "brown", "hazel", "green", "blue", "grey")
PATTERNS = ("plain", "heather", "stripes", "plaid", "denim", "knit", "dots", "print", "leather")
COLOURS = (
    "white", "black", "grey", "charcoal", "navy", "blue", "light_blue", "teal", "green", "olive", "yellow", "orange", "red",
    "burgundy", "pink", "purple", "brown", "beige", "tan", "khaki",
)  # fmt: skip
BODY_TYPES = ("slim", "average", "athletic", "stocky", "heavy")
ETHNICITIES = ("african", "asian", "caucasian", "mixed")
#: Years that words for an age stand for, when only the word is known: least and greatest.
AGES = {
    "child": (6, 11), "teenager": (13, 17), "young": (18, 30), "adult": (25, 50), "middle_aged": (42, 58), "older": (62, 80),
}  # fmt: skip

Share = Annotated[float, Field(ge=0.0, le=1.0)]
_MODEL = ConfigDict(extra="forbid", frozen=True)


class Garment(BaseModel):
    """One garment. ``kind``: one of ours, or ``piece`` of the wardrobe by its name; pattern and colours are drawn where absent."""

    model_config = _MODEL

    kind: Literal[GARMENTS] | None = None  # type: ignore[valid-type]
    piece: str | None = Field(default=None, max_length=80)
    pattern: Literal[PATTERNS] | None = None  # type: ignore[valid-type]
    colour: Literal[COLOURS] | None = None  # type: ignore[valid-type]
    second_colour: Literal[COLOURS] | None = None  # type: ignore[valid-type]

    @model_validator(mode="after")
    def _one_of_two(self) -> Garment:
        if (self.kind is None) == (self.piece is None):
            raise ValueError("name a kind, or a piece of the wardrobe, and not both")
        return self


class Footwear(BaseModel):
    """A pair of shoes."""

    model_config = _MODEL

    kind: Literal[SHOES] | None = None  # type: ignore[valid-type]
    piece: str | None = Field(default=None, max_length=80)
    colour: Literal[COLOURS] | None = None  # type: ignore[valid-type]


class Hat(BaseModel):
    """A hat."""

    model_config = _MODEL

    kind: Literal[HATS]  # type: ignore[valid-type]
    colour: Literal[COLOURS] | None = None  # type: ignore[valid-type]


class Skin(BaseModel):
    """``tone`` on the Monk scale, 1 light to 10 dark; ``freckles``, ``ruddiness``, ``stubble``, ``lipstick`` 0 to 1."""

    model_config = _MODEL

    tone: Annotated[float, Field(ge=1.0, le=10.0)] | None = None
    freckles: Share | None = None
    ruddiness: Share | None = None
    stubble: Share | None = None
    lipstick: Share | None = None


class Hair(BaseModel):
    """``style`` and ``colour`` by name; ``grey``: share of grey strands; or a ``piece`` of the wardrobe."""

    model_config = _MODEL

    style: Literal[HAIR_STYLES] | None = None  # type: ignore[valid-type]
    piece: str | None = Field(default=None, max_length=80)
    colour: Literal[HAIR_COLOURS] | None = None  # type: ignore[valid-type]
    grey: Share | None = None


class Person(BaseModel):
    """A person; what is absent is drawn by the seed.

    Attributes:
        gender: female or male. age: years, 4 to 90. body_type, ethnicity: the original system's words.
        height_m: 1.0 to 2.15. weight_kg: 15 to 180. phenotypes: the body model's own parameters, 0 to 1.
        clothes: one above and one below, or a dress, and perhaps one over them. seed: of all that is drawn.
    """

    model_config = _MODEL

    gender: Literal["female", "male"] | None = None
    age: Annotated[float, Field(ge=4, le=90)] | None = None
    body_type: Literal[BODY_TYPES] | None = None  # type: ignore[valid-type]
    ethnicity: Literal[ETHNICITIES] | None = None  # type: ignore[valid-type]
    height_m: Annotated[float, Field(ge=0.95, le=2.15)] | None = None
    weight_kg: Annotated[float, Field(ge=13, le=180)] | None = None
    phenotypes: dict[
        Literal["muscle", "weight", "height", "proportions", "cupsize", "firmness", "african", "asian", "caucasian"], Share
    ] = {}  # fmt: skip
    skin: Skin = Skin()
    hair: Hair = Hair()
    eyes: Literal[EYE_COLOURS] | None = None  # type: ignore[valid-type]
    clothes: list[Garment] | None = Field(default=None, max_length=6)
    shoes: Footwear | None = None
    hat: Hat | None = None
    seed: Annotated[int, Field(ge=0, lt=2**31)] = 0

    @model_validator(mode="after")
    def _no_contradiction(self) -> Person:
        if self.height_m is not None and "height" in self.phenotypes:
            raise ValueError("height_m and phenotypes.height contradict each other; keep one")
        if self.weight_kg is not None and "weight" in self.phenotypes:
            raise ValueError("weight_kg and phenotypes.weight contradict each other; keep one")
        if self.height_m and self.weight_kg:
            bmi = self.weight_kg / self.height_m**2
            if not 11 <= bmi <= 55:
                raise ValueError(f"{self.weight_kg:g} kg at {self.height_m:g} m is a body mass index of {bmi:.0f}; bodies reach 11 to 55")  # fmt: skip
        kinds = [g.kind for g in self.clothes or () if g.kind]
        above = [k for k in kinds if k in (*GARMENTS_ABOVE, *GARMENTS_WHOLE)]
        below = [k for k in kinds if k in GARMENTS_BELOW]
        over = [k for k in kinds if k in GARMENTS_OVER]
        for worn, what in ((above, "above"), (below, "below"), (over, "over the others")):
            if len(worn) > 1:
                raise ValueError(f"{' and '.join(worn)} cannot both be worn {what}; keep one")
        if "dress" in kinds and below and below != ["leggings"]:
            raise ValueError(f"a dress and {below[0]} cannot be worn together; keep one")
        if self.hat is not None and self.hair.style in ("afro", "bun"):
            raise ValueError(f"a {self.hat.kind} does not fit over hair of the style {self.hair.style}; choose another")  # fmt: skip
        if self.age is not None and self.age < 15 and (self.skin.stubble or 0) > 0:
            raise ValueError(f"stubble at the age of {self.age:g}; leave one of them out")
        return self


class PersonFacts(BaseModel):
    """The numbers of a built person. ``height_m`` barefoot, ``mass_kg`` by volume; ``licences`` of the pieces worn."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    height_m: float
    mass_kg: float
    age: float
    gender: str
    skin_tone: float
    triangles: int
    seconds: float
    licences: dict[str, str] = {}
    attribution: list[str] = []


FACTS = {ASSET: PersonFacts}


class PersonError(ValueError):
    """A description of a person that cannot be read or contradicts itself; the text says what to do."""


def described(values: object, name: str) -> Person:
    """A description from plain values.

    Raises:
        PersonError: a field is unknown, out of range, or contradicts another.
    """
    if not isinstance(values, dict):
        raise PersonError(f"{name}: no description of a person; it has fields like gender, age and clothes")  # fmt: skip
    try:
        return Person.model_validate(values)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        place = ".".join(map(str, first["loc"])) or "the description"
        said = str(first["msg"]).removeprefix("Value error, ")
        raise PersonError(f"{name}: {place}: {said}; mend it") from None


def read_person(store: Store, key: str) -> Person | None:
    """The description of a key; None if there is none.

    Raises:
        PersonError: what is there is no description.
    """
    data = store.get_bytes(layout.person_record(key)) if layout.is_part(key) else None
    if data is None:
        return None
    try:
        return Person.model_validate_json(data)
    except ValidationError as error:
        raise PersonError(f"{key}: its description cannot be read ({error.error_count()} faults); add the person again") from error  # fmt: skip


def write_person(store: Store, key: str, person: Person) -> None:
    """Keep the description of a key."""
    store.put_bytes(layout.person_record(key), person.model_dump_json(exclude_none=True).encode())
