"""What the room `labels` brings to the house."""

import dagster as dg

from posefactory_dagster.labels.assets import (
    AccuracyPlanner,
    LabelPlanner,
    label_accuracy,
    pose_labels,
)
from posefactory_dagster.labels.documents import ACCURACY, LABELS
from posefactory_dagster.quality import model
from posefactory_dagster.settings import project_settings
from posefactory_dagster.storage.sets import file_sha256

defs = dg.Definitions(assets=[pose_labels, label_accuracy])
PLANNERS = {
    LABELS: lambda sets, overrides: LabelPlanner(file_sha256(model.model_path()), project_settings().labels),
    ACCURACY: lambda sets, overrides: AccuracyPlanner(),
}  # fmt: skip
