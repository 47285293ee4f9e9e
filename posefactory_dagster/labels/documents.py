"""What the room `labels` says to others: its assets, and the names of their sets' files."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field

LABELS, ACCURACY = "pose_labels", "label_accuracy"
#: MediaPipe's landmarks, a row for each image and landmark; see ``quality.landmarker.to_frame``.
LABEL_TABLE = "labels.parquet"
#: A row for each person of each image: detected, oks, aligned_error_cm, swapped.
ACCURACY_TABLE = "accuracy.parquet"
CHART = "chart.png"
#: The folder of images with both skeletons drawn.
OVERLAYS = "overlays"


class LabelFacts(BaseModel):
    """The numbers of a set of labels: how many people MediaPipe found, and how many there are to find; one in each image but of groups."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    skeleton_format: str = "mediapipe_33"
    images: int
    people: int = 0
    detected: int

    @property
    def detection_rate(self) -> float:
        """Share of the people that were found."""
        return self.detected / (self.people or self.images)


class AgreementFigures(BaseModel):
    """MediaPipe against the truth over some images; see ``quality.accuracy``. What no image could tell is NaN.

    ``pck_0_2`` and ``pck_0_1`` (in files and logs ``pck_0.2``, ``pck_0.1``): shares from 0 to 1, as ``detection_rate`` and ``oks``;
    ``aligned_error_cm``: mean distance in space after alignment; ``swaps``: images with left and right exchanged.
    """

    model_config = ConfigDict(extra="ignore", frozen=True, populate_by_name=True)

    images: int
    detection_rate: float
    pck_0_2: float = Field(alias="pck_0.2")
    pck_0_1: float = Field(alias="pck_0.1")
    oks: float
    aligned_error_cm: float = float("nan")
    swaps: int


class AccuracyFacts(BaseModel):
    """The figures of a comparison: over ``all`` images, by view, and by landmark (see ``quality.accuracy.by_landmark``)."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    all: AgreementFigures
    views: dict[str, AgreementFigures] = {}


FACTS: dict[str, type[BaseModel]] = {LABELS: LabelFacts, ACCURACY: AccuracyFacts}
