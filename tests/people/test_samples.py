"""The sample people that ship, measured in Blender and on their files."""

from __future__ import annotations

import json
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from posefactory_dagster.settings import sample_characters
from tests.conftest import Factory


def test_six_people_ship_in_under_twenty_megabytes() -> None:
    samples = sample_characters()
    assert len(samples) == 6
    assert sum(p.stat().st_size for p in samples) < 20 * 10**6


@pytest.mark.parametrize("sample", sample_characters(), ids=lambda p: p.stem)
def test_hardly_any_skin_pokes_through_clothes_in_motion(
    sample: Any, blender_script: Callable[..., Any]
) -> None:
    ((poking, tried, inner, covered, *_),) = blender_script("prove_clothes.py", 4, sample).values()
    assert tried > 10_000 and poking / tried < 0.012
    assert inner <= 0.04 * covered  # of trousers below the hems of tops


def test_the_licence_of_what_a_person_wears_reaches_the_card(factory: Factory) -> None:
    data = sample_characters()[0].read_bytes()
    length = struct.unpack_from("<I", data, 12)[0]
    document = json.loads(data[20 : 20 + length])
    coat = next(n for n in document["nodes"] if n.get("extras", {}).get("posefactory_role") == "garment")  # fmt: skip
    coat["extras"] |= {"posefactory_source": "coat by Ann", "posefactory_licence": "CC-BY-4.0"}
    text = json.dumps(document).encode()
    text += b" " * (-len(text) % 4)
    rest = data[20 + length :]
    changed = struct.pack("<4sIIII", b"glTF", 2, 20 + len(text) + len(rest), len(text), 0x4E4F534A)
    path = factory.root / "ann.glb"
    path.write_bytes(changed + text + rest)
    factory.cli("characters", "add", str(path))
    factory.cli("run", "ann")
    folder = Path(factory.cli("datasets", "path").strip().splitlines()[-1])
    assert f"- {coat['name']}: CC-BY-4.0, coat by Ann (ann)" in (folder / "README.md").read_text()
