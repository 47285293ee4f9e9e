"""How fast a gallery of many pictures is written and opens in a browser.

Usage: python benchmarks/gallery.py [PICTURES]. Prints seconds to write the pages, peak memory, seconds until the first page is shown and until all
pictures can be filtered, in headless Chromium, from a file.
"""

from __future__ import annotations

import resource
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pandas as pd

from posefactory_dagster.datasets import gallery


def main() -> None:
    """Write a gallery of made-up pictures, and open it."""
    from playwright.sync_api import sync_playwright

    from tests.test_web_ui import CHROMIUM, FLAGS

    count = int(sys.argv[1]) if len(sys.argv) > 1 else 100_000
    chance = np.random.default_rng(0)
    points = chance.uniform(0, 64, (count, 33, 2)).astype(np.float32)
    images = [
        {"id": n, "file_name": f"train/c{n % 50}__f{n:06d}.png", "width": 64, "height": 64, "mask": f"masks/{n}.png", "character": f"c{n % 50}",
         "split": ("train", "val", "test")[n % 3], "look": f"look{n % 7}", "view": f"v{n % 8}"}
        for n in range(count)
    ]  # fmt: skip
    annotations = [
        {"image_id": n, "person": f"c{n % 50}", "bbox": [1, 2, 3, 4], "segmentation": {"size": [64, 64]},
         "keypoints": np.column_stack([points[n], np.full(33, 2)]).ravel().tolist()}
        for n in range(count)
    ]  # fmt: skip
    table = pd.DataFrame(
        {
            "file": np.repeat([f"images/{i['file_name']}" for i in images], 33), "x_px": points[..., 0].ravel(), "y_px": points[..., 1].ravel(),
            "occluded_by": "none", **{f"world_{a}_m": np.float32(0.5) for a in "xyz"}, "mediapipe_x": 0.5, "mediapipe_y": 0.5,
        }
    )  # fmt: skip
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        start = time.perf_counter()
        gallery.write(folder, images, annotations, table, "benchmark")
        size = sum(p.stat().st_size for p in folder.rglob("*") if p.is_file()) / 1e6
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        print(
            f"{count} pictures written in {time.perf_counter() - start:.1f} s, {size:.0f} MB, peak memory {peak:.0f} MB (made-up documents included)"
        )
        with sync_playwright() as playwright:
            page = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS).new_page()
            start = time.perf_counter()
            page.goto((folder / gallery.PAGE).as_uri())
            page.wait_for_selector("#grid a")
            print(f"first page after {time.perf_counter() - start:.2f} s")
            page.wait_for_function(
                f"document.getElementById('count').textContent === '{count} pictures'"
            )
            print(f"all of them after {time.perf_counter() - start:.2f} s")
            start = time.perf_counter()
            page.select_option("label:has-text('character') select", label="c7")
            page.wait_for_function(
                f"document.getElementById('count').textContent === '{count // 50} pictures'"
            )
            print(f"filtered in {time.perf_counter() - start:.2f} s")


if __name__ == "__main__":
    main()
