"""People of every naming that ships are read, and do a shipped motion."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from blender_scripts.contract import FACTS, Task, TaskInput
from blender_scripts.formats.naming import HUMANOID, best_fit, fit
from blender_scripts.supervise import Outcome
from posefactory_dagster.compute.job import namings, new_job, rig_map
from posefactory_dagster.compute.process import run_job
from posefactory_dagster.motions.rigs import Bone, RigError, suggest
from posefactory_dagster.settings import ASSETS_DATA
from tests.conftest import SAMPLES, Factory

WAVE = ASSETS_DATA / "motions" / "wave.bvh"
SHIPPED = sorted(p.stem for p in (ASSETS_DATA / "rigs").glob("*.json"))


@pytest.fixture(scope="session")
def rigs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Small files of every naming; see ``make_rigs.py``."""
    folder = tmp_path_factory.mktemp("rigs")
    script = Path(__file__).parent / "make_rigs.py"
    done = subprocess.run([sys.executable, str(script), str(folder)], capture_output=True, text=True, check=False, timeout=300)  # fmt: skip
    assert "ANSWER" in done.stdout, done.stdout + done.stderr
    return folder


@pytest.fixture(scope="module")
def inspected(
    rigs: Path, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, tuple[Outcome, Path]]:
    """Each skin with the shipped wave cast on it, each BVH as a motion and cast on a sample, all in one Blender."""
    place = tmp_path_factory.mktemp("inspected")
    ada = TaskInput(str(SAMPLES / "ada_walk.fbx"), "ada_walk.fbx")
    tasks = []
    for path in sorted(rigs.iterdir()):
        source = TaskInput(str(path), path.name)
        if path.suffix == ".bvh":
            tasks.append(Task(path.stem, {"motion": source}, str(place / path.stem)))
            inputs = {"skin": ada, "motion": source}
            tasks.append(Task(f"on_{path.stem}", inputs, str(place / f"on_{path.stem}")))
        else:
            inputs = {"skin": source, "motion": TaskInput(str(WAVE), WAVE.name)}
            tasks.append(Task(path.stem, inputs, str(place / path.stem)))
    outcomes = run_job(new_job("character", tasks), place)
    return {key: (outcome, place / key) for key, outcome in outcomes.items()}


def facts_of(inspected: dict[str, tuple[Outcome, Path]], key: str) -> dict:
    outcome, folder = inspected[key]
    assert outcome.error is None, outcome.error
    return dict(json.loads((folder / FACTS).read_text()))


@pytest.mark.integration
@pytest.mark.parametrize("naming", [*SHIPPED, "ready_player_me", "vrm"])
def test_a_person_of_each_naming_does_a_shipped_motion(
    inspected: dict[str, tuple[Outcome, Path]], naming: str
) -> None:
    facts = facts_of(inspected, naming)
    assert facts["rig_map"] == ("mixamo" if naming == "ready_player_me" else naming)
    cast = facts if "transfer" in facts else facts_of(inspected, f"on_{naming}")
    transfer = cast["transfer"]
    assert transfer["direction"] < 1.0 and transfer["worst_limb"] < 3.0
    assert transfer["slide_cm"] < 1.0 and transfer["penetration_cm"] < 0.5
    if facts["kind"] == "skin":
        assert sorted(t["name"] for t in facts["takes"]) == ["Lower", "Raise"]


@pytest.mark.integration
def test_bones_without_known_names_are_refused_with_what_to_do(
    inspected: dict[str, tuple[Outcome, Path]],
) -> None:
    error = inspected["anonymous"][0].error
    assert error is not None and "LeftForeArm" in error
    assert "posefactory rigs suggest anonymous.glb" in error


@pytest.mark.integration
def test_a_drafted_map_is_right_and_is_used_once_it_is_put_in_its_place(
    rigs: Path, factory: Factory, tmp_path: Path
) -> None:
    file = str(rigs / "anonymous.glb")
    factory.cli("characters", "add", file, "--name", "stranger")
    assert "not a humanoid" in factory.cli("run", "stranger", "--until", "character", expect=1)
    assert "cannot be made" in factory.cli("rigs", "suggest", file, "--to", file, expect=2)
    answer = json.loads(factory.cli("rigs", "suggest", file, "--to", str(tmp_path), "--json"))
    body = [b for b in HUMANOID if "Hand" not in b[:-4]]
    assert {b: answer["bones"].get(b) for b in body} == {b: f"b_{b}_x" for b in body}
    assert Path(answer["picture"]).stat().st_size > 10_000
    place = factory.root / "rigs"
    place.mkdir()
    Path(answer["map"]).rename(place / "anonymous.json")
    done = json.loads(factory.cli("run", "stranger", "--until", "character", "--json"))
    assert done["done"] == ["stranger"]
    assert "anonymous" in factory.cli("rigs", "list")
    # A map that is mended makes anew what was read by it, and nothing else does.
    first = factory.sets.current("character", "stranger")
    factory.cli("run", "stranger", "--until", "character")
    assert factory.sets.current("character", "stranger") == first
    mended = json.loads((place / "anonymous.json").read_text())
    del mended["bones"]["LeftShoulder"]
    (place / "anonymous.json").write_text(json.dumps(mended))
    factory.cli("run", "stranger", "--until", "character")
    second = factory.sets.current("character", "stranger")
    assert first is not None and second is not None and second.ref != first.ref
    assert (
        "LeftShoulder" in first.facts["rig_bones"]
        and "LeftShoulder" not in second.facts["rig_bones"]
    )
    (place / "broken.json").write_text("{}")
    assert "broken.json: no rig map" in factory.cli("run", "stranger", expect=2)


def test_names_are_told_by_all_required_bones_under_one_prefix() -> None:
    required = rig_map()["required"]
    unreal = next(n for n in namings() if n["name"] == "unreal")
    names = [
        "pelvis",
        "spine_01",
        "neck_01",
        "head",
        *(
            f"{b}_{s}"
            for s in "lr"
            for b in ("upperarm", "lowerarm", "hand", "thigh", "calf", "foot")
        ),
    ]
    assert fit(names, unreal, required).missing == []
    prefixed = fit([f"Game:{n.upper()}" for n in names], unreal, required)
    assert prefixed.missing == [] and prefixed.bones["LeftArm"] == "Game:UPPERARM_L"
    torn = fit([n for n in names if n != "calf_r"], unreal, required)
    assert torn.missing == ["RightLeg"]
    best = best_fit(names, namings(), required)
    assert best is not None and best.naming == "unreal"


def test_no_two_bones_of_the_humanoid_have_one_name() -> None:
    for naming in namings():
        match = fit(
            [s[0] for s in _first_spellings(naming).values()], naming, rig_map()["required"]
        )
        assert match.missing == [] and len(set(match.bones.values())) == len(match.bones), naming[
            "name"
        ]


def _first_spellings(naming: dict) -> dict[str, list[str]]:
    return {
        bone.format(Side=side, side=naming["sides"].get(side, "")): [
            n.format(Side=side, side=naming["sides"].get(side, "")) for n in names
        ]
        for bone, names in naming["bones"].items()
        for side in (("Left", "Right") if "{Side}" in bone else ("",))
    }


def test_a_skeleton_that_is_no_person_is_not_drafted() -> None:
    chain = [
        Bone(name=f"b{i}", parent=f"b{i - 1}" if i else None, head=(0, 0, i), tail=(0, 0, i + 1))
        for i in range(9)
    ]
    with pytest.raises(RigError, match="no bone from which two legs"):
        suggest(chain)


def test_what_other_armatures_carry_is_kept_where_somebody_wears_it(
    blender_script: Callable[..., Any], tmp_path: Path
) -> None:
    """A hat with a bone of its own hangs on the head, a shirt with the person's bones follows these, a horse is left out."""
    found = blender_script("read_armatures.py", SAMPLES / "ada_walk.fbx", tmp_path)
    assert found["meshes"] == ["Body", "HatMesh", "ShirtMesh"]
    assert found["props"] == {"HatMesh": ["mixamorig:Head", [0.0, 0.0, 1.75]]}
    assert "left out: HorseMesh" in found["warnings"][0]
