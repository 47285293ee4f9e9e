"""The truth, proven by what does not share its code."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from blender_scripts.contract import LANDMARKS, VIEW_NAMES_8, ring
from posefactory_dagster.renders import looks
from posefactory_dagster.renders.documents import person_rows
from posefactory_dagster.settings import ASSETS_DATA
from tests.conftest import SAMPLES, run_blender_script

INDEX = {name: i for i, name in enumerate(LANDMARKS)}


def load(folder: Path) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    with np.load(folder / "truth.npz") as arrays:
        return json.loads((folder / "truth.json").read_text()), person_rows(arrays)


def check(answer: dict[str, Any]) -> None:
    markers, sight = answer["markers"], answer["sight"]
    assert len(markers) >= 29 and max(markers.values()) < 0.5, markers
    # A ray and a rasterizer may differ where two surfaces touch; more than a few would be a fault.
    for what in ("part", "gap", "visible"):
        compared = sight[f"{what}_agree"] + sight[f"{what}_disagree"]
        assert compared > 100 and sight[f"{what}_disagree"] <= 0.02 * compared, sight
    assert sight["within_tolerance"] < 20, sight


def test_landmarks_are_where_blender_draws_them(blender_script: Callable[..., Any]) -> None:
    check(blender_script("prove_truth.py", SAMPLES / "ada_walk.fbx", "-", 24))


def test_landmarks_are_exact_under_the_cameras_of_every_look(
    blender_script: Callable[..., Any], tmp_path: Path
) -> None:
    """Lenses, heights, rolls, crops and placed cameras as looks draw them; by spheres, and by images of parts and of depth."""
    shipped = sorted((ASSETS_DATA / "looks").glob("*.yaml"))
    documents = {p.stem: looks.read(p).model_dump(mode="json", exclude_none=True) for p in shipped}
    documents["rolled"] = {"cameras": {"kind": "sphere", "count": 2, "elevation_degrees": [-20, 60], "roll_degrees": [-40, 40], "lens_mm": [18, 135]}}  # fmt: skip
    path = tmp_path / "looks.json"
    path.write_text(json.dumps(documents))
    answer = blender_script("prove_truth.py", SAMPLES / "ada_walk.fbx", "-", 24, path)
    check(answer)
    assert (
        answer["sight"]["part_agree"] > 500
    )  # of 33 landmarks x 2 cameras of each look, less what crops leave out


@pytest.fixture(scope="module")
def faces(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    folder = tmp_path_factory.mktemp("faces")
    samples = [SAMPLES / f"{name}.fbx" for name in ("ada_walk", "bruno_squat", "chen_jack")]
    return run_blender_script("prove_faces.py", folder, *samples)


def test_faces_are_where_anatomy_is_whatever_the_head_wears(faces: dict[str, Any]) -> None:
    assert len(faces) == 36
    for name, found in faces.items():
        # A head 1.4 times as large has 1.4 times the error, and wider ears stand further out.
        near = 0.014 if name.endswith("large_head") else 0.010
        lateral = 0.042 if name.endswith("large_head") else 0.036 if "_head" in name else 0.03
        told = {n: e for n, e in found["error"].items() if found["origin"][n] == "surface"}
        assert {"nose", "left_ear", "right_ear"} <= set(told), (name, found["origin"])
        assert max(told.values()) < near, (name, found["error"])
        assert max(found["lateral"].values()) < lateral, (
            name,
            found["lateral"],
        )


def test_eyes_that_are_not_there_are_placed_by_proportion_and_say_so(faces: dict[str, Any]) -> None:
    for name, found in faces.items():
        guessed = {n for n, origin in found["origin"].items() if origin == "proportion"}
        if name.endswith("no_eyes"):
            assert guessed == set(found["origin"]) - {"nose", "left_ear", "right_ear"}, name
        else:
            assert not guessed and not found["warnings"], (name, guessed, found["warnings"])


def test_landmarks_of_a_mixamo_cast(blender_script: Callable[..., Any], mixamo: Path) -> None:
    check(blender_script("prove_truth.py", mixamo / "ybot_tpose.fbx", mixamo / "ybot@kick.fbx", 24))


def test_front_faces_the_face_and_right_shows_the_right_side(render: Callable[..., Any]) -> None:
    outcome, folder = render(
        SAMPLES / "chen_jack.fbx", num_angles=8, frames_per_clip=3, width=64, height=64
    )
    assert outcome.error is None
    document, arrays = load(folder)
    assert [i["view"] for i in document["images"][:8]] == list(VIEW_NAMES_8)
    depth = arrays["depth"]
    for i, image in enumerate(document["images"]):
        ears = depth[i, [INDEX["left_ear"], INDEX["right_ear"]]]
        hips = arrays["pixels"][i, [INDEX["left_hip"], INDEX["right_hip"]], 0]
        if image["view"] == "front":
            assert depth[i, INDEX["nose"]] < ears.min() and hips[1] < hips[0]
        if image["view"] == "back":
            assert depth[i, INDEX["nose"]] > ears.max() and hips[1] > hips[0]
        if image["view"] == "right":
            assert depth[i, INDEX["right_hip"]] < depth[i, INDEX["left_hip"]]


def test_with_fit_the_character_is_whole_in_every_frame(render: Callable[..., Any]) -> None:
    for follow in ("frame", "clip"):
        _, folder = render(SAMPLES / "ada_walk.fbx", num_angles=4, frames_per_clip=3, follow=follow)
        document, arrays = load(folder)
        assert not any(i["cropped"] for i in document["images"])
        assert arrays["in_frame"].all() and (arrays["visibility"] > 0).all()
        for image in document["images"]:
            with Image.open(folder / "masks" / image["file"]) as opened:
                mask = np.asarray(opened.convert("L")) > 127
            assert mask.any()
            assert not (mask[0].any() or mask[-1].any() or mask[:, 0].any() or mask[:, -1].any())


def test_fixed_camera_may_crop_and_says_so(render: Callable[..., Any]) -> None:
    _, folder = render(
        SAMPLES / "chen_jack.fbx", preset="fixed", num_angles=1, width=160, height=64
    )
    document, arrays = load(folder)
    assert any(i["cropped"] for i in document["images"])
    outside = (
        (arrays["pixels"] < 0)
        | (arrays["pixels"] >= (document["settings"]["width"], document["settings"]["height"]))
    ).any(axis=-1)
    assert ((arrays["visibility"] == 0) == outside).all()
    assert (arrays["in_frame"] == ~outside).all() and outside.any()
    position = -arrays["rotation"][0].T @ arrays["translation"][0]
    assert position[2] == pytest.approx(1.6)


def test_close_ups_leave_parts_of_the_person_out_and_label_them_so(
    render: Callable[..., Any],
) -> None:
    options = {"num_angles": 8, "frames_per_clip": 2, "width": 96, "height": 96, "close_ups": 0.5}
    _, folder = render(SAMPLES / "ada_walk.fbx", **options)
    document, a = load(folder)
    close = np.array([i["close_up"] for i in document["images"]])
    assert 3 <= close.sum() <= 13 and (a["area"] > 0).all()
    assert (a["visibility"][~close] > 0).all() and (a["visibility"][close] == 0).any(
        axis=1
    ).mean() > 0.8
    assert all(i["cropped"] for i, near in zip(document["images"], close, strict=True) if near)
    _, again = render(SAMPLES / "ada_walk.fbx", **options)
    np.testing.assert_array_equal(load(again)[1]["pixels"], a["pixels"])
    # What the matrices say stays true of them: the world's points land on the pixels.
    inside = np.einsum("nij,nkj->nki", a["rotation"], a["world"]) + a["translation"][:, None]
    seen = np.einsum("nij,nkj->nki", a["intrinsics"], inside)
    assert seen[..., :2] / seen[..., 2:] == pytest.approx(a["pixels"])


def test_matrices_take_world_to_pixels(render: Callable[..., Any]) -> None:
    _, folder = render(SAMPLES / "ada_walk.fbx", width=120, height=80)
    document, a = load(folder)
    inside = np.einsum("nij,nkj->nki", a["rotation"], a["world"]) + a["translation"][:, None]
    assert inside == pytest.approx(a["camera"]) and inside[..., 2] == pytest.approx(a["depth"])
    seen = np.einsum("nij,nkj->nki", a["intrinsics"], inside)
    assert seen[..., :2] / seen[..., 2:] == pytest.approx(a["pixels"])
    assert np.linalg.det(a["rotation"]) == pytest.approx(1)


def test_head_without_eye_bones_and_feet_come_from_the_surface(render: Callable[..., Any]) -> None:
    _, folder = render(SAMPLES / "ada_walk.fbx")
    document, a = load(folder)
    origin = dict(zip(LANDMARKS, document["origin"], strict=True))
    assert origin["left_knee"] == "bone"
    assert origin["nose"] == origin["left_heel"] == origin["right_ear"] == "surface"
    world = a["world"][0]
    up = world[:, 2]
    assert (
        up[INDEX["left_eye"]]
        > up[INDEX["nose"]]
        > up[INDEX["mouth_left"]]
        > up[INDEX["left_shoulder"]]
    )
    assert up[[INDEX["left_heel"], INDEX["right_heel"]]].min() < 0.25


def test_what_the_camera_cannot_see_of_a_face_is_not_visible(render: Callable[..., Any]) -> None:
    _, folder = render(SAMPLES / "ada_walk.fbx", num_angles=8, width=256, height=256)
    document, a = load(folder)
    seen = {i["view"]: a["visible"][n] for n, i in enumerate(document["images"])}
    face = [INDEX[n] for n in LANDMARKS[:7]] + [INDEX["mouth_left"], INDEX["mouth_right"]]
    assert seen["front"][face].all() and not seen["back"][face].any()
    for side, other in (("left", "right"), ("right", "left")):
        assert seen[side][INDEX[f"{side}_eye"]] and seen[side][INDEX[f"{side}_ear"]]
        assert not seen[side][INDEX[f"{other}_eye"]] and not seen[side][INDEX[f"{other}_ear"]]
    # Today's other rule is kept beside it, and differs: from behind, the head is the nose's own part.
    back = [i["view"] for i in document["images"]].index("back")
    assert a["visible_part"][back, INDEX["nose"]] and a["occluder_gap_m"][back, INDEX["nose"]] > 0.1
    assert a["facing"][back, INDEX["nose"]] < 0.5 < 0.9 < a["facing"][0, INDEX["nose"]]
    assert np.isnan(a["facing"][:, INDEX["left_knee"]]).all()
    hit = document["parts"][a["first_hit_part"][back, INDEX["nose"]]]
    assert hit.endswith(("Head", "Neck"))
    assert ((a["visibility"] == 2) == a["visible"]).all() and not (
        a["visible"] & ~a["in_frame"]
    ).any()


def test_toes_and_heels_of_left_and_right_mirror_each_other(render: Callable[..., Any]) -> None:
    _, folder = render(SAMPLES / "ada_walk.fbx", kind="character")
    facts = json.loads((folder / "facts.json").read_text())
    for name in ("heel", "foot_index", "ear", "eye", "eye_outer"):
        left, right = (np.array(facts["rest_landmarks"][f"{s}_{name}"]) for s in ("left", "right"))
        assert left * (-1, 1, 1) == pytest.approx(right, abs=0.004), name


def test_view_names_for_other_numbers_are_degrees() -> None:
    assert [v.name for v in ring(16)][:3] == ["az_000", "az_022", "az_045"]
    assert len({v.name for v in ring(360)}) == 360


def test_same_seed_same_everything_another_seed_other_pixels(render: Callable[..., Any]) -> None:
    def run(seed: int) -> tuple[dict[str, np.ndarray], list[bytes]]:
        outcome, folder = render(SAMPLES / "bruno_squat.fbx", seed=seed, samples=2)
        assert outcome.error is None
        return load(folder)[1], [p.read_bytes() for p in sorted((folder / "images").iterdir())]

    truth_a, images_a = run(0)
    truth_b, images_b = run(0)
    truth_c, images_c = run(7)
    assert images_a == images_b and images_a != images_c
    for name in truth_a:
        np.testing.assert_array_equal(truth_a[name], truth_b[name])
        if name not in ("bbox", "area"):  # from pixels, which another seed changes
            np.testing.assert_array_equal(truth_a[name], truth_c[name])


def test_environment_map_lights_and_shows_behind(render: Callable[..., Any]) -> None:
    _, plain = render(SAMPLES / "ada_walk.fbx", num_angles=1)
    _, mapped = render(SAMPLES / "ada_walk.fbx", num_angles=1, background="forest")
    corner = []
    for folder in (plain, mapped):
        with Image.open(next((folder / "images").iterdir())) as image:
            corner.append(np.asarray(image.convert("RGB"))[:20, :20].reshape(-1, 3))
    assert corner[0].std(axis=0).max() == 0 and corner[1].std(axis=0).max() > 1


def test_depth_images_agree_with_the_landmarks_on_the_surface(render: Callable[..., Any]) -> None:
    _, folder = render(SAMPLES / "ada_walk.fbx", num_angles=4, width=512, height=512)
    document, a = load(folder)
    compared = 0
    for i, image in enumerate(document["images"]):
        with Image.open(folder / "depth" / image["file"]) as opened:
            metres = np.asarray(opened) / 1000.0
        with Image.open(folder / "masks" / image["file"]) as opened:
            mask = np.asarray(opened) > 127
        assert ((metres > 0) & ~mask).sum() == 0
        assert (metres > 0).sum() > 0.99 * mask.sum()
        if image["view"] != "az_000":
            continue
        for name in ("nose", "mouth_left", "mouth_right"):  # seen head-on, far from any outline
            x, y = a["pixels"][i, INDEX[name]].astype(int)
            assert metres[y, x] == pytest.approx(a["depth"][i, INDEX[name]], abs=0.01)
            compared += 1
    assert compared == 3
