"""The built-in enhancer: repeatable, of the same size, in the light of the place, and true to the pose."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from posefactory_dagster.quality.gate import Gate
from posefactory_dagster.quality.records import Parameters
from posefactory_dagster.styles import RelightOptions, Style, read_style
from posefactory_dagster.variants.enhancers import relight
from posefactory_dagster.variants.enhancers.base import CannotEnhance
from posefactory_dagster.variants.enhancers.relight import Relight
from posefactory_dagster.variants.shots import Shots

PLACES = read_style("places")


def parameters(seed: int = 1, strength: float = 0.8) -> Parameters:
    return Parameters(strength=strength, control=0.5, seed=seed)


def opened(data: bytes) -> np.ndarray:
    with Image.open(io.BytesIO(data)) as image:
        return np.asarray(image.convert("RGB"))


def with_options(**options: object) -> Style:
    return PLACES.model_copy(update={"options": RelightOptions(**options)})  # type: ignore[arg-type]


def test_a_seed_gives_the_same_bytes_and_another_seed_others(shots: Shots) -> None:
    shot = shots.read(0)
    one, again, other = (
        Relight(PLACES).enhance(shot, PLACES, parameters(seed)).data for seed in (1, 1, 2)
    )
    assert one == again != other
    assert opened(one).shape == shot.subject.pixels.shape


def test_the_pose_survives_in_most_places(shots: Shots, gate: Gate) -> None:
    shot, enhancer = shots.read(0), Relight(PLACES)
    raw = gate.look(shot.subject)
    assert gate.judgeable(raw)
    verdicts = [
        gate.judge(shot.subject, raw, enhancer.enhance(shot, PLACES, parameters(s)).data)
        for s in range(1, 13)
    ]
    assert sum(v.passes for v in verdicts) >= 9


def test_the_person_stays_on_its_pixels(shots: Shots) -> None:
    """Where the person is, the picture follows the render; where it is not, it does not."""
    shot = shots.read(0)
    style = with_options(blur=(0, 0), grain=(0, 0), jpeg_quality=(95, 95), white_balance=0)
    made = (
        opened(Relight(style).enhance(shot, style, parameters(3)).data).astype(float).mean(axis=-1)
    )
    render = shot.subject.pixels.astype(float).mean(axis=-1)
    inside = shot.subject.mask
    assert np.corrcoef(made[inside], render[inside])[0, 1] > 0.7
    assert made[~inside].std() > 10 > render[~inside].std()


def test_light_from_the_left_brightens_the_left(
    shots: Shots, monkeypatch: pytest.MonkeyPatch
) -> None:
    shot = shots.read(0)
    bright = {}
    for side in (-1, 1):
        place = relight.Background(
            relight.shipped()["room"][0].path, 90.0, np.full(3, 0.2, np.float32),
            np.full(3, 1.5, np.float32), np.array([side, 0, -0.2], np.float32),
        )  # fmt: skip
        monkeypatch.setattr(relight, "backgrounds", lambda _, place=place: [place])
        style = with_options(exposure=(0, 0), blur=(0, 0), grain=(0, 0), white_balance=0)
        made = opened(Relight(style).enhance(shot, style, parameters(5, 1.0)).data).astype(float)
        columns = np.nonzero(shot.subject.mask)[1]
        left_half = np.arange(made.shape[1]) < np.median(columns)
        light = made.mean(axis=-1)
        bright[side] = (
            light[shot.subject.mask & left_half].mean()
            / light[shot.subject.mask & ~left_half].mean()
        )
    assert bright[-1] > 1.15 * bright[1]


def test_photos_of_ones_own_are_backgrounds(shots: Shots, tmp_path: Path) -> None:
    Image.new("RGB", (640, 480), (30, 120, 60)).save(tmp_path / "meadow.jpg")
    style = with_options(backgrounds=(str(tmp_path),), background_blur=(0, 0))
    made = Relight(style).enhance(shots.read(0), style, parameters())
    assert made.answer["background"] == "meadow"
    corner = opened(made.data)[:40, :40].reshape(-1, 3).mean(axis=0)
    assert corner.argmax() == 1
    before = Relight(style).name
    Image.new("RGB", (640, 480), (30, 60, 120)).save(tmp_path / "sea.jpg")
    assert Relight(style).name != before  # what can be drawn from is part of what makes an image


def test_a_background_that_is_none_says_what_there_is(tmp_path: Path) -> None:
    with pytest.raises(CannotEnhance, match="choose map, room, street, or a folder"):
        Relight(with_options(backgrounds=(str(tmp_path),)))
    (tmp_path / "broken.jpg").write_bytes(b"no picture")
    with pytest.raises(CannotEnhance, match=r"broken\.jpg: not a picture"):
        Relight(with_options(backgrounds=(str(tmp_path),)))


def test_normals_look_towards_the_camera(shots: Shots) -> None:
    shot = shots.read(0)
    normals = relight._normals(shot)
    inside = shot.depth > 0
    assert np.linalg.norm(normals[inside], axis=-1) == pytest.approx(1, abs=1e-4)
    assert (normals[inside][:, 2] < 0).mean() > 0.97
    columns = np.nonzero(inside)[1]
    middle = np.median(columns)
    left = inside & (np.arange(inside.shape[1]) < middle)
    assert normals[left][:, 0].mean() < 0 < normals[inside & ~left][:, 0].mean()
