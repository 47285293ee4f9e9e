"""The sensor that casts, and has characters made of casts."""

import dataclasses
import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import dagster as dg

from posefactory_dagster.characters.documents import ASSET as CHARACTER
from posefactory_dagster.characters.documents import PARTITIONS as CHARACTERS
from posefactory_dagster.motions.documents import (
    CAST,
    MOTION,
    RecipeError,
    read_recipe,
    recipe_marks,
)
from posefactory_dagster.motions.migration import migrate
from posefactory_dagster.motions.planning import CastPlanner
from posefactory_dagster.pipeline.jobs import asset_job, contiguous, factory_job, range_tags
from posefactory_dagster.pipeline.plans import NotPlanned
from posefactory_dagster.storage import layout
from posefactory_dagster.storage.io_manager import StoreResource
from posefactory_dagster.storage.sets import CommittedSet, CommittedSets, text_digest

#: After so many ticks without an inspection, a motion's is asked for: it did not come as an upload, whose own run does it.
PATIENCE = 30
#: Casts are looked at for so long in one tick.
MOST_SECONDS = 3.0


@dg.sensor(
    jobs=[asset_job(MOTION), asset_job(CAST), factory_job],
    minimum_interval_seconds=10,
    default_status=dg.DefaultSensorStatus.RUNNING,
    description="New casts, and casts of which a file has changed, are made; then the characters that they make.",
)
def cast_sensor(context: dg.SensorEvaluationContext, store: StoreResource) -> dg.SensorResult:
    """Ask for what is missing of casts, and for motions that came by other ways than as uploads.

    Only casts of which something changed since the last tick are looked at.
    """
    for text in migrate(context.instance, store.sets):
        context.log.info(text)
    cursor = CastCursor.from_cursor(context.cursor)
    registered = {
        name: context.instance.get_dynamic_partitions(name) for name in (MOTION, CAST, CHARACTERS)
    }
    if not registered[MOTION] and not registered[CAST]:
        return dg.SensorResult(skip_reason="no casts", cursor=cursor.to_cursor())
    sets = store.sets()
    listed = {
        item.key: item.mark
        for asset in (CHARACTER, MOTION, CAST)
        for item in sets.store.list(layout.current_prefix(asset))
    }
    bare = [k for k in registered[MOTION] if layout.current(MOTION, k) not in listed]
    cursor.motions = {k: cursor.motions.get(k, 0) + 1 for k in bare}
    to_inspect = {k: k for k in bare if cursor.motions[k] == PATIENCE}
    # In order of registration, as a run takes a range of keys: what is cut off by the deadline must not tear ranges apart.
    place = {key: number for number, key in enumerate(registered[CAST])}
    changed = sorted(cursor.changed(sets, registered[CAST], listed), key=place.__getitem__)
    planner = CastPlanner(sets)
    to_cast: dict[str, str] = {}
    to_render: dict[str, str] = {}
    deadline = time.monotonic() + MOST_SECONDS
    for key in changed:
        if time.monotonic() > deadline:  # the rest at the next tick
            cursor.casts[key][3] = ""
            continue
        try:
            planned = planner(key, {})
        except NotPlanned as error:
            context.log.info(str(error))
            continue
        cast = sets.readable(CAST, key)
        if cast is None or cast.ref != planned:
            to_cast[key] = planned.identity
        elif key in registered[CHARACTERS] and not _made_from(sets, cast):
            to_render[key] = planned.identity
    requests = []
    for due, name, job in (
        (to_inspect, MOTION, asset_job(MOTION).name),
        (to_cast, CAST, asset_job(CAST).name),
        (to_render, CHARACTERS, factory_job.name),
    ):
        for group in contiguous(due, registered[name]):
            # Counted, as what was made before may be wanted again, and Dagster takes a known key for done.
            cursor.asked += 1
            marks = text_digest(f"{cursor.asked} {' '.join(due[k] for k in group)}")
            run_key = f"{job}-{group[0]}-{len(group)}-{marks}"
            requests.append(dg.RunRequest(run_key=run_key, job_name=job, tags=range_tags(group)))
    skip = None if requests else "nothing new"
    return dg.SensorResult(run_requests=requests, skip_reason=skip, cursor=cursor.to_cursor())


@dataclass
class CastCursor:
    """What earlier ticks saw. ``casts``: by key, the mark of its recipe, skin, motion, and a digest of what it is made from;
    ``motions``: for how many ticks they were registered and not inspected; ``asked``: how many runs were asked for."""

    casts: dict[str, list[str]] = field(default_factory=dict)
    motions: dict[str, int] = field(default_factory=dict)
    asked: int = 0

    @classmethod
    def from_cursor(cls, cursor: str | None) -> "CastCursor":
        """Parse a cursor that ``to_cursor`` wrote; an empty cursor if there is none."""
        return cls(**json.loads(cursor)) if cursor else cls()

    def to_cursor(self) -> str:
        """The cursor as a JSON string."""
        return json.dumps(dataclasses.asdict(self), separators=(",", ":"))

    def changed(
        self, sets: CommittedSets, registered: Sequence[str], listed: Mapping[str, str]
    ) -> list[str]:
        """Casts of which something changed; recipes are read only where they did.

        Args:
            listed: marks of the pointers of characters, motions and casts.
        """
        found: dict[str, list[str]] = {}
        changed = []
        for key, mark in recipe_marks(sets.store) if registered else ():
            if key not in registered:
                continue
            known = self.casts.get(key, ["", "", "", ""])
            if known[0] != mark:
                try:
                    recipe = read_recipe(sets.store, key)
                except RecipeError:  # told by whoever makes it, and by verify
                    continue
                if recipe is None:
                    continue
                known = [mark, recipe.skin, recipe.motion, ""]
            parts = ((CHARACTER, known[1]), (MOTION, known[2]), (CAST, key))
            now = text_digest(" ".join(listed.get(layout.current(*p), "-") for p in parts))
            found[key] = [*known[:3], now]
            if known[3] != now:
                changed.append(key)
        self.casts = found
        return changed


def _made_from(sets: CommittedSets, cast: CommittedSet) -> bool:
    """Whether the character of a cast's key was made from it."""
    character = sets.readable(CHARACTER, cast.ref.partition)
    return character is not None and character.made_from(cast)
