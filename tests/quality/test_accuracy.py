"""Metrics against cases computed by hand."""

from __future__ import annotations

import contextlib
import io
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval
from scipy.spatial.transform import Rotation

from blender_scripts.contract import COCO_KEYPOINTS, LANDMARKS
from posefactory_dagster.quality import accuracy
from posefactory_dagster.quality.accuracy import INDEX

SIZES = np.array([(512, 512)])


def scene() -> dict[str, np.ndarray]:
    """One image: a body 2 m away, focal 500 px, torso 0.5 m, so 125 px long."""
    rng = np.random.default_rng(0)
    world = rng.uniform(-0.4, 0.4, (1, 33, 3))
    for name, x, z in (("shoulder", 0.2, 0.5), ("hip", 0.1, 0.0), ("elbow", 0.5, 0.4), ("wrist", 0.7, 0.3), ("knee", 0.15, -0.4), ("ankle", 0.2, -0.8)):  # fmt: skip
        world[0, INDEX[f"left_{name}"]] = (x, 0, z)
        world[0, INDEX[f"right_{name}"]] = (-x, 0, z)
    pixels = np.stack([world[..., 0] * 250 + 256, 256 - world[..., 2] * 250], axis=-1)
    intrinsics = np.array([[[500.0, 0, 256], [0, 500, 256], [0, 0, 1]]])
    return {
        "world": world,
        "depth": np.full((1, 33), 2.0),
        "pixels": pixels,
        "visibility": np.full((1, 33), 2),
        "measured": np.ones((1, 33), bool),
        "intrinsics": intrinsics,
        "bbox": np.array([[100.0, 50, 300, 400]]),
        "area": np.array([40000]),
    }


def labels_at(pixels: np.ndarray, world: np.ndarray) -> np.ndarray:
    result = np.zeros((len(pixels), 33, 8))
    result[..., :2] = pixels / 512
    result[..., 5:8] = world
    return result


def test_perfect_labels_score_perfectly() -> None:
    arrays = scene()
    summary = accuracy.compare(
        arrays, labels_at(arrays["pixels"], arrays["world"]), SIZES
    ).summary()
    assert summary["pck_0.2"] == summary["pck_0.1"] == summary["detection_rate"] == 1
    assert summary["oks"] == pytest.approx(1) and summary["swaps"] == 0
    assert summary["aligned_error_cm"] == pytest.approx(0, abs=1e-9)


def test_torso_is_focal_times_length_over_depth() -> None:
    arrays = scene()
    torso = accuracy.torso_pixels(arrays["world"], arrays["depth"], np.array([500.0]))
    assert torso == pytest.approx([125.0])


def test_pck_counts_what_lies_within_the_threshold() -> None:
    arrays = scene()
    moved = arrays["pixels"].copy()
    moved[0, :11, 0] += 0.15 * 125  # within 0.2 of the torso, not within 0.1
    moved[0, 11:22, 0] += 0.30 * 125
    summary = accuracy.compare(arrays, labels_at(moved, arrays["world"]), SIZES).summary()
    assert summary["pck_0.2"] == pytest.approx(22 / 33)
    assert summary["pck_0.1"] == pytest.approx(11 / 33)


def test_landmarks_out_of_frame_do_not_count() -> None:
    arrays = scene()
    moved = arrays["pixels"].copy()
    moved[0, 0] += 400
    arrays["measured"][0, 0] = False
    agreement = accuracy.compare(arrays, labels_at(moved, arrays["world"]), SIZES)
    assert agreement.pck(0.2) == 1


def test_a_person_not_found_is_all_missed() -> None:
    arrays = scene()
    summary = accuracy.compare(arrays, np.full((1, 33, 8), np.nan), SIZES).summary()
    assert summary["detection_rate"] == summary["pck_0.2"] == summary["oks"] == 0
    assert np.isnan(summary["aligned_error_cm"])


def test_oks_is_cocos_formula() -> None:
    """Hand-computed: every keypoint 10 px off, sigmas and area as COCO defines them."""
    arrays = scene()
    moved = arrays["pixels"] + (10.0, 0.0)
    sigmas = np.array([26, 25, 25, 35, 35, 79, 79, 72, 72, 62, 62, 107, 107, 87, 87, 89, 89]) / 1000
    expected = np.exp(-(10.0**2) / ((2 * sigmas) ** 2 * 2 * 40000)).mean()
    got = accuracy.compare(arrays, labels_at(moved, arrays["world"]), SIZES).oks
    assert got == pytest.approx([expected], rel=1e-6)
    assert len(COCO_KEYPOINTS) == len(sigmas) and set(COCO_KEYPOINTS) <= set(LANDMARKS)


def test_left_and_right_exchanged_is_one_swap() -> None:
    arrays = scene()
    order = list(range(33))
    for left, right in accuracy.LIMB_PAIRS:
        order[left], order[right] = right, left
    agreement = accuracy.compare(
        arrays, labels_at(arrays["pixels"][:, order], arrays["world"]), SIZES
    )
    assert agreement.swapped.tolist() == [True]
    shifted = accuracy.compare(arrays, labels_at(arrays["pixels"] + 60, arrays["world"]), SIZES)
    assert shifted.swapped.tolist() == [False]


def test_alignment_forgives_place_turn_and_size_but_no_mirror() -> None:
    points = scene()["world"][0]
    turned = 1.7 * Rotation.from_euler("xyz", (0.3, -1.0, 2.0)).apply(points) + (3, -2, 5)
    assert accuracy.align(turned, points) == pytest.approx(points, abs=1e-9)
    mirrored = points * (-1, 1, 1)
    assert np.abs(accuracy.align(mirrored, points) - points).max() > 0.05


def oks_by_pycocotools(
    truth: np.ndarray, measured: np.ndarray, boxes: np.ndarray, areas: np.ndarray, found: np.ndarray
) -> list[float]:
    """The same by COCO's own evaluation."""
    ground, guesses = [], []
    for i in range(len(truth)):
        seen = 2 * measured[i, accuracy.COCO_INDEX].astype(int)
        ground.append(
            {
                "id": i + 1, "image_id": i, "category_id": 1, "iscrowd": 0, "bbox": boxes[i].tolist(), "area": float(areas[i]),
                "keypoints": np.column_stack([truth[i, accuracy.COCO_INDEX], seen]).ravel().tolist(),
                "num_keypoints": int((seen > 0).sum()),
            }
        )  # fmt: skip
        guess = np.column_stack([found[i, accuracy.COCO_INDEX], np.ones(17)]).ravel().tolist()
        guesses.append({"image_id": i, "category_id": 1, "keypoints": guess, "score": 1.0})
    with contextlib.redirect_stdout(io.StringIO()):
        gold = COCO()
        gold.dataset = {"info": {}, "images": [{"id": i} for i in range(len(truth))], "categories": [{"id": 1, "name": "person"}], "annotations": ground}  # fmt: skip
        gold.createIndex()
        evaluation = COCOeval(gold, gold.loadRes(guesses), "keypoints")
        evaluation.params.imgIds = list(range(len(truth)))
        evaluation._prepare()  # noqa: SLF001
        return [float(np.max(evaluation.computeOks(i, 1))) for i in range(len(truth))]


def test_oks_is_what_pycocotools_says() -> None:
    rng = np.random.default_rng(7)
    count = 200
    truth = rng.uniform(0, 512, (count, 33, 2))
    found = truth + rng.normal(0, 1, (count, 33, 2)) * rng.uniform(0, 60, (count, 1, 1))
    measured = rng.random((count, 33)) < rng.uniform(0, 1, (count, 1))
    measured[:10] = False  # COCO then asks how far outside the box the keypoints lie
    boxes = np.column_stack([rng.uniform(0, 300, (count, 2)), rng.uniform(20, 200, (count, 2))])
    areas = rng.uniform(100, 60_000, count)
    wanted = oks_by_pycocotools(truth, measured, boxes, areas, found)
    assert accuracy.keypoint_similarity(truth, measured, boxes, areas, found) == pytest.approx(wanted, abs=1e-12)  # fmt: skip
    found[3] = np.nan
    assert accuracy.keypoint_similarity(truth, measured, boxes, areas, found)[3] == 0


def test_stdout_lives_on_when_threads_measure() -> None:
    a = scene()
    found = a["pixels"] + 3
    values = a["pixels"], a["measured"], a["bbox"], a["area"], found
    before = sys.stdout
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda _: accuracy.keypoint_similarity(*values), range(256)))
    assert sys.stdout is before
