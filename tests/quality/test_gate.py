"""The gate's rules on measured values, and its eyes on real renders."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from blender_scripts.contract import LANDMARKS
from posefactory_dagster.quality.gate import Gate, Measurement, Subject
from posefactory_dagster.settings import GateSettings
from tests.quality.test_accuracy import scene

NAN = float("nan")
INDEX = {name: i for i, name in enumerate(LANDMARKS)}


def subject() -> Subject:
    """One person in 512 x 512 pixels, whose torso is 125 pixels long."""
    return Subject(np.zeros((512, 512, 3), np.uint8), np.zeros((512, 512), bool), scene())


def landmarks(**moved: float) -> np.ndarray:
    """The truth as MediaPipe would give it, with joints moved to the right by torso lengths."""
    values = np.zeros((33, 8))
    values[:, :2] = scene()["pixels"][0] / 512
    for name, torsos in moved.items():
        values[INDEX[name], 0] += torsos * 125 / 512
    return values


def measured(points: np.ndarray | None = None, **values: object) -> Measurement:
    points = landmarks() if points is None else points
    base = Measurement(1, 0.95, 1.0, False, 0.96, "nose", 0.05, points)
    return dataclasses.replace(base, **values)  # type: ignore[arg-type]


NOBODY = Measurement(0, NAN, NAN, False, NAN, "", NAN, None)


def verdict(raw: Measurement, enhanced: Measurement):  # type: ignore[no-untyped-def]
    return Gate(None, GateSettings()).decide(subject(), raw, enhanced)  # type: ignore[arg-type]


def test_the_same_pose_passes() -> None:
    word = verdict(measured(), measured())
    assert word.judgeable and word.passes and word.severity == "none" and not word.reasons
    assert word.agreement == pytest.approx(1) and word.moved == 0


@pytest.mark.parametrize(
    ("enhanced", "severity", "code"),
    [
        (NOBODY, "critical", "nobody"),
        (measured(people=2), "critical", "people"),
        (measured(oks=0.49), "critical", "oks"),
        (measured(oks=0.74), "major", "oks"),
        (measured(oks=0.84), "major", "oks_lost"),
        (measured(swapped=True), "major", "swapped"),
        (measured(iou=0.84), "major", "silhouette"),
        (measured(iou=0.855), "major", "silhouette_lost"),
        (measured(landmarks(left_wrist=0.17)), "major", "joint_moved"),
        (measured(worst_error=0.21, worst_joint="left_wrist"), "minor", "joint_off"),
    ],
)
def test_each_fault_has_its_severity(enhanced: Measurement, severity: str, code: str) -> None:
    word = verdict(measured(), enhanced)
    assert word.severity == severity and code in [r.code for r in word.reasons]
    assert word.passes == (severity == "minor")


def test_the_face_may_move_as_it_says_little_of_the_pose() -> None:
    assert verdict(measured(), measured(landmarks(nose=0.3))).moved == 0


@pytest.mark.parametrize("raw", [measured(oks=0.8), measured(swapped=True)])
def test_what_cannot_be_judged_by_the_truth_is_held_against_the_render(raw: Measurement) -> None:
    alike = verdict(raw, dataclasses.replace(raw, oks=0.3))
    assert not alike.judgeable and alike.passes  # the truth has no say
    apart = verdict(
        raw, dataclasses.replace(raw, landmarks=landmarks(left_wrist=0.5, right_wrist=0.5))
    )
    assert apart.severity == "major" and {r.code for r in apart.reasons} >= {"joint_moved"}
    gone = verdict(raw, NOBODY)
    assert gone.severity == "critical"


def test_where_the_render_shows_nobody_the_silhouette_alone_must_carry_the_proof() -> None:
    assert verdict(NOBODY, measured(iou=0.95)).passes
    assert not verdict(NOBODY, measured(iou=0.89)).passes
    assert verdict(NOBODY, NOBODY).severity == "critical"


def test_bytes_that_are_no_image_or_of_another_size_are_critical() -> None:
    from tests.stability_simulator import make

    gate = Gate(None, GateSettings())  # type: ignore[arg-type]
    png = _png(subject().pixels)
    for data, code in ((b"", "undecodable"), (b"\x89PNG broken", "undecodable"), (png[:200], "undecodable"), (make(png, "small"), "size")):  # fmt: skip
        word = gate.judge(subject(), measured(), data)
        assert word.severity == "critical" and [r.code for r in word.reasons] == [code]
        assert word.to_dict()["enhanced"] is None


def test_a_verdict_is_plain_json() -> None:
    import json

    text = json.dumps(verdict(NOBODY, measured()).to_dict(), allow_nan=False)
    assert json.loads(text)["raw"]["oks"] is None


def _png(pixels: np.ndarray) -> bytes:
    import io

    from PIL import Image

    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()
