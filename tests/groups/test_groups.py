"""Several people in one image: where they stand, and what is said of each."""

from __future__ import annotations

import dataclasses
import json
import math
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from pycocotools.coco import COCO

from blender_scripts.contract import (
    ARRANGEMENT,
    ARRANGEMENTS,
    BODY_PARTS,
    LANDMARKS,
    OCCLUDERS,
    Place,
    Task,
    TaskInput,
    role_of,
)
from posefactory_dagster.compute.job import new_job
from posefactory_dagster.compute.process import run_job
from posefactory_dagster.quality.accuracy import matched
from posefactory_dagster.renders.documents import person_rows, read_mask
from posefactory_dagster.renders.validation import check_renders
from tests.conftest import SAMPLES, SMALL, Factory, run_rendering

FILES = [SAMPLES / f"{name}.fbx" for name in ("ada_walk", "bruno_squat", "chen_jack")]
SETTINGS = dataclasses.replace(SMALL, num_angles=4, width=160, height=160, samples=4)


def _task(folder: Path, files: list[Path], places: tuple[Place, ...] = (), **more: Any) -> Task:
    inputs = {role_of("skin", i): TaskInput(str(f), f.name) for i, f in enumerate(files)}
    places = places or tuple(Place(f.stem) for f in files)
    return Task("group", inputs, str(folder), places=places, **more)


def _arrange(folder: Path, how: str, **more: Any) -> tuple[str | None, Path]:
    folder.mkdir()
    task = _task(folder / "out", FILES, arrangement=how, seed=5, **more)
    outcome = run_job(new_job("arrange", [task]), folder)["group"]
    return outcome.error, folder / "out" / ARRANGEMENT


@pytest.fixture(scope="module")
def arranged(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    place = tmp_path_factory.mktemp("arranged")
    found = {}
    for how in ARRANGEMENTS:
        error, found[how] = _arrange(place / how, how)
        assert error is None, error
    return found


@pytest.fixture(scope="module")
def rendered(arranged: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The three of them one behind another, so that they hide each other."""
    place = tmp_path_factory.mktemp("rendered")
    stands = tuple(Place(**p) for p in json.loads(arranged["behind"].read_text())["places"])
    settings = dataclasses.replace(SETTINGS, extra_truth="parts")
    outcome = run_job(new_job("render", [_task(place / "out", FILES, stands)], settings), place)["group"]  # fmt: skip
    assert outcome.error is None, outcome.error
    return place / "out"


@pytest.mark.parametrize("how", ARRANGEMENTS)
def test_nobody_touches_another_in_any_frame(
    how: str, arranged: dict[str, Path], blender_script: Callable[..., Any]
) -> None:
    """By Blender's overlap of the meshes, which shares nothing with the cells that places are found by."""
    found = blender_script("prove_group.py", arranged[how], 23, *FILES)
    assert found["touching"] == 0 and found["frames"] == 23
    # Who walks stays in place: its way is taken out.
    moved = np.array(found["first"]) - np.array(found["last"])
    assert np.linalg.norm(moved[:, :2], axis=1).max() < 0.6


def test_arrangements_are_what_they_are_called(arranged: dict[str, Path]) -> None:
    places = {how: json.loads(path.read_text())["places"] for how, path in arranged.items()}
    assert all(len({p["key"] for p in mine}) == 3 for mine in places.values())
    assert len({json.dumps(mine) for mine in places.values()}) == len(ARRANGEMENTS)
    # The same files, seed and arrangement give the same places.
    error, again = _arrange(arranged["crowd"].parents[2] / "again", "crowd")
    assert error is None and json.loads(again.read_text())["places"] == places["crowd"]


def test_too_little_room_is_told(tmp_path: Path) -> None:
    error, _ = _arrange(tmp_path / "tight", "side_by_side", spacing_m=0.2)
    assert error is not None and "stand in each other" in error and "group:" in error


def test_every_person_has_complete_truth(rendered: Path) -> None:
    names = [str(p.relative_to(rendered)) for p in rendered.rglob("*") if p.is_file()]
    document = json.loads((rendered / "truth.json").read_text())
    settings = dataclasses.replace(SETTINGS, extra_truth="parts").resolved()
    paths = {n: rendered / n for n in names}
    check_renders(paths, "group", document["frames"], settings, {}, persons=3, decode=True)
    assert [p["key"] for p in document["persons"]] == ["ada_walk", "bruno_squat", "chen_jack"]
    with np.load(rendered / "truth.npz") as truth:
        arrays = {n: truth[n] for n in truth.files}
    assert arrays["pixels"].shape == (4, 3, 33, 2) and arrays["origin"].shape == (3, 33)
    for i, record in enumerate(document["images"]):
        mask = read_mask(rendered / "masks" / record["file"])
        whose = np.asarray(Image.open(rendered / "instances" / record["file"]))
        assert ((whose > 0) == mask).all()
        for person in range(3):
            rows, columns = np.nonzero(whose == person + 1)
            assert arrays["area"][i, person] == len(rows)
            if len(rows):
                x, y, w, h = arrays["bbox"][i, person]
                assert (x, y) == (columns.min(), rows.min())
                assert (x + w, y + h) == (columns.max() + 1, rows.max() + 1)
                ax, ay, aw, ah = arrays["amodal_bbox"][i, person]
                assert ax <= x + 1 and ay <= y + 1 and ax + aw >= x + w - 1 and ay + ah >= y + h - 1
    # Who hides whom: by the pixels, the landmark's own place shows that person.
    by = arrays["occluded_by_person"]
    assert ((by >= 0) == (arrays["occluded_by"] == OCCLUDERS.index("person"))).all()
    assert (by >= 0).sum() > 20 and all((by[:, p] != p).all() for p in range(3))
    agreed = []
    for i, person, landmark in zip(*np.nonzero(by >= 0), strict=True):
        x, y = np.floor(arrays["pixels"][i, person, landmark]).astype(int)
        whose = np.asarray(Image.open(rendered / "instances" / document["images"][i]["file"]))
        window = whose[max(y - 1, 0) : y + 2, max(x - 1, 0) : x + 2]
        agreed.append((window == 1 + by[i, person, landmark]).any())
    assert np.mean(agreed) == 1.0


def test_a_person_of_a_group_is_the_single_one_moved(
    arranged: dict[str, Path], rendered: Path, tmp_path: Path
) -> None:
    """In closed form: the landmarks of the same frame of its own motion, turned about the upright and moved on the floor."""
    places = json.loads(arranged["behind"].read_text())["places"]
    frames = json.loads((rendered / "truth.json").read_text())["frames"]
    with np.load(rendered / "truth.npz") as truth:
        together = truth["world"][0]
    place = places[1]
    outcome, alone = run_rendering(tmp_path, FILES[1], num_angles=1, frames_per_clip=1000, width=16, height=16)  # fmt: skip
    assert outcome.error is None
    document = json.loads((alone / "truth.json").read_text())
    start, end = document["frame_range"]
    own = start + (frames[0] - 1 + place["ahead"]) % (end - start)
    index = [r["frame"] for r in document["images"]].index(own)
    with np.load(alone / "truth.npz") as truth:
        points = truth["world"][index, 0]
    angle = math.radians(place["turn_degrees"])
    turned = points @ np.array([[math.cos(angle), math.sin(angle), 0], [-math.sin(angle), math.cos(angle), 0], [0, 0, 1]])  # fmt: skip
    gone = together[1] - turned - (place["x"], place["y"], 0.0)
    # What is left is the way that was taken out, the same for all of the body.
    assert np.abs(gone - gone.mean(axis=0)).max() < 2e-3 and np.abs(gone[:, 2]).max() < 2e-3


def test_parts_are_where_their_landmarks_are(rendered: Path) -> None:
    """A visible wrist, knee or nose lies on a pixel of a part that it belongs to: two ways to know, rays and the renderer."""
    belongs = {
        "nose": ("head",), "left_elbow": ("left_upper_arm", "left_lower_arm"), "right_elbow": ("right_upper_arm", "right_lower_arm"),
        "left_knee": ("left_upper_leg", "left_lower_leg"), "right_knee": ("right_upper_leg", "right_lower_leg"),
        "left_index": ("left_hand",), "right_index": ("right_hand",), "left_heel": ("left_foot", "left_lower_leg"),
        "right_heel": ("right_foot", "right_lower_leg"),
    }  # fmt: skip
    document = json.loads((rendered / "truth.json").read_text())
    with np.load(rendered / "truth.npz") as truth:
        arrays = {n: truth[n] for n in truth.files}
    right = tried = 0
    for i, record in enumerate(document["images"]):
        parts = np.asarray(Image.open(rendered / "parts" / record["file"]))
        assert ((parts > 0) == read_mask(rendered / "masks" / record["file"])).all()
        for name, wanted in belongs.items():
            k = LANDMARKS.index(name)
            for person in range(3):
                if arrays["visible_part"][i, person, k] and arrays["visible"][i, person, k]:
                    x, y = np.floor(arrays["pixels"][i, person, k]).astype(int)
                    near = parts[max(y - 1, 0) : y + 2, max(x - 1, 0) : x + 2]
                    tried += 1
                    right += any((near == 1 + BODY_PARTS.index(w)).any() for w in wanted)
    assert tried > 40 and right / tried > 0.97


def test_feet_that_stand_are_on_the_floor(rendered: Path) -> None:
    with np.load(rendered / "truth.npz") as truth:
        height, contact = truth["foot_height_m"][0], truth["foot_contact"][0]
    assert (contact == (height <= 0.02)).all()
    # Who squats stands on both feet; nobody sinks.
    assert contact[1].any() and height.min() > -0.02


def test_found_people_are_matched_to_whom_they_agree_with() -> None:
    chance = np.random.default_rng(3)
    truth = chance.uniform(0, 100, (3, 33, 2)) + np.array([[[0, 0]], [[300, 0]], [[600, 0]]])
    measured = np.ones((3, 33), bool)
    boxes = np.array([[0, 0, 100, 100], [300, 0, 100, 100], [600, 0, 100, 100.0]])
    areas = np.array([5000, 5000, 0])
    found = [truth[2], truth[1] + 2, truth[0] + 1, np.full((33, 2), 900.0)]
    # The third is seen nowhere, so that nobody can have found it.
    assert matched(truth, measured, boxes, areas, found) == [2, 1, None]
    assert matched(truth, measured, boxes, areas, []) == [None] * 3


def test_arrays_of_one_person_and_of_three_become_rows() -> None:
    arrays = {"pixels": np.arange(2 * 3 * 33 * 2.0).reshape(2, 3, 33, 2), "origin": np.full((3, 33), "bone"), "rotation": np.stack([np.eye(3)] * 2)}  # fmt: skip
    rows = person_rows(arrays)
    assert rows["pixels"].shape == (6, 33, 2) and rows["rotation"].shape == (6, 3, 3)
    assert (rows["pixels"][4] == arrays["pixels"][1, 1]).all()


def test_groups_on_the_command_line_and_what_is_refused(factory: Factory) -> None:
    factory.add_sample("ada_walk", "ada")
    factory.add_sample("bruno_squat", "bruno")
    assert "not registered" in factory.cli("groups", "add", "pair", "ada", "nobody", expect=2)
    assert "at least 2" in factory.cli("groups", "add", "pair", "ada", expect=2)
    assert "at most 6" in factory.cli("groups", "add", "pair", *["ada"] * 7, expect=2)
    assert "spacing_m" in factory.cli("groups", "add", "pair", "ada", "bruno", "--spacing", "9", expect=2)  # fmt: skip
    assert "arrangement" in factory.cli("groups", "add", "pair", "ada", "bruno", "--arrangement", "pile", expect=2)  # fmt: skip
    assert "a character has this key" in factory.cli("groups", "add", "ada", "ada", "bruno", expect=2)  # fmt: skip
    factory.cli("groups", "add", "pair", "ada", "bruno")
    assert "is a group itself" in factory.cli("groups", "add", "more", "pair", "ada", expect=2)
    assert "is in the group pair" in factory.cli("characters", "remove", "ada", expect=2)
    assert "is a group" in factory.cli("characters", "remove", "pair", expect=2)
    drawn = json.loads(factory.cli("groups", "sample", "3", "--seed", "1", "--json"))
    assert len(drawn) == 3 and all(2 <= len(r["members"]) <= 4 for r in drawn)
    listed = json.loads(factory.cli("groups", "list", "--json"))
    assert [r["key"] for r in listed] == ["pair", *(r["key"] for r in drawn)]
    factory.cli("groups", "remove", "pair", *(r["key"] for r in drawn))
    assert json.loads(factory.cli("groups", "list", "--json")) == []


def _character_of(factory: Factory, key: str) -> str:
    """What materializing the character of a key alone says, when its members were inspected anew."""
    factory.cli("run", "ada", "--until", "character")
    command = [sys.executable, "-m", "dagster", "asset", "materialize", "-m", "posefactory_dagster.definitions", "--select", "character", "--partition", key]  # fmt: skip
    done = subprocess.run(command, env=factory.environment, cwd=factory.root, capture_output=True, text=True, check=False)  # fmt: skip
    return done.stdout + done.stderr


def test_a_group_goes_all_the_way_to_a_dataset(factory: Factory) -> None:
    """One command inspects the members, arranges them, renders, labels, and exports several annotations for each image; a group that
    cannot be placed fails alone, with its reason."""
    factory.add_sample("ada_walk", "ada")
    factory.add_sample("bruno_squat", "bruno")
    factory.cli("groups", "add", "pair", "ada", "bruno")
    factory.cli("groups", "add", "tight", "ada", "bruno", "--spacing", "0.2")
    said = json.loads(factory.cli("run", "pair", "tight", "--json", expect=1))
    assert said["done"] == ["pair"] and "stand in each other" in said["failed"]["tight"]
    folder = Path(said["dataset"]["dataset"])
    coco = COCO(str(folder / "annotations" / "person_keypoints_all.json"))
    assert len(coco.imgs) == 2 and len(coco.anns) == len(set(coco.anns)) == 4
    for image in coco.imgs:
        mine = coco.loadAnns(coco.getAnnIds(imgIds=image))
        assert {a["person"] for a in mine} == {"ada", "bruno"} and not any(a["iscrowd"] for a in mine)  # fmt: skip
        one, other = (coco.annToMask(a) for a in mine)
        assert not (one & other).any() and one.sum() == mine[0]["area"]
    varied = json.loads(factory.cli("datasets", "variety", "--json"))
    assert varied["people"] == 4 and varied["shares"]["people"]["2"] == 1.0
    assert all(abs(sum(s.values()) - 1) < 1e-9 for s in varied["shares"].values())
    assert {"lying", "3 or more"} <= {h["value"] for h in varied["holes"]}
    before = factory.sets.readable("multi_angle_renders", "pair")
    factory.cli("characters", "add", str(FILES[2]), "--name", "ada", "--replace")
    assert "ada changed since it was arranged" in _character_of(factory, "pair")
    factory.cli("run", "--stale", "--json", expect=1)  # the tight one still cannot be placed
    after = factory.sets.readable("multi_angle_renders", "pair")
    assert before is not None and after is not None and before.ref != after.ref
    lines = [p.read_text().splitlines() for p in folder.glob("labels/*/*.txt")]
    assert [len(x) for x in lines] == [2, 2]
