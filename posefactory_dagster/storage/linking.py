"""A file in a second place without a second copy of its content, where the disk allows."""

from __future__ import annotations

import contextlib
import os
import shutil
from pathlib import Path


def link_or_copy(source: Path, target: Path) -> None:
    """Put a file that nobody changes at ``target`` too, where nothing is: as a hard link, else as a copy with the same time.

    Both are made read-only, as who changes one in place changes both.

    Raises:
        OSError: the disk is full or refuses; nothing is left at ``target``.
    """
    with contextlib.suppress(OSError):  # somebody else's file, or a disk that may not be written
        if source.stat().st_mode & 0o222:
            source.chmod(source.stat().st_mode & ~0o222)
    try:
        os.link(source, target)
    except OSError:  # another disk, or one without links
        partly = target.with_name(f"{target.name}.part")
        try:
            shutil.copy2(source, partly)
            partly.replace(target)
        finally:
            partly.unlink(missing_ok=True)
