"""The real web UI in a real browser: the graph shows, a partition is materialized from the page."""

from __future__ import annotations

import re
import shutil
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from posefactory_dagster.settings import PROJECT_ROOT
from tests.conftest import Factory
from tests.servers import free_port

CHROMIUM = (
    shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
)
# `make test` installs it when root; elsewhere the two tests with a browser say what to install.
needs_chromium = pytest.mark.skipif(
    CHROMIUM is None, reason="no Chromium: apt-get install chromium"
)
FLAGS = [
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync",
    "--disable-background-networking", "--disable-component-update",
]  # fmt: skip


@pytest.fixture
def server(factory: Factory) -> Iterator[str]:
    """`posefactory dev` on a free port of 127.0.0.1, with one sample registered."""
    factory.add_sample("ada_walk", "hero")
    port, view_port = free_port(), free_port()
    log = (factory.root / "dev.log").open("w")
    process = subprocess.Popen(
        factory.command("dev", "--port", str(port), "--view-port", str(view_port)),
        cwd=PROJECT_ROOT, env=factory.environment, stdout=log, stderr=subprocess.STDOUT,
    )  # fmt: skip
    address = f"http://127.0.0.1:{port}"
    try:
        for _ in range(240):
            try:
                urllib.request.urlopen(f"{address}/server_info", timeout=1)
                break
            except OSError:
                assert process.poll() is None, (factory.root / "dev.log").read_text()[-3000:]
                time.sleep(0.5)
        yield address
    finally:
        process.terminate()
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            process.kill()


def ask(address: str, method: str = "GET", **headers: str) -> int:
    """The status of an answer."""
    data = b'{"query": "{ version }"}' if method == "POST" else None
    named = {n.replace("_", "-"): v for n, v in headers.items()} | {
        "Content-Type": "application/json"
    }
    request = urllib.request.Request(address, data=data, method=method, headers=named)
    try:
        with urllib.request.urlopen(request, timeout=10) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        return error.code


def test_no_other_page_can_ask_for_anything(server: str) -> None:
    graphql = f"{server}/graphql"
    assert ask(graphql, "POST") == 200 and ask(graphql, "POST", Origin=server) == 200
    for origin in ("https://evil.example", "null", "http://127.0.0.1:1"):
        assert ask(graphql, "POST", Origin=origin) == 403, origin
    assert (
        ask(graphql, "POST", Host="evil.example:3000") == 403
    )  # a name that was made to lead here
    assert ask(f"{graphql}?query=mutation%20%7B%20x%20%7D") == 405
    assert (
        ask(f"{server}/server_info", Sec_Fetch_Site="cross-site", Sec_Fetch_Mode="no-cors") == 403
    )
    assert ask(f"{server}/server_info", Sec_Fetch_Site="same-origin", Sec_Fetch_Mode="cors") == 200
    assert (
        ask(server, Sec_Fetch_Site="cross-site", Sec_Fetch_Mode="navigate") == 200
    )  # a link to the page


def wait_for_set(factory: Factory, asset: str, partition: str, seconds: float) -> None:
    """Return once readers get a set."""
    deadline = time.monotonic() + seconds
    while factory.sets.current(asset, partition) is None:
        assert time.monotonic() < deadline
        time.sleep(0.5)


@needs_chromium
def test_a_partition_is_materialized_from_the_page(
    server: str, factory: Factory, tmp_path: Path
) -> None:
    from playwright.sync_api import sync_playwright

    shots = tmp_path / "screenshots"
    shots.mkdir()
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        page = browser.new_page(viewport={"width": 1900, "height": 950})
        page.set_default_timeout(60_000)
        page.goto(f"{server}/assets/character?view=lineage&lineageScope=downstream&lineageDepth=5")
        for name in (
            "character",
            "multi_angle_renders",
            "pose_labels",
            "label_accuracy",
            "enhanced_variants",
            "pose_dataset",
        ):
            page.get_by_text(name, exact=True).first.wait_for()
        page.screenshot(path=shots / "graph.png")
        # The address that `dev` prints shows the pipeline as a whole, nothing folded away.
        page.goto(
            f"{server}/locations/posefactory_dagster.definitions/asset-groups/pipeline/lineage"
        )
        for name in ("character", "multi_angle_renders", "pose_dataset"):
            page.get_by_text(name, exact=True).first.wait_for()

        page.goto(f"{server}/assets/character")
        page.get_by_role("button", name="Materialize").first.click()
        page.get_by_role("button", name="All", exact=True).click()
        page.screenshot(path=shots / "dialog.png")
        page.get_by_role("button", name=re.compile("Launch 1 run")).last.click()
        wait_for_set(factory, "character", "hero", 120)

        page.goto(f"{server}/assets/character?view=partitions&partition=hero")
        page.get_by_text("height_m").first.wait_for()
        page.screenshot(path=shots / "partition.png")
        picture = page.locator('img[src^="data:image/jpeg"]').first
        if picture.count() == 0:
            page.get_by_text("Show Markdown", exact=False).first.click()
        picture.wait_for()
        page.screenshot(path=shots / "picture.png")
        assert picture.evaluate("image => image.naturalWidth") > 100

        # The rest of the chain, variants included, from the job's page.
        page.goto(f"{server}/locations/posefactory_dagster.definitions/jobs/characters_to_dataset")
        page.get_by_role("button", name=re.compile("Materialize all")).click()
        page.get_by_role("button", name="All", exact=True).click()
        page.screenshot(path=shots / "job_dialog.png")
        page.get_by_role("button", name=re.compile("Launch")).last.click()
        wait_for_set(factory, "pose_dataset", "all", 180)
        page.goto(f"{server}/assets/enhanced_variants?view=partitions&partition=hero")
        page.get_by_text("not_judgeable").first.wait_for()
        page.get_by_text("review.html", exact=False).first.wait_for()
        page.screenshot(path=shots / "variants.png")
        browser.close()
