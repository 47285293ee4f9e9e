"""What the room `characters` says to others: the facts of an inspected file, and the names of its set's files."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict

from blender_scripts.contract import Place
from posefactory_dagster.storage.sets import CommittedSet
from posefactory_dagster.storage.store import DamagedObject

#: The asset whose sets hold inspected characters, and the partition set of the same name.
ASSET = PARTITIONS = "character"


#: A cast beyond these carries a warning.
MAX_DIRECTION_DEGREES, MAX_SLIDE_CM, MAX_PENETRATION_CM = 3.0, 2.0, 1.0


class TakeFacts(BaseModel):
    """One animation of a file. ``frames``: first and last, both included."""

    model_config = ConfigDict(frozen=True)

    name: str
    frames: tuple[int, int]
    moves: bool


class TransferFacts(BaseModel):
    """The error of a cast, as ``blender_scripts/stage/transfer.py`` measures it; angles in degrees.

    ``limbs``: mean and 95th percentile by limb; ``direction`` the mean of all; ``worst_limb`` the largest 95th percentile.
    """

    model_config = ConfigDict(extra="ignore", frozen=True)

    limbs: dict[str, tuple[float, float]] = {}
    direction: float
    worst_limb: float
    slide_cm: float
    stands: int
    penetration_cm: float
    self_penetration_cm: float
    joint_limits: float
    jerk: float

    @property
    def misses(self) -> list[str]:
        """Which limits of a good cast it is over, in words; empty for a good one."""
        found = (
            (
                self.direction > MAX_DIRECTION_DEGREES,
                f"limbs point {self.direction:.1f} degrees away on average",
            ),
            (self.slide_cm > MAX_SLIDE_CM, f"standing feet slide {self.slide_cm:.1f} cm"),
            (
                self.penetration_cm > MAX_PENETRATION_CM,
                f"it sinks {self.penetration_cm:.1f} cm into the floor",
            ),
        )
        return [text for over, text in found if over]


class PersonPlace(BaseModel):
    """Where one of the people of a group stands; see ``contract.Place``. ``character``: the identity of its character's set."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    key: str
    x: float
    y: float
    turn_degrees: float
    ahead: int
    character: str

    def place(self) -> Place:
        """As the contract has it."""
        return Place(self.key, self.x, self.y, self.turn_degrees, self.ahead)


class CharacterFacts(BaseModel):
    """What Blender found in a file, a character's or a motion's, as ``inspect_character.py`` writes it.

    ``kind``: a skin can be rendered, a motion can be cast on one; a group is several characters in one image, and ``persons`` says where
    each stands. ``frame_range``: first and last frame of the animation
    that plays. ``scale_found``: the file's own scale. Of skins only: ``height_m``, metres in the rest pose, hats and hair
    included; ``facing``, a horizontal unit vector (x, y, z), z up; ``rest_landmarks``, metres;
    ``landmarks_by_proportion``, names of landmarks that geometry does not show; ``transfer``, of casts, how far the result is
    from the motion. ``rig_map`` names the family of bone names,
    ``rig_bones`` the bone for each bone of the humanoid where these are not Mixamo's, ``rig_digest`` the map if it is one of the user's.
    """

    model_config = ConfigDict(frozen=True)

    kind: Literal["skin", "motion", "group"]
    meshes: int
    vertices: int
    bones: int
    rig_prefix: str
    textures_found: list[str]
    textures_missing: list[str]
    warnings: list[str]
    frame_range: tuple[int, int]
    fps: float
    has_motion: bool
    scale_found: float
    rig_map: str = "mixamo"
    rig_bones: dict[str, str] = {}
    rig_digest: str = ""
    take: str | None = None
    takes: list[TakeFacts] = []
    props: list[str] = []
    licences: dict[str, str] = {}
    height_m: float | None = None
    facing: tuple[float, float, float] | None = None
    landmarks_by_proportion: list[str] = []
    rest_landmarks: dict[str, tuple[float, float, float]] = {}
    transfer: TransferFacts | None = None
    persons: list[PersonPlace] = []

    @property
    def is_motion(self) -> bool:
        """Whether it has no skin, so that it cannot be rendered by itself."""
        return self.kind == "motion"


def facts_of(committed: CommittedSet) -> CharacterFacts:
    """The facts of a committed set.

    Raises:
        DamagedObject: the manifest says something else.
    """
    return committed.facts_as(CharacterFacts)


def known_facts(committed: CommittedSet | None) -> CharacterFacts | None:
    """The facts of a set; None where there is no set, or where its facts are malformed (`store verify` tells of it)."""
    try:
        return facts_of(committed) if committed is not None else None
    except DamagedObject:
        return None


FACTS = {ASSET: CharacterFacts}
