"""What the room `variants` says to others: styles, how variants are to look; and records, how each came about and stands."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, ClassVar

import yaml
from pydantic import BaseModel, ConfigDict, Field, SerializeAsAny, ValidationError, field_validator

from blender_scripts.contract import SettingsError
from posefactory_dagster.review.documents import Image, Record, Reviewed, Verdict
from posefactory_dagster.settings import ASSETS_DATA
from posefactory_dagster.storage.sets import CommittedSet, identity_of
from posefactory_dagster.variants.providers import PROVIDERS, Fraction, Options, Provider

#: The asset whose sets hold variants, and the file of these sets with their records.
ASSET = "enhanced_variants"
RECORDS = "variants.json"
#: By how much of its number a variant may be called, so that a short word is not taken for one.
LEAST_LETTERS = 6
FOLDER = ASSETS_DATA / "styles"
_NAME = re.compile(r"[a-zA-Z0-9_-]{1,64}")


class Style(BaseModel):
    """One look. ``count`` variants are made of each image; ``strength`` is how far an image may go from the render,
    ``control`` how tightly it is held to the pose; both 0 to 1.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    description: str = ""
    provider: str
    model: str
    prompt: Annotated[str, Field(max_length=10_000)] = ""
    negative_prompt: Annotated[str, Field(max_length=10_000)] = ""
    strength: Fraction = 0.5
    control: Fraction = 0.7
    steps: Annotated[int, Field(ge=1, le=150)] = 30
    seed: Annotated[int, Field(ge=0, le=2**32 - 2)] = 0
    count: Annotated[int, Field(ge=1, le=16)] = 1
    options: SerializeAsAny[Options]

    @field_validator("provider")
    @classmethod
    def _known(cls, value: str) -> str:
        if value not in PROVIDERS:
            raise ValueError(f"choose one of {', '.join(PROVIDERS)}")
        return value

    @property
    def made_by(self) -> type[Provider]:
        """The provider of the style."""
        return PROVIDERS[self.provider]

    @property
    def content(self) -> dict[str, Any]:
        """What shapes the images: all but the name, the description and how many there are."""
        return self.model_dump(mode="json", exclude={"name", "description", "count"})

    @property
    def fingerprint(self) -> str:
        """The digest of ``content``."""
        return identity_of("style", {}, self.content)

    def parameters(self, variant: str) -> Parameters:
        """What the first attempt at a variant is made with: the style's values, and a seed of the variant's own."""
        return Parameters(
            prompt=self.prompt,
            negative_prompt=self.negative_prompt,
            strength=self.strength,
            control=self.control,
            seed=(self.seed + int(variant[:8], 16)) % (2**32 - 2) + 1,  # 0 means random to some
        )


def style_names() -> list[str]:
    """The names of all styles."""
    return sorted(p.stem for p in FOLDER.glob("*.yaml"))


def read_style(name: str) -> Style:
    """The style in ``assets_data/styles/<name>.yaml``.

    Raises:
        SettingsError: there is none of that name, or it is not one; the text names the file and the fault.
    """
    if not _NAME.fullmatch(name) or not (FOLDER / f"{name}.yaml").is_file():
        raise SettingsError(f"style {name!r}: choose from {', '.join(style_names())}")
    return parse_style(FOLDER / f"{name}.yaml")


def parse_style(path: Path) -> Style:
    """The style in a file.

    Raises:
        SettingsError: it is not one; the text names the file and the fault.
    """
    try:
        values = yaml.safe_load(path.read_text("utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise SettingsError(f"{path.name}: not YAML: {error}") from error
    if not isinstance(values, dict):
        raise SettingsError(f"{path.name}: not a style; provider, model and options are wanted")
    try:
        return style_of(path.stem, values)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(p) for p in first["loc"])
        raise SettingsError(
            f"{path.name}: {place}: {first['msg']} (it is {first['input']!r})"
        ) from error


def style_of(name: str, values: Mapping[str, Any]) -> Style:
    """The style with this content.

    Raises:
        pydantic.ValidationError: it is none.
    """
    provider = PROVIDERS.get(str(values.get("provider")))
    options = values.get("options") or {}
    if provider is not None:  # by provider, so that faults are told of the right options
        options = provider.options.model_validate(options)
    return Style(**{**values, "name": name, "options": options})


def read_styles(names: tuple[str, ...]) -> list[Style]:
    """Styles by name, in that order.

    Raises:
        SettingsError: see ``read_style``; or two are the same.
    """
    styles = [read_style(name) for name in names]
    first: dict[str, str] = {}
    for style in styles:
        other = first.setdefault(style.fingerprint, style.name)
        if len([s for s in styles if s.name == style.name]) > 1 or other != style.name:
            raise SettingsError(
                f"styles {other} and {style.name} are the same; take one, and say in it how many (count)"
            )
    return styles


class Source(Record):
    """The exact render that a variant was made from. ``set`` is (asset, partition, identity)."""

    set: tuple[str, str, str]
    file: str
    sha256: str
    frame: int
    view: str


class Parameters(Record):
    """What a correction may change, and nothing else. ``strength`` and ``control`` from 0 to 1."""

    prompt: str = ""
    negative_prompt: str = ""
    strength: float
    control: float
    seed: int


class PoseMeasurement(BaseModel):
    """What MediaPipe made of one image, see ``quality.gate.Measurement``; None where there is no figure.

    ``landmarks`` (33, 3): x and y as parts of width and height, and visibility.
    """

    model_config = ConfigDict(extra="ignore", frozen=True)

    people: int | None = 0
    oks: float | None = None
    pck: float | None = None
    swapped: bool = False
    iou: float | None = None
    worst_joint: str = ""
    worst_error: float | None = None
    landmarks: list[tuple[float, float, float]] | None = None


class PoseVerdict(Verdict):
    """The gate's word on an image that should show the pose of a render; see ``quality.gate.Verdict``."""

    gate_version: int = 0
    judgeable: bool = False
    raw: PoseMeasurement | None = None
    enhanced: PoseMeasurement | None = None
    agreement: float | None = None
    moved: float | None = None


class Attempt(Record):
    """One try. ``seed`` is the one the provider says it used; ``correction`` says why the parameters differ
    from the try before; ``error`` is set where there is no image. ``cost_usd`` is what it cost, or may have;
    ``seconds`` how long a paid answer took. What this machine makes has 0 there: its records are the same wherever they are made.
    """

    number: int
    parameters: Parameters
    seed: int
    correction: str = ""
    image: Image | None = None
    verdict: PoseVerdict | None = None
    error: str = ""
    cost_usd: float = 0.0
    estimate_usd: float = 0.0
    seconds: float = 0.0
    answer: dict[str, Any] = {}


class VariantFacts(BaseModel):
    """The numbers of a character's set of variants. ``states`` and ``severities``: how many of each; ``cost_usd`` of all attempts.

    ``not_judgeable``: renders in which MediaPipe itself fails; ``gate_disagrees``: kept, as their pose cannot have moved.
    """

    model_config = ConfigDict(extra="ignore", frozen=True)

    variants: int
    states: dict[str, int]
    severities: dict[str, int] = {}
    not_judgeable: int = 0
    gate_disagrees: int = 0
    attempts: int = 0
    styles: list[str] = []
    cost_usd: float = 0.0


class Variant(Reviewed):
    """One variant and its whole story. ``enhancer`` names provider, model and version; ``style`` is the style's
    content; ``kept`` the number of the attempt whose image counts, 0 if none does.
    """

    kind: ClassVar[str] = "variant"
    variant: str
    character: str
    source: Source
    style_name: str
    style: dict[str, Any]
    copy_number: int
    enhancer: dict[str, str]
    attempts: tuple[Attempt, ...] = ()
    kept: int = 0
    flags: tuple[str, ...] = ()

    @property
    def subject(self) -> str:
        """The key of the character."""
        return self.character

    @property
    def id(self) -> str:
        """The id of the variant."""
        return self.variant

    @property
    def image(self) -> Image | None:
        """The image that would enter a dataset; None without one."""
        return self.attempts[self.kept - 1].image if self.kept else None

    @property
    def background(self) -> str:
        """The background that the image was laid on; empty where it has its render's own, or nobody knows."""
        return str(self.attempts[self.kept - 1].answer.get("background", "")) if self.kept else ""

    @property
    def verdict(self) -> PoseVerdict | None:
        """The gate's word on that image, or on the last attempt."""
        if not self.attempts:
            return None
        return self.attempts[(self.kept or len(self.attempts)) - 1].verdict

    @property
    def reasons(self) -> list[str]:
        """The reasons why it was not approved, as texts."""
        if not self.attempts:
            return []
        last = self.attempts[(self.kept or len(self.attempts)) - 1]
        said = [r.text for r in last.verdict.reasons] if last.verdict else []
        return [*said, *([last.error] if last.error else [])]

    @property
    def cost_usd(self) -> float:
        """The cost of all attempts in US dollars."""
        return sum(a.cost_usd for a in self.attempts)


def read_variants(committed: CommittedSet) -> list[Variant]:
    """The records of a committed set of variants."""
    values = json.loads(committed.path(RECORDS).read_text("utf-8"))
    return [Variant.model_validate(v) for v in values]


FACTS = {ASSET: VariantFacts}
REVIEWED = {Variant.kind: Variant}
