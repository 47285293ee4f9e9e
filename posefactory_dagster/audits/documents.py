"""What the room `audits` says to others: under which name its controlled renders are kept, and its version."""

from __future__ import annotations

#: Sets of this name hold the controlled renders, one for each character or group; no Dagster asset makes them.
ASSET = "audit"
#: Raised when the controlled set changes in a way that its document does not show.
VERSION = 1
