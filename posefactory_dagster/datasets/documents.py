"""What the room `datasets` says to others: its asset, and the names of its set's files."""

from __future__ import annotations

ASSET = "pose_dataset"
CONTACT_SHEET = "contact_sheet.jpg"
CARD = "README.md"
#: Plots of what is in a dataset.
STATISTICS = "statistics.png"
#: The asset of what a dataset's people differ in, and its set's files.
VARIETY = "variety"
VARIETY_TABLE, VARIETY_CHART = "people.parquet", "variety.png"
