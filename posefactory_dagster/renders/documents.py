"""What the room `renders` says to others: its asset, and the names of its set's files beside those of the contract."""

from __future__ import annotations

ASSET = "multi_angle_renders"
#: Some of the images in rows, for previews.
STRIP = "strip.png"
