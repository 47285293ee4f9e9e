"""What motions and casts are made from."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from typing import Any

from posefactory_dagster.intake import uploads
from posefactory_dagster.intake.inspection import Inspection, plan, with_present_rig
from posefactory_dagster.intake.uploads import UploadError, find_upload, uploads_by_key
from posefactory_dagster.motions.documents import (
    CAST,
    MOTION,
    Recipe,
    RecipeError,
    read_motion_record,
    read_recipe,
)
from posefactory_dagster.pipeline.plans import Inputs, NotPlanned
from posefactory_dagster.storage.layout import LayoutError
from posefactory_dagster.storage.sets import CommittedSets, SetRef, identity_of

#: Raised when casting means something else.
CAST_VERSION = 3
#: Raised when more or other things are measured of a motion.
MOTION_VERSION = 2


class MotionPlanner:
    """Plans `motion`: the file that a key means, by its content. ``plans`` keeps what was planned, by key."""

    asset = MOTION

    def __init__(self, sets: CommittedSets) -> None:
        self._sets, self._store = sets, sets.store
        self._found = uploads_by_key(sets.store)
        self.plans: dict[str, Inspection] = {}

    def __call__(self, key: str, inputs: Inputs) -> SetRef:
        try:
            record = read_motion_record(self._store, key)
            files = {MOTION: find_upload(self._found, record.upload)}
            takes = {} if record.clip is None else {MOTION: record.clip}
            planned = plan(
                self._store,
                MOTION,
                key,
                files,
                takes=takes,
                version={"motion_version": MOTION_VERSION},
            )
            self.plans[key] = with_present_rig(self._sets, planned)
        except (UploadError, LayoutError, OSError) as error:
            raise NotPlanned(f"{key}: {error}" if key not in str(error) else str(error)) from error
        return self.plans[key].ref


class CastPlanner:
    """Plans `cast`: a recipe, the skin's file and the inspected motion. ``inputs`` and ``recipes`` keep what was planned, by key."""

    asset = CAST

    def __init__(self, sets: CommittedSets) -> None:
        self._sets = sets
        self._found = uploads_by_key(sets.store)
        self.inputs: dict[str, dict[str, Any]] = {}
        self.recipes: dict[str, Recipe] = {}

    def __call__(self, key: str, inputs: Inputs) -> SetRef:
        try:
            recipe = read_recipe(self._sets.store, key)
            if recipe is None:
                raise NotPlanned(
                    f"{key}: no such cast; posefactory cast SKIN --motion MOTION makes one"
                )
            skin = uploads.describe(self._sets.store, find_upload(self._found, recipe.skin))
            upload = find_upload(
                self._found, read_motion_record(self._sets.store, recipe.motion).upload
            )
        except (UploadError, RecipeError, LayoutError, OSError) as error:
            raise NotPlanned(f"{key}: {error}") from error
        motion = self._sets.readable(MOTION, recipe.motion)
        if motion is None:
            raise NotPlanned(
                f"{key}: its motion {recipe.motion} is not inspected yet; materialize `{MOTION}` for it first"
            )
        if uploads.describe(self._sets.store, upload)["sha256"] != motion.inputs[MOTION]["sha256"]:
            raise NotPlanned(
                f"{key}: its motion {recipe.motion} was replaced since it was inspected; materialize `{MOTION}` for it first"
            )
        contents = {"skin": skin["sha256"], "motion": motion.ref.identity}
        self.inputs[key] = {
            "skin": {"key": recipe.skin, **skin},
            "motion": {"key": recipe.motion, **motion.inputs[MOTION]},
            "sets": [[motion.ref.asset, motion.ref.partition, motion.ref.identity]],
        }
        self.recipes[key] = recipe
        return SetRef(CAST, key, identity_of(CAST, contents, self.settings(recipe)))

    @staticmethod
    def settings(recipe: Recipe) -> dict[str, Any]:
        """What a manifest says of how a cast is made; what came later is said only where it differs."""
        return {"version": CAST_VERSION, **({} if recipe.touch else {"touch": False})}


def preparations(sets: CommittedSets, keys: Sequence[str]) -> Mapping[str, Sequence[str]]:
    """The motions and casts that must be made before the characters ``keys``."""
    found = _recipes(sets, keys)
    return {**motions_of(sets, keys), CAST: list(found)}


def motions_of(sets: CommittedSets, keys: Sequence[str]) -> Mapping[str, Sequence[str]]:
    """The motions that must be made before the casts ``keys``."""
    found = _recipes(sets, keys)
    return {MOTION: list(dict.fromkeys(recipe.motion for recipe in found.values()))}


def _recipes(sets: CommittedSets, keys: Sequence[str]) -> dict[str, Recipe]:
    recipes = {}
    for key in keys:
        with contextlib.suppress(RecipeError):  # told by the asset that needs it
            if (recipe := read_recipe(sets.store, key)) is not None:
                recipes[key] = recipe
    return recipes
