"""What the room `labels` says to others: its assets, and the names of their sets' files."""

from __future__ import annotations

LABELS, ACCURACY = "pose_labels", "label_accuracy"
#: MediaPipe's landmarks, a row for each image and landmark; see ``quality.landmarker.to_frame``.
LABEL_TABLE = "labels.parquet"
#: A row for each image: detected, oks, aligned_error_cm, swapped.
ACCURACY_TABLE = "accuracy.parquet"
CHART = "chart.png"
#: The folder of images with both skeletons drawn.
OVERLAYS = "overlays"
