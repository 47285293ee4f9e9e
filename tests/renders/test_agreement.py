"""All images of truth of a picture say the same: mask, depth, normals, parts, instances, boxes and optical flow, in the plain look and in a place."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from scipy import ndimage

from blender_scripts.contract import RenderSettings, SettingsError, character_task
from posefactory_dagster.compute.job import new_job
from posefactory_dagster.compute.process import run_job
from posefactory_dagster.settings import sample_characters

SAMPLE = next(p for p in sample_characters() if p.stem == "ada_walk")
SIZE = 320
PLACE = {
    "environment": {"ambient": 0.6}, "floor": {"kind": "concrete"}, "variants": 1, "props": {"count": 4, "distance_m": [0.2, 0.6]},
    "cameras": {"kind": "ring", "elevation_degrees": [0, 25], "azimuth_jitter_degrees": [-30, 30], "roll_degrees": [-20, 20], "lens_mm": [30, 70]},
    "effects": {"noise": [0, 0.03], "exposure_stops": [-0.5, 0.5]},
}  # fmt: skip


class Set:
    """A rendered set, read by OpenCV and numpy."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.document = json.loads((folder / "truth.json").read_text())
        with np.load(folder / "truth.npz") as stored:
            # One person.
            self.arrays = {n: stored[n][:, 0] if n in ("bbox", "area", "pixels", "visibility", "marker_pixels", "marker_visibility") else stored[n] for n in stored.files}  # fmt: skip

    def image(self, kind: str, number: int) -> np.ndarray:
        path = self.folder / kind / self.document["images"][number]["file"]
        found = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
        assert found is not None
        return found[..., ::-1] if found.ndim == 3 else found

    @property
    def count(self) -> int:
        return len(self.document["images"])


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Set:
    """Four frames of a walk, two views, in the plain look and in a place with things about."""
    folder = tmp_path_factory.mktemp("agreement")
    settings = RenderSettings(
        num_angles=2, frames_per_clip=4, frames="clip", width=SIZE, height=SIZE, engine="cycles", samples=4, looks="plain,place", extra_truth="parts,instances,flow"
    ).resolved()  # fmt: skip
    task = character_task("hero", str(SAMPLE), str(folder / "out"))
    outcome = run_job(new_job("render", [task], settings, {"place": PLACE}), folder)["hero"]
    assert outcome.error is None, outcome.error
    return Set(folder / "out")


def test_frames_follow_each_other_and_cameras_stand_still(clip: Set) -> None:
    images = clip.document["images"]
    assert clip.count == 4 * 2 * 2 and len({i["frame"] for i in images}) == 4
    frames = sorted({i["frame"] for i in images})
    assert frames == list(range(frames[0], frames[0] + 4)) and clip.document["fps"] > 0
    for look, view in {(i["look"], i["view"]) for i in images}:
        mine = [k for k, i in enumerate(images) if (i["look"], i["view"]) == (look, view)]
        for name in ("intrinsics", "rotation", "translation"):
            assert np.ptp(clip.arrays[name][mine], axis=0).max() == 0
        # What is drawn for a shot holds for all of it; noise is new in each frame.
        assert len({json.dumps(images[k].get("drawn")) for k in mine}) == 1


def test_boxes_and_areas_are_those_of_masks(clip: Set) -> None:
    for number in range(clip.count):
        mask = clip.image("masks", number) > 127
        rows, columns = np.nonzero(mask)
        box = [columns.min(), rows.min(), np.ptp(columns) + 1, np.ptp(rows) + 1]
        assert clip.arrays["bbox"][number].tolist() == box
        assert clip.arrays["area"][number] == mask.sum()
        assert clip.document["images"][number]["bbox"] == box


def test_depth_instances_and_parts_have_the_outline_of_the_mask(clip: Set) -> None:
    for number in range(clip.count):
        mask = clip.image("masks", number) > 127
        edge = ndimage.binary_dilation(mask) & ~ndimage.binary_erosion(mask)
        for kind, share in (("depth", 0.02), ("instances", 0.0), ("parts", 0.02)):
            other = clip.image(kind, number) > 0
            assert not (other & ~mask & ~edge).any(), kind
            # Depth is of one ray, which may find a gap between strands of hair where most of the pixel is covered.
            gaps = (mask & ~other & ~edge).sum()
            assert gaps <= (0.002 * mask.sum() if kind == "depth" else 0), (kind, gaps)
            assert (other != mask).sum() <= share * mask.sum(), kind


def test_normals_agree_with_the_slope_of_depth(clip: Set) -> None:
    angles = []
    for number in range(clip.count):
        depth = clip.image("depth", number).astype(float) / 1000
        mask = ndimage.binary_erosion(clip.image("masks", number) > 127, iterations=3)
        ys, xs = np.mgrid[:SIZE, :SIZE] + 0.5
        inverse = np.linalg.inv(clip.arrays["intrinsics"][number])
        points = np.stack([xs, ys, np.ones_like(xs)], axis=2) @ inverse.T * depth[..., None]
        across, down = (np.gradient(points, axis=a) for a in (1, 0))
        slope = np.cross(down, across)
        slope /= np.maximum(np.linalg.norm(slope, axis=2, keepdims=True), 1e-9)
        normal = clip.image("normals", number).astype(float) / 127.5 - 1
        # Where the surface goes on: depth of neighbours differs by less than 2 cm.
        smooth = mask & (ndimage.maximum_filter(depth, 3) - ndimage.minimum_filter(depth, 3) < 0.02)
        cosine = (slope * normal).sum(axis=2)[smooth] / np.linalg.norm(normal, axis=2)[smooth]
        angles.append(np.degrees(np.arccos(np.clip(cosine, -1, 1))))
    found = np.concatenate(angles)
    # Depth is in whole millimetres, a pixel about 6 mm wide; normals are smooth over the mesh's edges.
    assert len(found) > 20_000 and np.median(found) < 12 and np.percentile(found, 90) < 35


def test_unprojected_depth_lies_on_the_mesh(clip: Set, blender_script: Callable[..., Any]) -> None:
    median, most, worst = blender_script("prove_depth.py", clip.folder, SAMPLE)
    # Half a unit of the depth image is half a millimetre.
    assert median < 0.0005 and most < 0.001, (median, most, worst)


def _flow(clip: Set, number: int) -> tuple[np.ndarray, np.ndarray]:
    """As KITTI's development kit reads it: (H, W, 2) pixels, and where it is known."""
    stored = clip.image("flow", number)
    assert stored.dtype == np.uint16
    return (stored[..., :2].astype(float) - 2**15) / 64, stored[..., 2] > 0


def test_flow_leads_landmarks_and_markers_to_their_next_places(clip: Set) -> None:
    images = clip.document["images"]
    place = {(i["look"], i["view"], i["frame"]): k for k, i in enumerate(images)}
    away = []
    for number, image in enumerate(images):
        following = place.get((image["look"], image["view"], image["frame"] + 1))
        flow, known = _flow(clip, number)
        if following is None:
            assert not known.any()
            continue
        mask = clip.image("masks", number) > 127
        assert known[ndimage.binary_erosion(mask)].mean() > 0.995 and not known[~mask].any()
        for name in ("marker_pixels",):
            here, there = clip.arrays[name][number], clip.arrays[name][following]
            for k in np.flatnonzero(clip.arrays["marker_visibility"][number] == 2):
                column, row = (int(v) for v in here[k])
                if 0 <= row < SIZE and 0 <= column < SIZE and known[row, column]:
                    away.append(np.linalg.norm(flow[row, column] - (there[k] - here[k])))
    # Markers lie on the skin, flow is of what is seen: the clothes over it, which move with it but for folds.
    assert len(away) > 60 and np.median(away) < 0.2 and np.percentile(away, 90) < 1.0


def test_flow_carries_the_outline_into_the_next_frame(clip: Set) -> None:
    """By pixels alone: where flow leads from the mask, the next frame's mask is."""
    images = clip.document["images"]
    place = {(i["look"], i["view"], i["frame"]): k for k, i in enumerate(images)}
    shares, moved = [], []
    for number, image in enumerate(images):
        following = place.get((image["look"], image["view"], image["frame"] + 1))
        if (
            following is None or image["look"] != "plain"
        ):  # things hide other places in the next frame
            continue
        flow, known = _flow(clip, number)
        rows, columns = np.nonzero(known)
        ends = np.column_stack([columns, rows]) + 0.5 + flow[rows, columns]
        inside = ((ends >= 0) & (ends < SIZE)).all(axis=1)
        reached = ends[inside].astype(int)
        wide = ndimage.binary_dilation(clip.image("masks", following) > 127)
        shares.append(wide[reached[:, 1], reached[:, 0]].mean())
        moved.append(np.linalg.norm(flow[known], axis=1).max())
    assert min(shares) > 0.99 and max(moved) > 2, (shares, moved)


def test_flow_takes_a_clip() -> None:
    with pytest.raises(SettingsError, match='set frames = "clip"'):
        RenderSettings(extra_truth="flow")
