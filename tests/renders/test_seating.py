"""Who sits gets something to sit on, that touches and hides people like anything else; who squats gets nothing."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from blender_scripts.contract import OCCLUDERS, RenderSettings, character_task
from posefactory_dagster.compute.job import new_job
from posefactory_dagster.compute.process import run_job
from posefactory_dagster.renders.documents import read_mask
from posefactory_dagster.settings import ASSETS_DATA, sample_characters

SIZE = 160
#: From the left and the right, low, over an even floor: what is under a person is seen.
LOOK = {
    "environment": {"ambient": 0.7}, "floor": {"kind": "concrete"}, "variants": 1,
    "cameras": {"kind": "placed", "placed": [{"position": [s * 3.0, 0.0, 0.5], "yaw": -90 * s, "fov": 40} for s in (1.0, -1.0)]},
}  # fmt: skip


def _rendered(folder: Path, motion: str, seats: bool, **changes: Any) -> Path:
    settings = RenderSettings(num_angles=2, width=SIZE, height=SIZE, engine="cycles", samples=4, looks="low", **changes).resolved()  # fmt: skip
    skin = next(p for p in sample_characters() if p.stem == "emil_kick")
    task = character_task("hero", str(skin), str(folder / "out"), str(ASSETS_DATA / "motions" / f"{motion}.bvh"))  # fmt: skip
    folder.mkdir()
    outcome = run_job(new_job("render", [task], settings, {"low": {**LOOK, "seats": seats}}), folder)["hero"]  # fmt: skip
    assert outcome.error is None, outcome.error
    return folder / "out"


def _read(folder: Path) -> tuple[dict[str, Any], dict[str, np.ndarray], dict[str, np.ndarray]]:
    document = json.loads((folder / "truth.json").read_text())
    with np.load(folder / "truth.npz") as stored:
        arrays = {n: stored[n][:, 0] for n in ("occluded_by", "pixels", "visibility", "area")}
    images = {i["file"]: np.asarray(Image.open(folder / "images" / i["file"]).convert("RGB")).astype(int) for i in document["images"]}  # fmt: skip
    return document, arrays, images


@pytest.fixture(scope="module")
def sitting(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A man who sits, with a seat and without."""
    place = tmp_path_factory.mktemp("sitting")
    return _rendered(place / "with", "sit", True), _rendered(place / "without", "sit", False)


def test_a_seat_is_under_the_hips_and_touches_them(sitting: tuple[Path, Path]) -> None:
    """By pixels: where both pictures differ beside the person is the seat, and it begins where the person ends."""
    document, arrays, with_seat = _read(sitting[0])
    _, _, without = _read(sitting[1])
    (kind,) = document["looks"]["low"]["drawn"]["seats"]
    assert kind in ("chair", "stool", "block", "bench")
    hips = [document["landmarks"].index(f"{s}_hip") for s in ("left", "right")]
    for number, record in enumerate(document["images"]):
        mask = read_mask(sitting[0] / "masks" / record["file"])
        seat = (np.abs(with_seat[record["file"]] - without[record["file"]]).max(axis=2) > 24) & ~mask  # fmt: skip
        x = round(float(arrays["pixels"][number, hips, 0].mean()))
        y = round(float(arrays["pixels"][number, hips, 1].mean()))
        lowest = y + int(np.flatnonzero(mask[y:, x])[-1])
        assert seat[lowest + 1 : lowest + 4, x].any(), record["file"]
        # It stands on the floor, which is as low as the shoes.
        assert abs(int(np.nonzero(seat)[0].max()) - int(np.nonzero(mask)[0].max())) < 0.08 * SIZE


def test_a_seat_hides_people_and_the_truth_names_an_object(tmp_path: Path) -> None:
    """From behind, above the legs: what the seat covers is in no mask."""
    behind = {"kind": "placed", "placed": [{"position": [0.0, -2.6, 0.35], "yaw": 180, "fov": 45}]}
    look = {**LOOK, "cameras": behind}
    areas, hidden = [], []
    for seats in (True, False):
        folder = tmp_path / str(seats)
        folder.mkdir()
        settings = RenderSettings(num_angles=2, frames_per_clip=1, width=SIZE, height=SIZE, engine="cycles", samples=2, looks="low").resolved()  # fmt: skip
        skin = next(p for p in sample_characters() if p.stem == "emil_kick")
        task = character_task("hero", str(skin), str(folder / "out"), str(ASSETS_DATA / "motions" / "sit.bvh"))  # fmt: skip
        outcome = run_job(new_job("render", [task], settings, {"low": {**look, "seats": seats}}), folder)["hero"]  # fmt: skip
        assert outcome.error is None, outcome.error
        _, arrays, _ = _read(folder / "out")
        areas.append(int(arrays["area"][0]))
        hidden.append(int((arrays["occluded_by"] == OCCLUDERS.index("object")).sum()))
    assert areas[0] < areas[1] and hidden[0] > hidden[1] == 0


def test_who_squats_needs_no_seat_and_who_sits_down_gets_it_before(tmp_path: Path) -> None:
    squatting = json.loads((_rendered(tmp_path / "squat", "squat", True, frames_per_clip=4) / "truth.json").read_text())  # fmt: skip
    assert "seats" not in squatting["looks"]["low"]["drawn"]
    folder = _rendered(tmp_path / "down", "sit_down", True, frames_per_clip=4)
    document, _, images = _read(folder)
    # One seat serves all frames in which he sits, and is seen while he still stands before it.
    assert len(document["looks"]["low"]["drawn"]["seats"]) == 1
    first = next(i for i in document["images"] if i["frame"] == min(document["frames"]))
    mask = read_mask(folder / "masks" / first["file"])
    picture = images[first["file"]]
    floor = np.median(picture[-8:][~mask[-8:]], axis=0)
    rows = slice(int(0.55 * SIZE), int(0.8 * SIZE))
    other = (np.abs(picture[rows] - floor).max(axis=2) > 24) & ~mask[rows]
    assert other.sum() > 50
