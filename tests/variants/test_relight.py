"""The built-in enhancer: repeatable, of the same size, in the light of the place, and true to the pose."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from posefactory_dagster.quality.gate import Gate, Subject
from posefactory_dagster.variants.documents import Parameters, Style, read_style
from posefactory_dagster.variants.enhancers import relight
from posefactory_dagster.variants.enhancers.base import CannotEnhance, RenderView
from posefactory_dagster.variants.enhancers.relight import Relight
from posefactory_dagster.variants.providers import RelightOptions
from posefactory_dagster.variants.render_views import RenderViews
from tests.conftest import run_blender_script

PLACES = read_style("places")


def parameters(seed: int = 1, strength: float = 0.8) -> Parameters:
    return Parameters(strength=strength, control=0.5, seed=seed)


def opened(data: bytes) -> np.ndarray:
    with Image.open(io.BytesIO(data)) as image:
        return np.asarray(image.convert("RGB"))


def with_options(**options: object) -> Style:
    return PLACES.model_copy(update={"options": RelightOptions(**options)})  # type: ignore[arg-type]


def test_a_seed_gives_the_same_bytes_and_another_seed_others(render_views: RenderViews) -> None:
    render_view = render_views.read(0)
    one, again, other = (
        Relight(PLACES).enhance(render_view, PLACES, parameters(seed)).data for seed in (1, 1, 2)
    )
    assert one == again != other
    assert opened(one).shape == render_view.subject.pixels.shape


def test_the_pose_survives_in_most_places(render_views: RenderViews, gate: Gate) -> None:
    render_view, enhancer = render_views.read(0), Relight(PLACES)
    raw = gate.look(render_view.subject)
    assert gate.judgeable(raw)
    verdicts = [
        gate.judge(
            render_view.subject, raw, enhancer.enhance(render_view, PLACES, parameters(s)).data
        )
        for s in range(1, 13)
    ]
    assert sum(v.passes for v in verdicts) >= 9


def test_the_person_stays_on_its_pixels(render_views: RenderViews) -> None:
    """Where the person is, the picture follows the render; where it is not, it does not."""
    render_view = render_views.read(0)
    style = with_options(blur=(0, 0), grain=(0, 0), jpeg_quality=(95, 95), white_balance=0)
    made = (
        opened(Relight(style).enhance(render_view, style, parameters(3)).data)
        .astype(float)
        .mean(axis=-1)
    )
    render = render_view.subject.pixels.astype(float).mean(axis=-1)
    inside = render_view.subject.mask
    assert np.corrcoef(made[inside], render[inside])[0, 1] > 0.7
    assert made[~inside].std() > 10 > render[~inside].std()


PLAIN = {"exposure": (0, 0), "blur": (0, 0), "grain": (0, 0), "white_balance": 0}


def place_with(
    key: float, direction: tuple[float, float, float], ambient: float = 0.3
) -> relight.Background:
    """A room with one light from one side, and an even one from everywhere."""
    around = np.zeros((9, 3), np.float32)
    around[0] = ambient / 0.282095
    towards = np.array(direction, np.float32)
    return relight.Background(
        relight.shipped()["room"][0].path, 90.0, around, np.full(3, key, np.float32),
        towards / np.linalg.norm(towards),
    )  # fmt: skip


@pytest.fixture
def lit(render_views: RenderViews, monkeypatch: pytest.MonkeyPatch) -> Callable[..., np.ndarray]:
    """The first render_view in a place of one's own: ``lit(place)`` is (H, W, 3), 0 to 255."""

    def work(place: relight.Background, seed: int = 5, **options: object) -> np.ndarray:
        monkeypatch.setattr(relight, "backgrounds", lambda _: [place])
        style = with_options(**{**PLAIN, **options})
        made = Relight(style).enhance(render_views.read(0), style, parameters(seed, 1.0))
        return opened(made.data).astype(float)

    return work


def test_light_from_a_side_brightens_that_side(
    render_views: RenderViews, lit: Callable[..., np.ndarray]
) -> None:
    mask, bright = render_views.read(0).subject.mask, {}
    columns = np.nonzero(mask)[1]
    left_half = np.arange(mask.shape[1]) < np.median(columns)
    for side in (-1, 1):
        light = lit(place_with(1.5, (side, 0, -0.2))).mean(axis=-1)
        bright[side] = light[mask & left_half].mean() / light[mask & ~left_half].mean()
    assert bright[-1] > 1.15 and bright[1] < 1 / 1.15


def test_light_from_behind_leaves_the_front_dark(
    render_views: RenderViews, lit: Callable[..., np.ndarray]
) -> None:
    inside = cv2.erode(render_views.read(0).subject.mask.astype(np.uint8), np.ones((9, 9))) > 0
    before = lit(place_with(1.0, (0, -0.3, -1)))[inside].mean()
    behind = lit(place_with(1.0, (0, -0.3, 1)))[inside].mean()
    assert behind < 0.75 * before


@pytest.mark.parametrize(("direction", "side"), [((-1, -0.6, 0), 1), ((1, -0.6, 0), -1)])
def test_the_shadow_falls_away_from_the_lamp(
    render_views: RenderViews, direction: tuple[float, float, float], side: int
) -> None:
    render_view = render_views.read(0)
    to_place = relight._towards(render_view, 0.0)
    place = place_with(2.0, direction)
    shadow = 1 - relight._shadow(render_view, to_place.T @ place.direction, place)
    contact = 1 - relight._shadow(
        render_view, to_place.T @ place.direction, place_with(0.0, direction)
    )
    columns = np.arange(shadow.shape[1])
    cast = shadow.sum(axis=0) - contact.sum(axis=0)
    ankles = render_view.subject.arrays["pixels"][0, [27, 28], 0].mean()
    assert side * ((cast * columns).sum() / cast.sum() - ankles) > 10
    assert contact.max() > 0.3, "feet touch the ground, whatever the light"


def test_no_light_of_the_render_is_left(
    render_views: RenderViews, lit: Callable[..., np.ndarray]
) -> None:
    """In even light every part of the body shows its own colour, whatever sun shone on it in the render."""
    render_view = render_views.read(0)
    inside = cv2.erode(render_view.subject.mask.astype(np.uint8), np.ones((5, 5))) > 0
    made = lit(place_with(0.0, (0, -1, 0), ambient=0.9))
    own = render_view.albedo[..., :3].astype(float)
    for channel in range(3):
        assert np.corrcoef(made[inside][:, channel], own[inside][:, channel])[0, 1] > 0.97
    render = render_view.subject.pixels.astype(float)
    assert np.corrcoef(render[inside].ravel(), own[inside].ravel())[0, 1] < 0.95


@pytest.mark.parametrize("key", [0.5, 5.0, 50.0])
def test_highlights_are_kept_however_bright_the_lamp(
    render_views: RenderViews, lit: Callable[..., np.ndarray], key: float
) -> None:
    mask = render_views.read(0).subject.mask
    made = lit(place_with(key, (0.3, -0.6, -1)))[mask]
    assert (made.min(axis=-1) >= 250).mean() < 0.01
    assert made.max(axis=-1).mean() > 40


def test_outlines_are_smooth(render_views: RenderViews) -> None:
    """The renderer's own alpha, whose edge pixels take steps between none and all."""
    alpha = render_views.read(0).albedo[..., 3]
    mask = render_views.read(0).subject.mask
    edge = (cv2.dilate(mask.astype(np.uint8), np.ones((3, 3))) > 0) & (
        cv2.erode(mask.astype(np.uint8), np.ones((3, 3))) == 0
    )
    assert len(np.unique(alpha[edge])) > 3
    assert ((alpha > 127) == mask).mean() > 0.995, "but where it is just half"


def test_edges_have_the_colours_of_the_body(render_views: RenderViews) -> None:
    """No light or dark seam: a pixel that the person fills in part has the colour of one nearby that it fills."""
    albedo = render_views.read(0).albedo.astype(int)
    full, part = albedo[..., 3] == 255, (albedo[..., 3] > 20) & (albedo[..., 3] < 255)
    colours = np.where(full[..., None], albedo[..., :3], 0).astype(np.uint8)
    brightest = cv2.dilate(colours, np.ones((7, 7))).astype(int)
    known = cv2.dilate(full.astype(np.uint8), np.ones((7, 7))) > 0
    over = (albedo[..., :3] - brightest).max(axis=-1)[part & known]
    assert len(over) > 200 and np.percentile(over, 95) <= 16


def test_a_limb_throws_its_shadow_on_the_body() -> None:
    """A wall with a bar half a metre before it: light from the left throws the bar's shadow to its right."""
    size = 128
    intrinsics = np.array([[[128.0, 0, 64], [0, 128.0, 64], [0, 0, 1]]])
    depth = np.full((size, size), 2.2, np.float32)
    depth[:, 56:64] = 2.0
    normals = np.zeros((size, size, 3), np.float32)
    normals[..., 2] = -1
    blank = np.zeros((size, size, 4), np.uint8)
    subject = Subject(blank[..., :3], depth > 0, {"intrinsics": intrinsics})
    render_view = RenderView(subject, depth, blank, normals, b"")
    direction = np.array([-1.0, 0, -1.0]) / np.sqrt(2)
    row = relight._reached(render_view, direction)[64]
    # 0.2 m before the wall at 45 degrees: the shadow lies 0.2 m to the right, 12 pixels at this distance.
    dark = np.nonzero(row < 0.5)[0]
    assert dark.min() >= 62 and 66 <= dark.mean() <= 76 and dark.max() < 84
    assert row[:54].min() > 0.9 and row[90:].min() > 0.9
    assert row[57:62].min() > 0.9, "the bar itself is lit"


def test_the_light_of_a_panorama_is_read_back() -> None:
    """A sky of one brightness with a lamp at a known place: direction, key and surroundings in closed form."""
    light = run_blender_script("read_light.py")
    for case in light:
        found = np.array(case["direction"])
        assert np.degrees(np.arccos(np.clip(found @ case["lamp"], -1, 1))) < 2
        assert case["key"] == pytest.approx(case["key_wanted"], rel=0.05)
        assert case["up"] == pytest.approx(case["sky"], rel=0.05)


def test_photos_of_ones_own_are_backgrounds(render_views: RenderViews, tmp_path: Path) -> None:
    Image.new("RGB", (640, 480), (30, 120, 60)).save(tmp_path / "meadow.jpg")
    style = with_options(backgrounds=(str(tmp_path),), background_blur=(0, 0))
    made = Relight(style).enhance(render_views.read(0), style, parameters())
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


def test_normals_agree_with_the_slope_of_the_depth(render_views: RenderViews) -> None:
    render_view = render_views.read(0)
    inside = cv2.erode((render_view.depth > 0).astype(np.uint8), np.ones((9, 9))) > 0
    assert np.linalg.norm(render_view.normals[inside], axis=-1) == pytest.approx(1, abs=1e-3)
    focal = render_view.subject.arrays["intrinsics"][0, 0, 0]
    middle = render_view.subject.arrays["intrinsics"][0, :2, 2]
    rows, columns = np.mgrid[: render_view.depth.shape[0], : render_view.depth.shape[1]] + 0.5
    rays = np.stack([(columns - middle[0]) / focal, (rows - middle[1]) / focal], axis=-1)
    points = np.dstack([rays * render_view.depth[..., None], render_view.depth])
    slope = np.cross(np.gradient(points, 4, axis=0), np.gradient(points, 4, axis=1))
    slope = slope / np.maximum(np.linalg.norm(slope, axis=-1, keepdims=True), 1e-12)
    angle = np.degrees(np.arccos(np.clip((slope * render_view.normals).sum(axis=-1), -1, 1)))
    assert np.median(angle[inside]) < 12, (
        "whole millimetres are a coarse slope, and no more than that"
    )


def test_a_lamp_in_a_photo_is_where_its_light_comes_from(
    render_views: RenderViews, tmp_path: Path
) -> None:
    photo = np.full((480, 640, 3), 60, np.uint8)
    photo[100:130, 500:530] = 255
    Image.fromarray(photo).save(tmp_path / "lamp.jpg")
    (place,) = relight.backgrounds((str(tmp_path),))
    assert place.direction[0] > 0.2 and place.direction[1] < -0.1 and place.direction[2] > 0.7
    Image.fromarray(np.full((480, 640, 3), 230, np.uint8)).save(tmp_path / "lamp.jpg")
    relight._read.cache_clear()
    assert relight.backgrounds((str(tmp_path),))[0].direction[2] < 0, "a white wall is no lamp"
