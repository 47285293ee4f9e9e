"""What the room `groups` says to others: recipes of several characters in one image."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from blender_scripts.contract import ARRANGEMENTS, GROUP_SIZES
from posefactory_dagster.storage import layout
from posefactory_dagster.storage.store import Store

#: The asset, and the partition set of the same name.
ASSET = PARTITIONS = "group"


class Group(BaseModel):
    """A recipe: who is in a group, and how they stand.

    ``members``: keys of characters, casts and people among them; the same may come twice. ``spacing_m``: metres between neighbours; None
    for as near as their motions let them. ``seed``: of their turns, and of how far each is in its motion.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    members: Annotated[tuple[str, ...], Field(min_length=GROUP_SIZES[0], max_length=GROUP_SIZES[1])]
    arrangement: Literal[ARRANGEMENTS] = "side_by_side"  # type: ignore[valid-type]
    spacing_m: Annotated[float, Field(ge=0.2, le=4.0)] | None = None
    seed: Annotated[int, Field(ge=0, lt=2**31)] = 0

    @model_validator(mode="after")
    def _keys(self) -> Group:
        wrong = [m for m in self.members if not layout.is_part(m)]
        if wrong:
            raise ValueError(f"{wrong[0]!r} is no key of a character")
        return self


class PlaceFacts(BaseModel):
    """Where one person of a group stands; see ``contract.Place``."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    key: str
    x: float
    y: float
    turn_degrees: float
    ahead: int


class GroupFacts(BaseModel):
    """How a group was arranged: a place for each person, and what is known of all together (see ``CharacterFacts``)."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    places: list[PlaceFacts]
    frame_range: tuple[int, int]
    moves: bool
    fps: float
    heights_m: list[float]
    vertices: int
    meshes: int
    bones: int
    warnings: list[str] = []


FACTS = {ASSET: GroupFacts}


class GroupError(ValueError):
    """A recipe of a group that is none; the text names it and the next step."""


def grouped(values: object, name: str) -> Group:
    """A recipe from plain values.

    Raises:
        GroupError: a field is unknown or out of range.
    """
    try:
        return Group.model_validate(values)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        place = ".".join(map(str, first["loc"])) or "the recipe"
        said = str(first["msg"]).removeprefix("Value error, ")
        raise GroupError(f"{name}: {place}: {said}") from None


def read_group(store: Store, key: str) -> Group | None:
    """The recipe of a group; None if there is none of that key.

    Raises:
        GroupError: what is there is no recipe.
    """
    data = store.get_bytes(layout.group_record(key)) if layout.is_part(key) else None
    if data is None:
        return None
    try:
        return Group.model_validate_json(data)
    except ValidationError as error:
        raise GroupError(f"{key}: its recipe cannot be read ({error.error_count()} faults); posefactory groups remove {key}, and add it again") from error  # fmt: skip


def groups_with(
    store: Store, groups: Iterable[str], members: Collection[str]
) -> Iterator[tuple[str, str]]:
    """Of some groups those that have one of ``members``, each with who that is; a recipe that cannot be read has nobody."""
    for key in groups:
        try:
            group = read_group(store, key)
        except GroupError:
            continue
        if group is not None:
            yield from ((key, m) for m in dict.fromkeys(group.members) if m in members)


def write_group(store: Store, key: str, group: Group) -> None:
    """Keep the recipe of a key."""
    store.put_bytes(layout.group_record(key), group.model_dump_json().encode())
