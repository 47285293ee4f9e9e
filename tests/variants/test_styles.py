"""Styles are data; what is wrong with one is told by file and field."""

from __future__ import annotations

from pathlib import Path

import pytest

from blender_scripts.contract import SettingsError
from posefactory_dagster.budget.prices import estimate_cost
from posefactory_dagster.variants import documents as styles
from posefactory_dagster.variants.documents import (
    parse_style,
    read_style,
    read_styles,
    style_names,
    style_of,
)

GOOD = "provider: relight\nmodel: relight\n"


def test_every_shipped_style_is_one_and_has_a_price() -> None:
    assert {"places", "phone_camera", "stability_structure", "sdxl_pose_depth"} <= set(
        style_names()
    )
    for name in style_names():
        style = read_style(name)
        assert style.name == name and style.description
        assert estimate_cost(style.provider, model=style.model)["per_image"] >= 0
        assert style_of(name, style.content).fingerprint == style.fingerprint


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("provider: [", "not YAML"),
        ("just words", "not a style"),
        ("provider: magic\nmodel: x\n", "provider: Value error, choose one of relight"),
        (GOOD + "strength: 1.5\n", "strength: Input should be less than or equal to 1"),
        (GOOD + "strength: .nan\n", "strength"),
        (GOOD + "count: 0\n", "count: Input should be greater than or equal to 1"),
        (GOOD + "seed: -1\n", "seed"),
        (GOOD + "colour: red\n", "colour: Extra inputs are not permitted"),
        (GOOD + "options: {fog: 1}\n", "fog: Extra inputs are not permitted"),
        (GOOD + "options: {jpeg_quality: [92, 75]}\n", "give the lower first"),
        ("provider: diffusers\nmodel: sdxl\n", "base: Field required"),
    ],
)
def test_a_bad_style_names_file_and_fault(tmp_path: Path, text: str, words: str) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(text)
    with pytest.raises(SettingsError, match=r"^mine\.yaml: ") as caught:
        parse_style(path)
    assert words in str(caught.value)


@pytest.mark.parametrize("name", ["nope", "../prices", "/etc/passwd", ""])
def test_an_unknown_style_lists_those_there_are(name: str) -> None:
    with pytest.raises(SettingsError, match="choose from phone_camera, places"):
        read_style(name)


def test_what_shapes_the_images_makes_another_fingerprint_and_a_name_does_not(
    tmp_path: Path,
) -> None:
    def fingerprint(name: str, text: str) -> str:
        (tmp_path / name).write_text(text)
        return parse_style(tmp_path / name).fingerprint

    base = fingerprint("a.yaml", GOOD)
    assert fingerprint("b.yaml", GOOD + "description: other\ncount: 3\n") == base
    assert fingerprint("c.yaml", GOOD + "strength: 0.4\n") != base


def test_each_variant_has_a_seed_of_its_own_that_is_never_the_random_zero() -> None:
    style = read_style("places")
    seeds = {style.parameters(f"{i:08x}00").seed for i in (0, 1, 2, 0xFFFFFFFE, 0xFFFFFFFF)}
    assert all(1 <= s <= 2**32 - 2 for s in seeds) and len(seeds) >= 3


def test_the_same_style_twice_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="places and places are the same"):
        read_styles(("places", "places"))
    monkeypatch.setattr(styles, "FOLDER", tmp_path)
    (tmp_path / "one.yaml").write_text(GOOD)
    (tmp_path / "two.yaml").write_text(GOOD + "count: 2\n")
    with pytest.raises(SettingsError, match="one and two are the same; take one"):
        read_styles(("one", "two"))
