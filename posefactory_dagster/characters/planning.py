"""The planner of `character`: an upload, the skin and the motion of a cast, or a group."""

from __future__ import annotations

import dataclasses

from posefactory_dagster.characters.documents import ASSET
from posefactory_dagster.groups.documents import ASSET as GROUP
from posefactory_dagster.groups.documents import GroupError, read_group
from posefactory_dagster.intake.inspection import Inspection, plan, with_present_rig
from posefactory_dagster.intake.uploads import UploadError, find_upload, uploads_by_key
from posefactory_dagster.motions.documents import (
    CAST,
    MOTION,
    RecipeError,
    read_motion_record,
    read_recipe,
    recipe_of,
)
from posefactory_dagster.pipeline.plans import Inputs, NotPlanned
from posefactory_dagster.settings import project_settings
from posefactory_dagster.storage.layout import LayoutError
from posefactory_dagster.storage.sets import CommittedSet, CommittedSets, SetRef, identity_of

SKIN = "skin"
#: Raised when the character of a group means something else.
OF_GROUP_VERSION = 1


class CharacterPlanner:
    """Plans `character`: the files that a key means, by their contents. ``plans`` keeps what was planned, by key; ``groups`` the
    arranged groups among the keys, which need no inspection."""

    asset = ASSET

    def __init__(self, sets: CommittedSets) -> None:
        self._sets = sets
        self._found = uploads_by_key(sets.store)
        self.plans: dict[str, Inspection] = {}
        self.groups: dict[str, CommittedSet] = {}
        self._poses_wanted = project_settings().render.frames == "diverse"

    def __call__(self, key: str, inputs: Inputs) -> SetRef:
        try:
            if read_group(self._sets.store, key) is not None:
                return self._of_group(key)
            self.plans[key] = self._plan(key)
        except GroupError as error:
            raise NotPlanned(str(error)) from error
        except (UploadError, RecipeError, LayoutError, OSError) as error:
            raise NotPlanned(str(error)) from error
        return self.plans[key].ref

    def _of_group(self, key: str) -> SetRef:
        group = self._sets.readable(GROUP, key)
        if group is None:
            raise NotPlanned(f"{key}: not arranged yet; materialize `{GROUP}` for it first")
        for _, member, identity in group.inputs["sets"]:
            present = self._sets.readable(ASSET, member)
            if present is None or present.ref.identity != identity:
                raise NotPlanned(f"{key}: its member {member} changed since it was arranged; materialize `{GROUP}` for it first")  # fmt: skip
        self.groups[key] = group
        return SetRef(ASSET, key, identity_of(ASSET, {GROUP: group.ref.identity}, {"version": OF_GROUP_VERSION}))  # fmt: skip

    def _plan(self, key: str) -> Inspection:
        store = self._sets.store
        if read_recipe(store, key) is None:
            planned = plan(store, ASSET, key, {SKIN: find_upload(self._found, key)})
            # A set of the version before lacks the poses alone; made anew, all that is made of it would be made anew.
            if not self._poses_wanted and self._sets.find(planned.earlier) is not None:
                planned = dataclasses.replace(planned, ref=planned.earlier)
            return with_present_rig(self._sets, planned)
        cast = self._sets.readable(CAST, key)
        if cast is None:
            raise NotPlanned(f"{key}: not cast yet; materialize `{CAST}` for it first")
        recipe = recipe_of(cast)
        upload = read_motion_record(store, recipe.motion).upload
        files = {
            SKIN: find_upload(self._found, recipe.skin),
            MOTION: find_upload(self._found, upload),
        }
        take = cast.inputs[MOTION].get("take")
        takes = {MOTION: str(take)} if take else {}
        planned = plan(store, ASSET, key, files, takes=takes, made_of={CAST: cast.ref.identity})
        planned = dataclasses.replace(planned, sets=[cast.ref], touch=recipe.touch)
        for role, described in planned.inputs.items():
            if described["sha256"] != cast.inputs[role]["sha256"]:
                raise NotPlanned(
                    f"{key}: {described['file_name']} was replaced since it was cast; materialize `{CAST}` for it first"
                )
        return with_present_rig(self._sets, planned)
