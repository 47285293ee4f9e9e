"""The doctor tries each part and says what to do about what fails."""

from __future__ import annotations

import json

import pytest

from tests.conftest import Factory


def test_a_sound_machine_passes(factory: Factory) -> None:
    findings = {f["what"]: f for f in json.loads(factory.cli("doctor", "--json"))}
    assert set(findings) >= {
        "Python", "Blender, cycles", "Blender, eevee", "GPU", "store", "MediaPipe", "disk", "settings",
    }  # fmt: skip
    assert all(f["ok"] for f in findings.values() if f["needed"])


def test_each_fault_is_found_and_named(factory: Factory) -> None:
    (factory.root / "file").write_text("")
    (factory.root / "posefactory.toml").write_text("[render]\nseed = -1\n")
    text = factory.cli("doctor", "--json", expect=1, BLENDER_PATH="/nowhere/blender")
    findings = {f["what"]: f for f in json.loads(text)}
    assert "BLENDER_PATH=/nowhere/blender" in findings["Blender, cycles"]["says"]
    assert "seed is -1" in findings["settings"]["says"]
    text = factory.cli(
        "doctor", "--json", expect=1,
        POSEFACTORY_STORE=str(factory.root / "file"), POSE_LANDMARKER_MODEL="/nowhere/model.task",
    )  # fmt: skip
    findings = {f["what"]: f for f in json.loads(text)}
    assert not findings["store"]["ok"] and "POSEFACTORY_STORE" in findings["store"]["says"]
    # One bad part, or a typo in the settings, does not hide the others.
    assert {"MediaPipe", "disk", "RunPod", "settings"} <= set(findings)


@pytest.mark.parametrize("place", ["pod", "serverless"])
def test_it_is_not_well_where_a_run_would_refuse(factory: Factory, place: str) -> None:
    """A key alone rents nothing: a bucket that machines elsewhere reach, an image and an endpoint are needed beside it."""
    found = {
        f["what"]: f
        for f in json.loads(
            factory.cli(
                "doctor", "--json", expect=1, POSEFACTORY_RENDER_ON=place, RUNPOD_API_KEY="rp-none",
                RUNPOD_API_BASE_URL="http://127.0.0.1:9",
            )
        )
    }  # fmt: skip
    bucket = found["bucket for rented machines"]
    assert (
        bucket["needed"]
        and not bucket["ok"]
        and "POSEFACTORY_STORE=r2://bucket/prefix" in bucket["says"]
    )
    assert not found["pod image"]["ok"] and found["pod image"]["needed"] == (place == "pod")
    assert not found["RunPod, pods"]["ok"] and not found["RunPod, endpoint"]["ok"]
    refused = factory.cli("run", "--all", expect=0, POSEFACTORY_RENDER_ON=place)
    assert "0 of 0" in refused
