"""Splits that never move, and annotations that COCO's own tool reads."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from blender_scripts.contract import COCO_KEYPOINTS, LANDMARKS
from posefactory_dagster.datasets import coco, splits
from posefactory_dagster.settings import DatasetSettings

NAMES = st.lists(st.from_regex(r"[a-z]{1,8}", fullmatch=True), unique=True, min_size=1, max_size=30)


@given(NAMES, NAMES)
def test_a_character_keeps_its_split_as_the_set_grows(first: list[str], more: list[str]) -> None:
    settings = DatasetSettings()
    before = splits.assign({n: n for n in first}, settings)
    after = splits.assign({n: n for n in dict.fromkeys(first + more)}, settings)
    assert all(after[n] == before[n] for n in first)


def test_all_motions_of_a_skin_share_its_split() -> None:
    digests = {f"hero{i}{m}": f"sha{i}" for i in range(40) for m in ("", "__walk", "__kick")}
    got = splits.assign(digests, DatasetSettings())
    for i in range(40):
        assert got[f"hero{i}"] == got[f"hero{i}__walk"] == got[f"hero{i}__kick"]
    assert set(got.values()) == set(splits.SPLITS)


def test_one_file_under_two_names_is_not_split() -> None:
    digests = {f"a{i}": f"sha{i}" for i in range(30)} | {f"b{i}": f"sha{i}" for i in range(30)}
    got = splits.assign(digests, DatasetSettings())
    assert all(got[f"a{i}"] == got[f"b{i}"] for i in range(30))


def test_annotation_orders_keypoints_and_blanks_what_is_out_of_frame() -> None:
    pixels = np.arange(66, dtype=float).reshape(33, 2) + 0.5
    visibility = np.full(33, 2)
    visibility[LANDMARKS.index("right_ankle")] = 0
    visibility[LANDMARKS.index("left_eye")] = 1
    mask = np.zeros((80, 80), bool)
    mask[10:20, 5:25] = True
    got = coco.annotation(1, COCO_KEYPOINTS, pixels, visibility, np.array([5, 10, 20, 10.0]), mask)
    points = np.array(got["keypoints"]).reshape(17, 3)
    assert points[0].tolist() == [0.5, 1.5, 2]
    assert points[1].tolist() == [*pixels[LANDMARKS.index("left_eye")], 1]
    assert points[16].tolist() == [0, 0, 0]
    assert got["num_keypoints"] == 16 and got["area"] == 200


def test_skeletons_name_existing_keypoints() -> None:
    for keypoints in (COCO_KEYPOINTS, LANDMARKS):
        category = coco.category(keypoints)
        assert all(1 <= i <= len(keypoints) for limb in category["skeleton"] for i in limb)
        left_arm = [
            keypoints.index("left_shoulder") + 1,
            keypoints.index("left_elbow") + 1,
        ]
        assert left_arm in category["skeleton"]
