"""What versions before 2 left: motions and casts that were keys of the partition set of characters."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from posefactory_dagster.characters.documents import ASSET as CHARACTER
from posefactory_dagster.characters.documents import PARTITIONS as CHARACTERS
from posefactory_dagster.characters.documents import known_facts
from posefactory_dagster.intake import uploads
from posefactory_dagster.motions.documents import CAST, MOTION, Recipe
from posefactory_dagster.storage import layout
from posefactory_dagster.storage.sets import CommittedSets

#: A partition set of no asset: its key says that this was done.
DONE, MARK = "posefactory_structure", "motions"


def migrate(instance: Any, sets: CommittedSets) -> Iterator[str]:
    """Give motions and casts partition sets of their own, once; yields what was done, in words.

    Motions are inspected anew by the next run; sets of characters and of casts stay as they are. What was inspected as a
    motion, or holds no geometry, is one.
    """
    if instance.has_dynamic_partition(DONE, MARK):
        return
    keys = list(instance.get_dynamic_partitions(CHARACTERS))
    found = uploads.uploads_by_key(sets.store)
    motions = [key for key in keys if _is_motion(sets, found, key)]
    recipes = {
        r.key: r for skin in found for motion in found for r in [Recipe(skin=skin, motion=motion)]
    }
    casts = [recipes[key] for key in keys if key in recipes and key not in found]
    if motions:
        instance.add_dynamic_partitions(MOTION, motions)
        for key in motions:
            sets.store.delete([layout.current(CHARACTER, key)])
            instance.delete_dynamic_partition(CHARACTERS, key)
        yield f"motions have a partition set of their own now: {', '.join(motions)} moved there, and are inspected anew by the next run"
    if casts:
        for recipe in casts:
            sets.store.put_bytes(layout.recipe(recipe.key), recipe.model_dump_json().encode())
        instance.add_dynamic_partitions(CAST, [r.key for r in casts])
        yield f"casts have recipes now: {', '.join(r.key for r in casts)}; what was made of them stays"
    instance.add_dynamic_partitions(DONE, [MARK])


def _is_motion(sets: CommittedSets, found: dict[str, list[uploads.Upload]], key: str) -> bool:
    facts = known_facts(sets.readable(CHARACTER, key))
    if facts is not None:
        return facts.is_motion
    mine = found.get(key, [])
    return len(mine) == 1 and uploads.holds_no_geometry(uploads.fetch(sets.store, mine[0]))
