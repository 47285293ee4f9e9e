"""What the room `motions` says to others: its assets and partition sets, and the recipes of casts."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from posefactory_dagster.characters.documents import CharacterFacts
from posefactory_dagster.intake.uploads import UploadError, uploads_by_key
from posefactory_dagster.slugs import SlugError, cast_key, safe_slug
from posefactory_dagster.storage import layout
from posefactory_dagster.storage.sets import CommittedSet, CommittedSets
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


def clip_keys(
    upload: str, clips: Sequence[str | None], taken: Callable[[str], bool] = lambda key: False
) -> dict[str, str | None]:
    """Keys for the animations of an upload, each with its animation: the upload's slug and the animation's.

    Args:
        clips: names of animations; None for the one that plays by itself, whose key is the upload's.
        taken: whether a key means something else already; then, and where two names give one slug, a number is added.
    """
    found: dict[str, str | None] = {}
    for clip in clips:
        try:
            slug = upload if clip is None else safe_slug(f"{upload}_{clip}")
        except SlugError:
            slug = upload
        key, number = slug, 2
        while key in found or taken(key):
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
    others = set(uploads_by_key(store)) - {upload}

    def taken(key: str) -> bool:
        data = store.get_bytes(layout.motion_record(key)) if layout.is_part(key) else None
        if data is None:
            return key in others
        try:
            return read_motion_record(store, key).upload != upload
        except RecipeError:
            return True

    wanted: Sequence[str | None] = clips if skin or len(clips) > 1 else [None]
    keys = clip_keys(upload, wanted, taken)
    for key, clip in keys.items():
        if key == upload and clip is None:
            continue  # its own key says it
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
    """Make motions of the animations of an upload, see ``record_clips``; returns their keys.

    Animations that the upload no longer has are forgotten, if it is known which it has.
    """
    keys = record_clips(store, upload, clips, skin=skin, alone=alone)
    known = instance.get_dynamic_partitions(MOTION)
    new = [k for k in keys if k not in known]
    if new:
        instance.add_dynamic_partitions(MOTION, new)
    if clips:
        forget_clips(instance, store, upload, {*keys, upload}, known)
    return keys


def drop_outdated(sets: CommittedSets, motions: Sequence[str], inspected: CommittedSet) -> None:
    """Take the pointers of motions away whose sets were made of another file than ``inspected`` was: they are inspected anew."""
    digests = {v["sha256"] for v in inspected.inputs.values() if isinstance(v, dict)}
    for key in motions:
        committed = sets.readable(MOTION, key)
        if committed is not None and committed.inputs[MOTION]["sha256"] not in digests:
            sets.store.delete([layout.current(MOTION, key)])


def forget_clips(
    instance: Any, store: Store, upload: str, keys: Collection[str], known: Iterable[str]
) -> None:
    """Forget motions among ``known`` that were animations of ``upload`` and are none of ``keys``."""
    for key in known:
        if key in keys or not key.startswith(upload):
            continue
        try:
            record = read_motion_record(store, key)
        except RecipeError:
            continue
        if record.upload == upload and record.clip is not None:
            store.delete([layout.motion_record(key), layout.current(MOTION, key)])
            instance.delete_dynamic_partition(MOTION, key)


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
