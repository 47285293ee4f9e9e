"""How fast a large dataset is exported in each form and verified, with how much memory, and what a second export costs after a few new pictures.

Usage: python benchmarks/exports.py [PICTURES] [FORMAT…], all forms but video by default, as there are no clips. The pictures are made up, 64 x 64. Each export runs in a process of its own, for its peak memory;
beside it stands the plain way: linking the same files in a loop, and writing the same content, all of it in memory, by one call of the library.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from posefactory_dagster.datasets import formats
from posefactory_dagster.storage.opening import open_store
from posefactory_dagster.storage.sets import CommittedSets, SetRef
from tests.datasets import made_up


def _child(folder: Path, to: Path, kind: str, version: str) -> None:
    """Export in this process, and print seconds and peak memory as JSON."""
    started = time.perf_counter()
    formats.export(made_up.opened(folder, to), kind, {"format": kind, "version": version})
    seconds = time.perf_counter() - started
    # Of this program alone: ru_maxrss also counts what the process was before it became it.
    peak = int(Path("/proc/self/status").read_text().partition("VmHWM:")[2].split()[0]) / 1024
    print(json.dumps([seconds, peak]))


def _exported(folder: Path, to: Path, kind: str, version: str) -> tuple[float, float]:
    command = [sys.executable, __file__, "--child", str(folder), str(to), kind, version]
    seconds, peak = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)  # fmt: skip
    return seconds, peak


def _plain(folder: Path, to: Path, kind: str, scratch: Path) -> float:
    """Seconds of linking the files of an export again in a loop, and of writing its labels by one library call for each file."""
    (scratch / "plain").mkdir()
    links = [p for p in to.rglob("*") if p.suffix == ".png"]
    writes: list[Callable[[], object]] = []
    for path in sorted(to.rglob("*")):
        place = scratch / "plain" / path.name
        if path.suffix == ".json" and path.name != formats.MARK:
            content = json.loads(path.read_text())
            writes.append(partial(place.write_text, json.dumps(content)))
        elif path.suffix == ".parquet":
            table = pd.read_parquet(path)
            writes.append(partial(table.to_parquet, place, index=False))
        elif path.suffix == ".npz":
            stored = dict(np.load(path))
            writes.append(partial(np.savez_compressed, place, **stored))
        elif path.suffix == ".txt":
            text = path.read_text()
            writes.append(partial(place.write_text, text))
        elif path.suffix == ".xml":
            import xml.etree.ElementTree as ET

            tree = ET.parse(path)
            writes.append(partial(tree.write, place))
        elif path.suffix == ".tar":
            import webdataset

            samples = list(webdataset.WebDataset(str(path), shardshuffle=False))
            kept = [{k: v for k, v in s.items() if not k.startswith("__") or k == "__key__"} for s in samples]  # fmt: skip

            def tar(p: Path = place, some: list[dict[str, Any]] = kept) -> None:
                with webdataset.TarWriter(str(p)) as writer:
                    for sample in some:
                        writer.write(sample)

            writes.append(tar)
    started = time.perf_counter()
    for number, path in enumerate(links):
        os.link(path, scratch / "plain" / f"{number}.png")
    for write in writes:
        write()
    seconds = time.perf_counter() - started
    shutil.rmtree(scratch / "plain")
    return seconds


def main(count: int, kinds: list[str]) -> None:
    """Make the pictures, and print a row for each form."""
    more = max(1, count // 100)
    with tempfile.TemporaryDirectory() as name:
        scratch = Path(name)
        started = time.perf_counter()
        made_up.dataset(scratch / "first", made_up.items(count), files=True)
        # The later version has the same files and one in a hundred new.
        made_up.dataset(scratch / "more", made_up.items(more, count), files=True)
        made_up.dataset(scratch / "second", made_up.items(count + more))
        for folder in ("first", "more"):
            shutil.copytree(scratch / folder, scratch / "second", copy_function=_linked, dirs_exist_ok=True, ignore=shutil.ignore_patterns("*.parquet"))  # fmt: skip
        print(f"{count} pictures and {more} more made in {time.perf_counter() - started:.0f} s")
        print("form | seconds | pictures/s | of the plain way | peak MB | second export, 1 % new: seconds, of the first")  # fmt: skip
        for kind in kinds:
            to = scratch / "out"
            seconds, peak = _exported(scratch / "first", to, kind, "1")
            plain = _plain(scratch / "first", to, kind, scratch)
            again, _ = _exported(scratch / "second", to, kind, "2")
            shutil.rmtree(to)
            print(f"{kind} | {seconds:.1f} | {count / seconds:.0f} | {seconds / plain:.2f} | {peak:.0f} | {again:.1f}, {again / seconds:.0%}", flush=True)  # fmt: skip
        sets = CommittedSets(open_store(str(scratch / "store")))
        dataset = sets.commit(SetRef("pose_dataset", "all", "0" * 20), scratch / "first", inputs={}, settings={}, facts={})  # fmt: skip
        started = time.perf_counter()
        assert not list(sets.damages(dataset))
        verified = time.perf_counter() - started
        files = sorted(p for p in (scratch / "store").rglob("*") if p.is_file())
        (scratch / "names").write_bytes(b"\0".join(str(p).encode() for p in files))
        started = time.perf_counter()
        subprocess.run("xargs -0 sha256sum < names > /dev/null", shell=True, check=True, cwd=scratch)  # fmt: skip
        plain = time.perf_counter() - started
        print(f"verify: {len(files)} files in {verified:.1f} s, sha256sum {plain:.1f} s: {verified / plain:.2f}")  # fmt: skip


def _linked(source: str, target: str) -> str:
    os.link(source, target)
    return target


if __name__ == "__main__":
    if sys.argv[1:2] == ["--child"]:
        _child(Path(sys.argv[2]), Path(sys.argv[3]), sys.argv[4], sys.argv[5])
    else:
        main(int(sys.argv[1]) if len(sys.argv) > 1 else 100_000, sys.argv[2:] or [k for k in formats.FORMATS if k != "video"])  # fmt: skip
