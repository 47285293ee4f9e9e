"""Control pictures are drawn from the exact truth."""

from __future__ import annotations

import dataclasses

import numpy as np

from blender_scripts.contract import LANDMARKS
from posefactory_dagster.variants.controls import (
    CONTROLS,
    OPENPOSE_POINTS,
    depth,
    edges,
    openpose,
    palette,
)
from posefactory_dagster.variants.render_views import RenderViews

INDEX = {name: i for i, name in enumerate(LANDMARKS)}


def test_every_control_is_a_picture_of_the_renders_size(render_views: RenderViews) -> None:
    render_view = render_views.read(0)
    for draw in CONTROLS.values():
        picture = draw(render_view)
        assert picture.shape == render_view.subject.pixels.shape and picture.dtype == np.uint8
        assert picture.any() and not picture[:5].any()


def test_the_skeleton_has_each_joint_in_its_colour_where_the_truth_is(
    render_views: RenderViews,
) -> None:
    render_view = render_views.read(0)
    picture, truth = openpose(render_view), render_view.subject.arrays["pixels"][0]
    for number, names in enumerate(OPENPOSE_POINTS):
        if names[0].endswith(("eye", "ear")) or names == ("nose",):
            continue  # they overlap at this size
        x, y = truth[[INDEX[n] for n in names]].mean(axis=0)
        assert (picture[int(y), int(x)] == palette()[number]).all(), names
    assert tuple(palette()[0]) == (255, 0, 0)


def test_joints_outside_the_frame_are_left_out(render_views: RenderViews) -> None:
    render_view = render_views.read(0)
    whole = openpose(render_view)
    hidden = render_view.subject.arrays["visibility"].copy()
    hidden[0, INDEX["left_wrist"]] = 0
    arrays = {**render_view.subject.arrays, "visibility": hidden}
    subject = type(render_view.subject)(
        render_view.subject.pixels, render_view.subject.mask, arrays
    )
    cut = openpose(dataclasses.replace(render_view, subject=subject))
    assert (whole != cut).any() and cut.any(axis=-1).sum() < whole.any(axis=-1).sum()


def test_near_is_bright_and_the_background_black(render_views: RenderViews) -> None:
    render_view = render_views.read(0)
    grey = depth(render_view)[..., 0].astype(float)
    assert not grey[render_view.depth == 0].any()
    known = render_view.depth > 0
    assert np.corrcoef(grey[known], 1 / render_view.depth[known])[0, 1] > 0.99
    assert grey[known].max() == 255 and grey[known].min() > 60


def test_edges_lie_on_the_person(render_views: RenderViews) -> None:
    render_view = render_views.read(0)
    picture = edges(render_view)[..., 0] > 0
    near = np.zeros_like(render_view.subject.mask)
    rows, columns = np.nonzero(render_view.subject.mask)
    for dy in (-1, 0, 1):
        for dx in (-1, 0, 1):
            near[rows + dy, columns + dx] = True
    assert picture.any() and not (picture & ~near).any()
