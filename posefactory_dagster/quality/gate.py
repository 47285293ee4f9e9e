"""Whether an image that was made from an exact render still shows the same pose.

MediaPipe looks at the render and at the image that would be kept; both opinions are held against the
truth. Where its opinion of the render itself is poor, the image cannot be judged against the truth: then the two
opinions are held against each other. What the thresholds catch, and what they refuse wrongly, is
measured in docs/gate.md.
"""

from __future__ import annotations

import dataclasses
import io
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from PIL import Image

from blender_scripts.contract import LANDMARKS
from posefactory_dagster.pictures import UNREADABLE
from posefactory_dagster.quality import accuracy
from posefactory_dagster.quality.landmarker import Landmarkers, Person
from posefactory_dagster.settings import GateSettings

#: Raised whenever verdicts change their meaning, so that images are judged anew.
GATE_VERSION = 1
#: More than one is a fault, so nobody needs to be counted beyond that.
MOST_PEOPLE = 2

Severity = Literal["none", "minor", "major", "critical"]
SEVERITIES: tuple[Severity, ...] = ("none", "minor", "major", "critical")


#: What a verdict says in words.
FROM_TRUTH = "the pose that MediaPipe sees is far from the truth: OKS {value:.2f}, {limit:.2f} or more is wanted"
FROM_RENDER = (
    "MediaPipe sees another pose than in the render: OKS {value:.2f}, {limit:.2f} or more is wanted"
)
LOST = "MediaPipe fits the truth less than in the render: OKS fell by {value:.2f}, {limit:.2f} at most is allowed"


@dataclass(frozen=True)
class Subject:
    """One exact render, and what the truth says of it.

    ``pixels`` (H, W, 3) uint8; ``mask`` (H, W) bool; ``arrays`` the truth's arrays with a first axis of 1.
    """

    pixels: np.ndarray
    mask: np.ndarray
    arrays: Mapping[str, np.ndarray]

    @property
    def size(self) -> tuple[int, int]:
        """(width, height)."""
        return self.pixels.shape[1], self.pixels.shape[0]

    @classmethod
    def of(
        cls, arrays: Mapping[str, np.ndarray], index: int, pixels: np.ndarray, mask: np.ndarray
    ) -> Subject:
        """The image ``index`` of a render set's truth."""
        count = len(arrays["pixels"])
        row = {
            k: v[index : index + 1] for k, v in arrays.items() if k != "origin" and len(v) == count
        }
        return cls(pixels, mask, row)


@dataclass(frozen=True)
class Measurement:
    """MediaPipe's result on one image. Figures are NaN if no person was found.

    ``oks`` and ``pck`` (at 0.2) against the truth; ``iou`` of its silhouette with the exact mask;
    ``worst_joint`` with ``worst_error`` in torso lengths, over the landmarks inside the frame.
    ``landmarks`` (33, 8) or None; see ``landmarker.Person``.
    """

    people: int
    oks: float
    pck: float
    swapped: bool
    iou: float
    worst_joint: str
    worst_error: float
    landmarks: np.ndarray | None = dataclasses.field(repr=False, compare=False)

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON; None where there is no figure; of the landmarks (33, 3) x, y and visibility."""
        values = {f.name: _plain(getattr(self, f.name)) for f in dataclasses.fields(self)}
        if self.landmarks is not None:
            values["landmarks"] = self.landmarks[:, [0, 1, 3]].round(4).tolist()
        return values


@dataclass(frozen=True)
class Reason:
    """Why an image did not pass: a code, the measured figure, its limit, and a text."""

    code: str
    severity: Severity
    text: str
    value: float | None = None
    limit: float | None = None


@dataclass(frozen=True)
class Verdict:
    """The gate's verdict on one image.

    ``judgeable``: whether MediaPipe is right enough on the render to judge by the truth. ``agreement``: OKS
    of its landmarks in the image against its own in the render; ``moved``: the furthest that a limb's joint
    went between the two, in torso lengths. NaN where it found nobody in one of them.
    """

    judgeable: bool
    severity: Severity
    reasons: tuple[Reason, ...]
    raw: Measurement
    enhanced: Measurement | None
    agreement: float
    moved: float

    @property
    def passes(self) -> bool:
        """Whether the pose survived."""
        return self.severity in ("none", "minor")

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {
            "gate_version": GATE_VERSION,
            "judgeable": self.judgeable,
            "severity": self.severity,
            "passes": self.passes,
            "reasons": [dataclasses.asdict(r) for r in self.reasons],
            "raw": self.raw.to_dict(),
            "enhanced": self.enhanced.to_dict() if self.enhanced else None,
            "agreement": _plain(self.agreement),
            "moved": _plain(self.moved),
        }


class Gate:
    """Judges images. Holds no state but its settings; threads may share it.

    Args:
        landmarkers: open, made with ``people=MOST_PEOPLE`` and ``silhouettes=True``; see ``open_landmarkers``.
        settings: the thresholds.
    """

    def __init__(self, landmarkers: Landmarkers, settings: GateSettings) -> None:
        self._landmarkers = landmarkers
        self._settings = settings

    @property
    def parallel(self) -> int:
        """The number of threads that can work in parallel."""
        return self._landmarkers.count

    def look(self, subject: Subject) -> Measurement:
        """Measure the render itself; the result serves all images made from it."""
        return measure(subject, self._landmarkers.look(subject.pixels))

    def reports(self, style: str, moves_pose: bool) -> bool:
        """Whether the verdict on a style's images is told, and blocks nothing; never where the pose may have moved."""
        return not moves_pose and style not in self._settings.enforce

    def judgeable(self, raw: Measurement) -> bool:
        """Whether images made from this render can be judged by the truth."""
        return raw.people > 0 and not raw.swapped and raw.oks >= self._settings.judgeable_oks

    def judge(self, subject: Subject, raw: Measurement, data: bytes) -> Verdict:
        """Judge the encoded bytes that would be kept.

        Args:
            raw: what ``look`` said of the same subject.
            data: an encoded image.
        """
        opened = _decode(data, subject.size)
        if isinstance(opened, Reason):
            return self.refuse(raw, opened)
        return self.decide(subject, raw, measure(subject, self._landmarkers.look(opened)))

    def decide(self, subject: Subject, raw: Measurement, enhanced: Measurement) -> Verdict:
        """Apply the rules to the measurements."""
        agreement, moved = _between(subject, raw, enhanced)
        judgeable = self.judgeable(raw)
        reasons = [
            *_people_reasons(enhanced),
            *self._pose_reasons(judgeable, raw, enhanced, agreement, moved),
            *self._silhouette_reasons(raw, enhanced),
        ]
        if judgeable and enhanced.worst_error > self._settings.minor_joint_error:
            text = (
                f"{enhanced.worst_joint} is {enhanced.worst_error:.2f} torso lengths from the truth"
            )
            limit = self._settings.minor_joint_error
            reasons.append(Reason("joint_off", "minor", text, enhanced.worst_error, limit))
        worst = max((SEVERITIES.index(r.severity) for r in reasons), default=0)
        return Verdict(
            judgeable, SEVERITIES[worst], tuple(reasons), raw, enhanced, agreement, moved
        )

    def refuse(self, raw: Measurement, reason: Reason) -> Verdict:
        """A verdict for an image without measurements."""
        nan = float("nan")
        return Verdict(self.judgeable(raw), reason.severity, (reason,), raw, None, nan, nan)

    def _pose_reasons(
        self,
        judgeable: bool,
        raw: Measurement,
        enhanced: Measurement,
        agreement: float,
        moved: float,
    ) -> list[Reason]:
        limits = self._settings
        if not enhanced.people:
            return []
        reasons = []

        def note(code: str, severity: Severity, what: str, value: float, limit: float) -> None:
            text = what.format(value=value, limit=limit)
            reasons.append(Reason(code, severity, text, value, limit))

        if judgeable:
            against, score, what = "oks", enhanced.oks, FROM_TRUTH
        else:
            against, score, what = "agreement", agreement, FROM_RENDER
        if score < limits.critical_oks:
            note(against, "critical", what, score, limits.critical_oks)
        elif score < limits.major_oks:
            note(against, "major", what, score, limits.major_oks)
        if judgeable and raw.oks - enhanced.oks > limits.max_oks_loss:
            note("oks_lost", "major", LOST, raw.oks - enhanced.oks, limits.max_oks_loss)
        if judgeable and enhanced.swapped:
            reasons.append(Reason("swapped", "major", "left and right are exchanged"))
        furthest = limits.max_joint_shift if judgeable else limits.max_joint_shift_unjudged
        if moved > furthest:
            text = (
                f"a joint of a limb moved by {moved:.2f} torso lengths; the limit is {furthest:.2f}"
            )
            reasons.append(Reason("joint_moved", "major", text, moved, furthest))
        return reasons

    def _silhouette_reasons(self, raw: Measurement, enhanced: Measurement) -> list[Reason]:
        limits = self._settings
        if not enhanced.people:
            return []
        # Where the render says nothing, the silhouette alone has to carry the proof.
        low = limits.min_silhouette_iou if raw.people else limits.min_silhouette_iou_alone
        if enhanced.iou < low:
            text = f"the person's outline is another than in the truth: IoU {enhanced.iou:.2f}, {low:.2f} or more is wanted"
            return [Reason("silhouette", "major", text, enhanced.iou, low)]
        if raw.people and raw.iou - enhanced.iou > limits.max_silhouette_loss:
            lost, most = raw.iou - enhanced.iou, limits.max_silhouette_loss
            return [
                Reason("silhouette_lost", "major", f"the person's outline fits the truth less than the render's does: IoU fell by {lost:.2f}, {most:.2f} at most is allowed", lost, most)
            ]  # fmt: skip
        return []


def _people_reasons(enhanced: Measurement) -> list[Reason]:
    if enhanced.people == 0:
        return [Reason("nobody", "critical", "nobody is found", 0, 1)]
    if enhanced.people > 1:
        return [Reason("people", "critical", "more than one person is found", enhanced.people, 1)]
    return []


def measure(subject: Subject, people: list[Person]) -> Measurement:
    """What was found in an image, against the truth of ``subject``; of several, the one that fits best."""
    candidates = [_measure_one(subject, person, len(people)) for person in people]
    if candidates:
        return max(candidates, key=lambda m: m.oks)
    nan = float("nan")
    return Measurement(0, nan, nan, False, nan, "", nan, None)


def _measure_one(subject: Subject, person: Person, people: int) -> Measurement:
    agreement = accuracy.compare(
        dict(subject.arrays), person.values[None], np.array([subject.size])
    )
    errors = np.where(agreement.in_frame[0], agreement.error[0], -1.0)
    worst = int(errors.argmax())
    silhouette = person.silhouette
    assert silhouette is not None, "the gate's landmarkers give silhouettes"
    union = float((silhouette | subject.mask).sum())
    return Measurement(
        people=people,
        oks=float(agreement.oks[0]),
        pck=agreement.pck(0.2),
        swapped=bool(agreement.swapped[0]),
        iou=float((silhouette & subject.mask).sum()) / union if union else 0.0,
        worst_joint=LANDMARKS[worst],
        worst_error=float(errors[worst]),
        landmarks=person.values,
    )


def _between(subject: Subject, raw: Measurement, enhanced: Measurement) -> tuple[float, float]:
    """OKS of the image's landmarks against the render's, and how far a limb's joint went at most."""
    if raw.landmarks is None or enhanced.landmarks is None:
        return float("nan"), float("nan")
    arrays, size = subject.arrays, np.array(subject.size)
    before, after = raw.landmarks[:, :2] * size, enhanced.landmarks[:, :2] * size
    similarity = accuracy.keypoint_similarity(
        before[None], arrays["measured"], arrays["bbox"], arrays["area"], after[None]
    )
    torso = accuracy.torso_pixels(arrays["world"], arrays["depth"], arrays["intrinsics"][:, 0, 0])[
        0
    ]
    limbs = sorted({joint for pair in accuracy.LIMB_PAIRS for joint in pair})
    seen = [j for j in limbs if arrays["measured"][0, j]]
    if not seen:
        return float(similarity[0]), float("nan")
    distance = np.linalg.norm(after[seen] - before[seen], axis=1) / torso
    return float(similarity[0]), float(distance.max())


def _decode(data: bytes, size: tuple[int, int]) -> np.ndarray | Reason:
    """(H, W, 3) uint8 of a picture of ``size`` (width, height), or what is wrong with the bytes.

    The size is read from the header: what is not as asked for is not decoded, however large it claims to be.
    """
    width, height = size
    try:
        with Image.open(io.BytesIO(data)) as image:
            if image.size != size:
                text = f"{image.width} x {image.height} pixels instead of {width} x {height}"
                return Reason("size", "critical", text)
            return np.asarray(image.convert("RGB"))
    except UNREADABLE as error:
        return Reason("undecodable", "critical", f"cannot be decoded ({error})")


def _plain(value: Any) -> Any:
    if isinstance(value, float):  # JSON knows no NaN
        return round(value, 4) if value == value else None
    return value


def open_landmarkers(model: Any, min_confidence: float) -> Landmarkers:
    """The landmarkers that a gate needs; enter them before use."""
    return Landmarkers(model, min_confidence, people=MOST_PEOPLE, silhouettes=True)
