"""What an asset would make, and what is stale by it."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from blender_scripts.contract import RenderSettings
from posefactory_dagster.labels.assets import AccuracyPlanner, LabelPlanner
from posefactory_dagster.pipeline.plans import NotPlanned, Planner, required, stale
from posefactory_dagster.renders.render_sets import RenderPlanner
from posefactory_dagster.settings import LabelSettings
from posefactory_dagster.storage.opening import open_store
from posefactory_dagster.storage.sets import CommittedSet, CommittedSets, SetRef

SETTINGS = RenderSettings(num_angles=2).resolved()


#: What inspection says of a file, as far as others need it.
FACTS = {
    "kind": "skin", "meshes": 1, "vertices": 8, "bones": 22, "rig_prefix": "", "textures_found": [], "textures_missing": [],
    "warnings": [], "frame_range": [1, 10], "fps": 30.0, "has_motion": True, "scale_found": 1.0,
}  # fmt: skip


class Upload:
    """Plans `character` from a text that a test sets, in a file's place."""

    asset = "character"
    content = "one"

    def __call__(self, key: str, inputs: object) -> SetRef:
        if not self.content:
            raise NotPlanned(f"{key}: no such upload")
        return SetRef("character", key, self.content)


@pytest.fixture
def sets(tmp_path: Path) -> CommittedSets:
    return CommittedSets(open_store(str(tmp_path)))


def commit(
    sets: CommittedSets, ref: SetRef, *sources: CommittedSet, **facts: object
) -> CommittedSet:
    """A set with nothing in it, and readers pointed to it."""
    with sets.scratch() as scratch:
        inputs = {"sets": [dataclasses.astuple(s.ref) for s in sources]}
        made = sets.commit(ref, scratch, inputs=inputs, settings={}, facts=facts)
    sets.publish(ref)
    return made


def make_all(sets: CommittedSets, planners: list[Planner], kind: str = "skin") -> None:
    """Make what each planner plans for `ada`."""
    made: dict[str, CommittedSet] = {}
    for planner in planners:
        ref = planner("ada", made)
        if ref is None:
            return
        made[planner.asset] = commit(sets, ref, *made.values(), **{**FACTS, "kind": kind})


def test_what_is_made_as_planned_is_fresh_until_an_input_or_a_setting_changes(
    sets: CommittedSets,
) -> None:
    upload = Upload()

    def planners(settings: RenderSettings = SETTINGS, model: str = "m") -> list[Planner]:
        return [
            upload,
            RenderPlanner(settings),
            LabelPlanner(model, LabelSettings()),
            AccuracyPlanner(),
        ]

    assert stale(sets, ["ada"], planners()) == ["ada"]
    make_all(sets, planners())
    assert stale(sets, ["ada"], planners()) == []
    assert stale(sets, ["ada"], planners(model="another")) == ["ada"]
    assert stale(sets, ["ada"], planners(dataclasses.replace(SETTINGS, seed=1))) == ["ada"]
    upload.content = "two"
    assert stale(sets, ["ada"], planners()) == ["ada"]
    upload.content = ""
    assert stale(sets, ["ada"], planners()) == ["ada"]
    upload.content = "one"
    assert stale(sets, ["ada"], planners()) == []
    (sets.store.root / "current" / "pose_labels" / "ada.json").write_text("{}")  # type: ignore[attr-defined]
    assert stale(sets, ["ada"], planners()) == ["ada"]


def test_a_motion_of_the_time_when_motions_were_characters_is_not_rendered(
    sets: CommittedSets,
) -> None:
    source = commit(sets, SetRef("character", "kick", "x"), **{**FACTS, "kind": "motion"})
    with pytest.raises(NotPlanned, match="posefactory cast SKIN --motion kick"):
        RenderPlanner(SETTINGS)("kick", {"character": source})


def test_a_missing_input_names_the_key_and_the_next_step(sets: CommittedSets) -> None:
    with pytest.raises(
        NotPlanned, match="ada: not rendered yet; materialize `multi_angle_renders`"
    ):
        required("ada", {}, "multi_angle_renders", "rendered")
    source = commit(sets, SetRef("character", "ada", "x"), **FACTS)
    old = commit(sets, SetRef("multi_angle_renders", "ada", "old"), source)
    new = commit(sets, SetRef("multi_angle_renders", "ada", "new"), source)
    labels = commit(sets, SetRef("pose_labels", "ada", "x"), old)
    with pytest.raises(NotPlanned, match="its labels are of older renders"):
        AccuracyPlanner()("ada", {"multi_angle_renders": new, "pose_labels": labels})
