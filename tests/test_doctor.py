"""The doctor tries each part and says what to do about what fails."""

from __future__ import annotations

import json

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
