"""What versions before 2 left: motions and casts that were keys of the partition set of characters."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from posefactory_dagster.characters.documents import ASSET as CHARACTER
from posefactory_dagster.characters.documents import PARTITIONS as CHARACTERS
from posefactory_dagster.characters.documents import known_facts
from posefactory_dagster.intake import uploads
from posefactory_dagster.motions.documents import CAST, MOTION, Recipe
from posefactory_dagster.settings import environment
from posefactory_dagster.slugs import CAST_SEPARATOR, SlugError, safe_slug
from posefactory_dagster.storage import layout
from posefactory_dagster.storage.sets import CommittedSets

#: A partition set of no asset: its key says that this was done.
DONE, MARK = "posefactory_structure", "motions"


def migrate(instance: Any, open_sets: Callable[[], CommittedSets]) -> Iterator[str]:
    """Give motions and casts partition sets of their own, once; yields what was done, in words.

    Motions are inspected anew, by the next run of a cast of theirs or by the sensor; sets of characters and of casts stay
    as they are. What was inspected as a motion, or holds no geometry, is one.
    """
    if instance.has_dynamic_partition(DONE, MARK):
        return
    sets = open_sets()
    keys = list(instance.get_dynamic_partitions(CHARACTERS))
    found = uploads.uploads_by_key(sets.store) if keys else {}
    recipes = [r for key in keys if key not in found and (r := _recipe(key)) is not None]
    motions = [key for key in keys if _is_motion(sets, found, key)]
    if motions:
        instance.add_dynamic_partitions(MOTION, motions)
        for key in motions:
            instance.delete_dynamic_partition(CHARACTERS, key)
            sets.store.delete([layout.current(CHARACTER, key)])
        yield f"motions have a partition set of their own now: {', '.join(motions)} moved there, and are inspected anew"
    if recipes:
        for recipe in recipes:
            sets.store.put_bytes(layout.recipe(recipe.key), recipe.model_dump_json().encode())
        known = instance.get_dynamic_partitions(MOTION)
        instance.add_dynamic_partitions(
            MOTION, list(dict.fromkeys(r.motion for r in recipes if r.motion not in known))
        )
        instance.add_dynamic_partitions(CAST, [r.key for r in recipes])
        yield f"casts have recipes now: {', '.join(r.key for r in recipes)}; what was made of them stays"
    instance.add_dynamic_partitions(DONE, [MARK])


def _recipe(key: str) -> Recipe | None:
    """The recipe that the key of a cast stood for: until then, skin and motion were read from it, here for the last time."""
    skin, separator, motion = key.partition(CAST_SEPARATOR)
    try:
        sound = separator and skin == safe_slug(skin) and motion == safe_slug(motion)
    except SlugError:
        return None
    return Recipe(skin=skin, motion=motion) if sound else None


def _is_motion(sets: CommittedSets, found: Mapping[str, list[uploads.Upload]], key: str) -> bool:
    facts = known_facts(sets.readable(CHARACTER, key))
    if facts is not None:
        return facts.is_motion
    mine = found.get(key, [])
    if len(mine) != 1 or mine[0].size > environment().max_upload_mb * 1e6:
        return False  # its run says what is wrong
    try:
        return uploads.holds_no_geometry(uploads.fetch(sets.store, mine[0]))
    except uploads.UploadError:
        return False
