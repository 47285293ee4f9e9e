"""Documents of the review of artifacts of any kind: image, verdict, lock, decision.

An artifact is named by its kind (`variant`), its subject (the character that it was made for) and its own id.
"""

from __future__ import annotations

import abc
import datetime
from typing import Annotated, ClassVar, Generic, Literal, TypeVar

from pydantic import (
    AliasChoices,
    AwareDatetime,
    BaseModel,
    ConfigDict,
    Field,
    SerializeAsAny,
    StringConstraints,
)

#: How an artifact stands. The last four are ends; a person can turn `blocked` into `locked_approved`, and any of them into
#: `qa_rejected`.
State = Literal[
    "pending",
    "in_progress",
    "qa_approved",
    "locked_approved",
    "qa_rejected",
    "failed",
    "blocked",
]
Severity = Literal["none", "minor", "major", "critical"]
Name = Annotated[str, StringConstraints(pattern=r"^[a-zA-Z0-9_-]{1,200}$")]


class Record(BaseModel):
    """Base of stored records: immutable, and unknown fields are refused."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Image(Record):
    """The bytes of an image: their object key, checksum and size."""

    key: str
    sha256: str
    size: int


class Reason(Record):
    """Why an artifact was not simply passed: a code to act on, words, the figure and its limit."""

    code: str
    severity: Severity
    text: str
    value: float | None = None
    limit: float | None = None


class Verdict(BaseModel):
    """The verdict of a gate on one image; gates add what they measured."""

    model_config = ConfigDict(extra="allow", frozen=True)

    severity: Severity
    passes: bool
    reasons: tuple[Reason, ...] = ()


class Reviewed(Record, abc.ABC):
    """An artifact that passes a gate or a person before others use it. Rooms derive their records from it."""

    kind: ClassVar[str]
    state: State = "pending"

    @property
    @abc.abstractmethod
    def subject(self) -> str:
        """The key of the character that the artifact belongs to."""

    @property
    @abc.abstractmethod
    def id(self) -> str:
        """The artifact's id, unique within its kind and subject."""

    @property
    @abc.abstractmethod
    def image(self) -> Image | None:
        """The image that would enter a dataset; None without one."""

    @property
    @abc.abstractmethod
    def verdict(self) -> Verdict | None:
        """The gate's verdict on that image."""

    @property
    def place(self) -> tuple[str, str, str]:
        """Kind, subject and id."""
        return self.kind, self.subject, self.id


R = TypeVar("R", bound=Reviewed)


class Lock(Record, Generic[R]):
    """An approved artifact. ``image`` is what was approved; ``record`` how it came about.

    Locks of versions that knew only variants call the record ``variant``.
    """

    image: Image
    approved_by: str
    approved_at: datetime.datetime
    reason: str = ""
    record: SerializeAsAny[R] = Field(validation_alias=AliasChoices("record", "variant"))


class Decision(Record):
    """A person's decision on one artifact. Files of earlier versions call the subject ``character`` and the id ``variant``."""

    kind: Name = "variant"
    subject: Name = Field(validation_alias=AliasChoices("subject", "character"))
    id: Name = Field(validation_alias=AliasChoices("id", "variant"))
    decision: Literal["approve", "reject"]
    sha256: str | None = None
    reviewer: str = Field(default="", max_length=200)
    reason: str = Field(default="", max_length=2000)
    at: AwareDatetime

    @property
    def place(self) -> tuple[str, str, str]:
        """Kind, subject and id."""
        return self.kind, self.subject, self.id


class DecisionFile(Record):
    """A file under `decisions/`."""

    decisions: list[Decision]
