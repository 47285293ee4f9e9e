"""What the room `motions` says to others: its assets and partition sets, and the recipes of casts."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from posefactory_dagster.characters.documents import CharacterFacts
from posefactory_dagster.intake.uploads import UploadError
from posefactory_dagster.slugs import SlugError, cast_key, safe_slug
from posefactory_dagster.storage import layout
from posefactory_dagster.storage.sets import CommittedSet
from posefactory_dagster.storage.store import Store

#: The assets, and the partition sets of the same names.
MOTION, CAST = "motion", "cast"
#: The file of a cast's set.
RECIPE = "recipe.json"


class RecipeError(UploadError):
    """A recipe that is none; the text names it and the next step."""


class Recipe(BaseModel):
    """A cast: the key of a skin (among the characters) and the key of a motion (among the motions).

    ``touch``: whether hands that touch the body or each other in the motion do so in the cast.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    skin: str
    motion: str
    touch: bool = True

    @property
    def key(self) -> str:
        """The cast's key, among the casts and among the characters."""
        return cast_key(self.skin, self.motion)


class MotionFacts(CharacterFacts):
    """What was measured of a motion. Lengths in metres of a person whose legs are 0.85 m, speeds in metres a second.

    ``contacts``: by foot, the stretches in which it stands, as half-open ranges counted from the first frame;
    ``derived_tags``: what kind of thing is done, as far as positions tell.
    """

    seconds: float | None = None
    travel_m: float | None = None
    path_m: float | None = None
    speed_m_s: float | None = None
    loops: bool = False
    contacts: dict[str, list[tuple[int, int]]] = {}
    derived_tags: list[str] = []


class MotionRecord(BaseModel):
    """What a motion's key means: an animation of an upload, and the user's words for it.

    ``upload`` is a key among the uploads; ``clip`` the animation's name in the file, None for the one that would play by itself.
    A motion without a record is the animation of the upload of its own key. ``alone``: a file with a skin that was taken in for
    its motion, and is no character.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    upload: str
    clip: str | None = None
    tags: tuple[str, ...] = ()
    alone: bool = False


def read_motion_record(store: Store, key: str) -> MotionRecord:
    """What a motion's key means.

    Raises:
        RecipeError: what is there is no record.
    """
    data = store.get_bytes(layout.motion_record(key)) if layout.is_part(key) else None
    if data is None:
        return MotionRecord(upload=key)
    try:
        return MotionRecord.model_validate_json(data)
    except ValidationError as error:
        raise RecipeError(f"{key}: the record of this motion cannot be read ({error.error_count()} faults); add its file again") from error  # fmt: skip


def write_motion_record(store: Store, key: str, record: MotionRecord) -> None:
    """Say what a motion's key means."""
    store.put_bytes(layout.motion_record(key), record.model_dump_json().encode())


def uploads_of_motions(store: Store) -> set[str]:
    """The uploads that were taken in for their motions alone, though they hold a skin."""
    found = set()
    for item in store.list(layout.MOTIONS):
        key = item.key.removeprefix(layout.MOTIONS).removesuffix(".json")
        try:
            record = read_motion_record(store, key)
        except RecipeError:  # told by who makes the motion
            continue
        if record.alone:
            found.add(record.upload)
    return found


def keep_for_motions(store: Store, motions: Sequence[str], uploads: Sequence[str]) -> set[str]:
    """Those of ``uploads`` that ``motions`` are made of; from now on they are there for these alone."""
    found = set()
    for key in motions:
        try:
            record = read_motion_record(store, key)
        except RecipeError:
            continue
        if record.upload in uploads:
            write_motion_record(store, key, record.model_copy(update={"alone": True}))
            found.add(record.upload)
    return found


def clip_keys(upload: str, clips: Sequence[str]) -> dict[str, str]:
    """Keys for the animations of an upload, each with its animation: the upload's slug and the animation's, never twice."""
    found: dict[str, str] = {}
    for clip in clips:
        try:
            slug = safe_slug(f"{upload}_{clip}")
        except SlugError:
            slug = upload
        key, number = slug, 2
        while key in found:
            key, number = f"{slug[:60]}_{number}", number + 1
        found[key] = clip
    return found


def record_clips(
    store: Store, upload: str, clips: Sequence[str], *, skin: bool, alone: bool = False
) -> list[str]:
    """Say which motions the animations of an upload are; returns their keys.

    One animation of a file without a skin has the upload's own key, as has an FBX, whose animations are known when it is
    inspected. Of several, and of a file with a skin, each has a key of its own, which a record explains; the tags of a key
    that is there already stay.
    """
    if not skin and len(clips) < 2:
        return [upload]
    keys = clip_keys(upload, clips)
    for key, clip in keys.items():
        record = MotionRecord(upload=upload, clip=clip, tags=_tags(store, key), alone=alone)
        write_motion_record(store, key, record)
    return list(keys)


def register_clips(
    instance: Any,
    store: Store,
    upload: str,
    clips: Sequence[str],
    *,
    skin: bool,
    alone: bool = False,
) -> list[str]:
    """Make motions of the animations of an upload, see ``record_clips``; returns their keys."""
    keys = record_clips(store, upload, clips, skin=skin, alone=alone)
    new = [k for k in keys if not instance.has_dynamic_partition(MOTION, k)]
    if new:
        instance.add_dynamic_partitions(MOTION, new)
    return keys


def _tags(store: Store, key: str) -> tuple[str, ...]:
    try:
        return read_motion_record(store, key).tags
    except RecipeError:
        return ()


def read_recipe(store: Store, key: str) -> Recipe | None:
    """The recipe of a cast; None if there is none of that key.

    Raises:
        RecipeError: what is there is no recipe, or another's.
    """
    data = store.get_bytes(layout.recipe(key)) if layout.is_part(key) else None
    if data is None:
        return None
    try:
        recipe = Recipe.model_validate_json(data)
    except ValidationError as error:
        raise RecipeError(f"{key}: its recipe cannot be read ({error.error_count()} faults); cast it again") from error  # fmt: skip
    if recipe.key != key:
        raise RecipeError(f"{key}: its recipe is that of {recipe.key}; cast it again")
    return recipe


def recipe_marks(store: Store) -> Iterator[tuple[str, str]]:
    """The keys of all casts that have a recipe, each with a mark that changes with it."""
    for item in store.list(layout.CASTS):
        if (key := layout.parse_recipe(item.key)) is not None:
            yield key, item.mark


def recipe_of(cast: CommittedSet) -> Recipe:
    """The recipe that a committed cast was made by."""
    return Recipe(
        skin=str(cast.inputs["skin"]["key"]),
        motion=str(cast.inputs["motion"]["key"]),
        touch=bool(cast.settings.get("touch", True)),
    )


FACTS = {MOTION: MotionFacts}
