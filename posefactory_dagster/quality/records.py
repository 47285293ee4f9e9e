"""What is known of a variant: where it came from, how each attempt was made and judged, and how it ended."""

from __future__ import annotations

import json
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

from posefactory_dagster.storage.sets import CommittedSet

#: The asset whose sets hold variants, and the file of these sets with their records.
ASSET = "enhanced_variants"
RECORDS = "variants.json"
#: By how much of its number a variant may be called, so that a short word is not taken for one.
LEAST_LETTERS = 6

#: How a variant stands. The last four are ends; a person can turn `blocked` into `locked_approved`, and
#: any of them into `qa_rejected`.
State = Literal[
    "pending",
    "in_progress",
    "qa_approved",
    "locked_approved",
    "qa_rejected",
    "failed",
    "blocked",
]


class _Record(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Source(_Record):
    """The exact render that a variant was made from. ``set`` is (asset, partition, identity)."""

    set: tuple[str, str, str]
    file: str
    sha256: str
    frame: int
    view: str


class Parameters(_Record):
    """What a correction may change, and nothing else. ``strength`` and ``control`` from 0 to 1."""

    prompt: str = ""
    negative_prompt: str = ""
    strength: float
    control: float
    seed: int


class Image(_Record):
    """The bytes of an attempt: their object key, checksum and size."""

    key: str
    sha256: str
    size: int


class Attempt(_Record):
    """One try. ``seed`` is the one the provider says it used; ``correction`` says why the parameters differ
    from the try before; ``error`` is set where there is no image. ``cost_usd`` is what it cost, or may have;
    ``seconds`` how long a paid answer took. What this machine makes has 0 there: its records are the same wherever they are made.
    """

    number: int
    parameters: Parameters
    seed: int
    correction: str = ""
    image: Image | None = None
    verdict: dict[str, Any] | None = None
    error: str = ""
    cost_usd: float = 0.0
    estimate_usd: float = 0.0
    seconds: float = 0.0
    answer: dict[str, Any] = {}


class Variant(_Record):
    """One variant and its whole story. ``enhancer`` names provider, model and version; ``style`` is the style's
    content; ``kept`` the number of the attempt whose image counts, 0 if none does.
    """

    variant: str
    character: str
    source: Source
    style_name: str
    style: dict[str, Any]
    copy_number: int
    enhancer: dict[str, str]
    attempts: tuple[Attempt, ...] = ()
    kept: int = 0
    state: State = "pending"
    flags: tuple[str, ...] = ()

    @property
    def image(self) -> Image | None:
        """The image that counts."""
        return self.attempts[self.kept - 1].image if self.kept else None

    @property
    def verdict(self) -> dict[str, Any] | None:
        """The gate's word on that image, or on the last attempt."""
        if not self.attempts:
            return None
        return self.attempts[(self.kept or len(self.attempts)) - 1].verdict

    @property
    def reasons(self) -> list[str]:
        """Why it is not simply approved, in words."""
        if not self.attempts:
            return []
        last = self.attempts[(self.kept or len(self.attempts)) - 1]
        said = [r["text"] for r in (last.verdict or {}).get("reasons", [])]
        return [*said, *([last.error] if last.error else [])]

    @property
    def cost_usd(self) -> float:
        """What all attempts cost."""
        return sum(a.cost_usd for a in self.attempts)


def read_variants(committed: CommittedSet) -> list[Variant]:
    """The records of a committed set of variants."""
    values = json.loads(committed.path(RECORDS).read_text("utf-8"))
    return [Variant.model_validate(v) for v in values]
