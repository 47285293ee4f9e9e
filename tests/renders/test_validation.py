"""What a worker sends is not believed: each kind of nonsense is refused before it becomes a set."""

from __future__ import annotations

import json
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from blender_scripts.contract import pictures, render_files, sample_frames
from posefactory_dagster.renders.validation import InvalidRenders, check_renders
from tests.conftest import SAMPLES, SMALL, run_rendering


@pytest.fixture(scope="module")
def rendered(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("rendered")
    outcome, folder = run_rendering(place, SAMPLES / "ada_walk.fbx")
    assert outcome.error is None
    return folder


def check(folder: Path) -> None:
    frames = sample_frames((2, 62), True, SMALL)
    wanted = pictures(frames, SMALL, "hero", {})
    paths = {n: folder / n for n in render_files([p.file for p in wanted])}
    check_renders(paths, "hero", frames, SMALL, {}, decode=True)


def edit(change: Callable[[dict[str, Any]], object]) -> Callable[[Path], None]:
    def work(folder: Path) -> None:
        document = json.loads((folder / "truth.json").read_text())
        change(document)
        (folder / "truth.json").write_text(json.dumps(document))

    return work


def arrays(**changes: Any) -> Callable[[Path], None]:
    def work(folder: Path) -> None:
        with np.load(folder / "truth.npz") as stored:
            values = {n: stored[n] for n in stored.files}
        for name, change in changes.items():
            changed = change(values[name].copy())
            if changed is None:
                values.pop(name)
            else:
                values[name] = changed
        np.savez(folder / "truth.npz", **values)

    return work


def put(value: float) -> Callable[[np.ndarray], np.ndarray]:
    def work(array: np.ndarray) -> np.ndarray:
        array.flat[0] = value
        return array

    return work


def bomb(folder: Path) -> None:
    image = next((folder / "images").iterdir())
    Image.new("1", (13_000, 13_000)).save(image)


def array_bomb(folder: Path) -> None:
    """A header that announces 300,000 images."""
    with zipfile.ZipFile(folder / "truth.npz") as archive:
        members = {n: archive.read(n) for n in archive.namelist()}
    members["area.npy"] = members["area.npy"].replace(b"(2, 1)", b"(300000, 1)")
    with zipfile.ZipFile(folder / "truth.npz", "w") as archive:
        for name, data in members.items():
            archive.writestr(name, data)


def truncated(folder: Path) -> None:
    image = next((folder / "depth").iterdir())
    image.write_bytes(image.read_bytes()[:-200])


FAULTS: dict[str, tuple[Callable[[Path], None], str]] = {
    "not a number": (arrays(pixels=put(np.nan)), "pixels has values that are not finite"),
    "huge": (arrays(world=put(1e30)), "world has values out of any range"),
    "wrong shape": (arrays(depth=lambda a: a[..., :5]), "depth has the shape"),
    "wrong kind": (arrays(visible=lambda a: a.astype(float)), "visible holds another kind"),
    "missing array": (arrays(area=lambda a: None), "other arrays"),
    "pickled": (arrays(origin=lambda a: np.array([[{"x": 1}] * 33], dtype=object)), "origin"),
    "visibility of 7": (arrays(visibility=put(7)), "visibility is not 0, 1 or 2"),
    "no such part": (arrays(first_hit_part=put(5000)), "first_hit_part names no part"),
    "no rotation": (arrays(rotation=put(5.0)), "rotation is no rotation"),
    "many images announced": (array_bomb, "area has the shape"),
    "no frames": (edit(lambda d: d.update(frames=[])), "frames is not what was asked for"),
    "other key": (edit(lambda d: d.update(key="../x")), "key is not what was asked for"),
    "many images": (
        edit(lambda d: d.update(images=d["images"] * 1000)),
        "other images than asked for",
    ),
    "another image": (edit(lambda d: d["images"][0].update(file="x.png")), "malformed"),
    "infinite": (
        edit(lambda d: d["light"].update(ambient=float("inf"))),
        "light.ambient is malformed",
    ),
    "text for a number": (
        edit(lambda d: d["persons"][0].update(height_m="1.8")),
        "height_m is malformed",
    ),
    "no such origin": (
        edit(lambda d: d["origin"].__setitem__(0, "guess")),
        "origin.0 is malformed",
    ),
    "more people": (
        edit(lambda d: d["persons"].append(d["persons"][0])),
        "other people|origin is malformed",
    ),
    "nobody hides": (arrays(occluded_by_person=put(3)), "occluded_by_person names nobody"),
    "a part without end": (edit(lambda d: d["parts"].append("x" * 10_001)), "parts.* is malformed"),
    "nested": (lambda f: (f / "truth.json").write_text("[" * 100_000), "all of it is malformed"),
    "a list": (lambda f: (f / "truth.json").write_text("[]"), "all of it is malformed"),
    "another size": (
        lambda f: Image.new("RGB", (95, 96)).save(next((f / "images").iterdir())),
        "95 x 96",
    ),
    "no image": (lambda f: next((f / "masks").iterdir()).write_bytes(b"hello"), "no PNG image"),
    "truncated image": (truncated, "no PNG image"),
    "an image of 169 million pixels": (bomb, "13000 x 13000|no PNG"),
}


def test_what_blender_sends_is_sound(rendered: Path) -> None:
    check(rendered)


@pytest.mark.parametrize("name", FAULTS)
def test_nonsense_is_refused(rendered: Path, tmp_path: Path, name: str) -> None:
    folder = tmp_path / "copy"
    shutil.copytree(rendered, folder)
    spoil, words = FAULTS[name]
    spoil(folder)
    with pytest.raises(InvalidRenders, match=words):
        check(folder)
