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

from posefactory_dagster.datasets import gallery


def main() -> None:
    """Write a gallery of made-up pictures, and open it."""
    from playwright.sync_api import sync_playwright

    from tests.datasets import made_up
    from tests.test_web_ui import CHROMIUM, FLAGS

    count = int(sys.argv[1]) if len(sys.argv) > 1 else 100_000
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        target = made_up.dataset(folder, made_up.items(count))
        start = time.perf_counter()
        gallery.write(target, "benchmark")
        size = sum(p.stat().st_size for p in (folder / gallery.FOLDER).iterdir()) / 1e6
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        print(f"{count} pictures written in {time.perf_counter() - start:.1f} s, {size:.0f} MB, peak memory {peak:.0f} MB")  # fmt: skip
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
