"""The sample people that ship, measured in Blender and on their files."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from posefactory_dagster.settings import sample_characters


def test_six_people_ship_in_under_twenty_megabytes() -> None:
    samples = sample_characters()
    assert len(samples) == 6
    assert sum(p.stat().st_size for p in samples) < 20 * 10**6


@pytest.mark.parametrize("sample", sample_characters(), ids=lambda p: p.stem)
def test_hardly_any_skin_pokes_through_clothes_in_motion(
    sample: Any, blender_script: Callable[..., Any]
) -> None:
    ((poking, tried),) = blender_script("prove_clothes.py", 4, sample).values()
    assert tried > 10_000 and poking / tried < 0.012
