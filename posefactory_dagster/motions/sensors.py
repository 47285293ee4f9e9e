"""The sensor that casts, and has characters made of casts."""

import json

import dagster as dg

from posefactory_dagster.characters.documents import ASSET as CHARACTER
from posefactory_dagster.characters.documents import PARTITIONS as CHARACTERS
from posefactory_dagster.motions.documents import (
    CAST,
    MOTION,
    Recipe,
    RecipeError,
    read_recipe,
    recipe_keys,
)
from posefactory_dagster.motions.migration import migrate
from posefactory_dagster.motions.planning import CastPlanner
from posefactory_dagster.pipeline.jobs import asset_job, contiguous, factory_job, range_tags
from posefactory_dagster.pipeline.plans import NotPlanned
from posefactory_dagster.storage import layout
from posefactory_dagster.storage.io_manager import StoreResource
from posefactory_dagster.storage.sets import CommittedSet, CommittedSets, text_digest


@dg.sensor(
    jobs=[asset_job(CAST), factory_job],
    minimum_interval_seconds=10,
    default_status=dg.DefaultSensorStatus.RUNNING,
    description="New casts, and casts of which a file has changed, are made; then the characters that they make.",
)
def cast_sensor(context: dg.SensorEvaluationContext, store: StoreResource) -> dg.SensorResult:
    """Ask for what is missing of casts. Only those of which something changed since the last tick are looked at."""
    for text in migrate(context.instance, store.sets()):
        context.log.info(text)
    seen: dict[str, str] = json.loads(context.cursor or "{}")
    registered = {
        name: context.instance.get_dynamic_partitions(name) for name in (CAST, CHARACTERS)
    }
    sets = store.sets()
    marks: dict[str, str] = {}
    recipes: dict[str, Recipe] = {}
    for key in recipe_keys(sets.store):
        try:
            recipe = read_recipe(sets.store, key)
        except RecipeError as error:
            context.log.error(str(error))
            continue
        if recipe is not None and key in registered[CAST]:
            recipes[key] = recipe
    if not recipes:
        return dg.SensorResult(skip_reason="no casts", cursor="{}")
    listed = {
        item.key: item.mark
        for asset in (CHARACTER, MOTION, CAST)
        for item in sets.store.list(layout.current_prefix(asset))
    }
    for key, recipe in recipes.items():
        parts = ((CHARACTER, recipe.skin), (MOTION, recipe.motion), (CAST, key))
        marks[key] = text_digest(" ".join(listed.get(layout.current(*p), "-") for p in parts))
    changed = [key for key in recipes if seen.get(key) != marks[key]]
    planner = CastPlanner(sets)
    to_cast: dict[str, str] = {}
    to_render: dict[str, str] = {}
    for key in changed:
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
    requests = [
        dg.RunRequest(
            run_key=f"{job}-{group[0]}-{len(group)}-{text_digest(' '.join(due[k] for k in group))}",
            job_name=job,
            tags=range_tags(group),
        )
        for due, name, job in (
            (to_cast, CAST, asset_job(CAST).name),
            (to_render, CHARACTERS, factory_job.name),
        )
        for group in contiguous(due, registered[name])
    ]
    skip = None if requests else "nothing new"
    return dg.SensorResult(run_requests=requests, skip_reason=skip, cursor=json.dumps(marks))


def _made_from(sets: CommittedSets, cast: CommittedSet) -> bool:
    """Whether the character of a cast's key was made from the files that the cast means."""
    character = sets.readable(CHARACTER, cast.ref.partition)
    return character is not None and all(
        character.inputs.get(role, {}).get("sha256") == cast.inputs[role]["sha256"]
        for role in ("skin", "motion")
    )
