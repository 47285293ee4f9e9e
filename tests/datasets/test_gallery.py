"""The gallery in a real browser: opened from its file, without a server, by mouse, by keyboard and on a phone."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from blender_scripts.contract import LANDMARKS
from posefactory_dagster.datasets import gallery
from tests.conftest import SAMPLES, Factory
from tests.datasets import made_up
from tests.test_web_ui import CHROMIUM, FLAGS, needs_chromium


@pytest.fixture(scope="module")
def page_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The gallery of two characters and a pair of them."""
    factory = Factory(tmp_path_factory.mktemp("gallery"))
    settings = factory.root / "posefactory.toml"
    settings.write_text(settings.read_text() + "styles = []\n")
    for name in ("ada_walk", "bruno_squat"):
        factory.cli("characters", "add", str(SAMPLES / f"{name}.fbx"), "--name", name)
    factory.cli("groups", "add", "pair", "ada_walk", "bruno_squat")
    factory.cli("run", "--all")
    return Path(factory.cli("datasets", "path").strip()) / gallery.PAGE


@pytest.fixture
def browser() -> Iterator[Any]:
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        yield playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)


def _watched(browser: Any, address: str, **options: Any) -> tuple[Any, list[str], list[str]]:
    """A page, and what goes wrong or is asked for on it."""
    page = browser.new_page(**options)
    page.set_default_timeout(30_000)
    faults: list[str] = []
    asked: list[str] = []
    page.on("pageerror", lambda error: faults.append(str(error)))
    page.on("console", lambda m: faults.append(m.text) if m.type == "error" else None)
    page.on("request", lambda request: asked.append(request.url))
    page.goto(address)
    page.wait_for_selector("#grid a")
    return page, faults, asked


@needs_chromium
def test_pictures_are_filtered_and_looked_at(page_file: Path, browser: Any) -> None:
    page, faults, asked = _watched(browser, page_file.as_uri())
    assert page.locator("#grid a").count() == 6
    page.select_option("label:has-text('character') select", label="pair")
    assert page.locator("#grid a").count() == 2 and page.inner_text("#count") == "2 pictures"
    page.click("text=How the shown pictures are spread")
    page.wait_for_selector("#bars section")  # a page hears that details were opened a little later
    assert page.locator("#bars section").count() >= 4
    page.click("#grid a >> nth=0")
    page.wait_for_selector("#drawn .person")
    assert page.locator("#drawn .person").count() == 2
    # Landmarks lie on the picture, and the picture is there.
    box, drawn = page.locator("#picture").bounding_box(), page.locator("#drawn").bounding_box()
    assert box == drawn and page.evaluate("document.getElementById('picture').naturalWidth") == 96
    assert page.locator("#landmarks tr").count() == 1 + 2 * 34
    page.check("#show-box")
    assert page.locator("#drawn .box").count() == 2
    for kind in ("mask", "depth"):
        assert page.locator(f"#{kind}").is_hidden()
        page.check(f"#show-{kind}")
        page.wait_for_function(f"document.getElementById('{kind}').naturalWidth === 96")
    assert faults == [] and all(url.startswith("file:") for url in asked)


@needs_chromium
def test_by_keyboard_alone(page_file: Path, browser: Any) -> None:
    page, faults, _ = _watched(browser, page_file.as_uri())
    page.locator("#grid a").nth(0).focus()
    page.keyboard.press("Enter")
    page.wait_for_selector("#drawn .person")
    first = page.inner_text("#name")
    page.keyboard.press("ArrowRight")
    page.wait_for_function(f"document.getElementById('name').textContent !== {json.dumps(first)}")
    page.wait_for_selector("#drawn .person")
    page.keyboard.press("s")
    assert page.locator("#drawn .person").count() == 0
    page.locator("#space").focus()
    before = page.evaluate("document.getElementById('space').toDataURL()")
    page.keyboard.press("ArrowLeft")
    assert page.evaluate("document.getElementById('space').toDataURL()") != before
    page.locator("#name").focus()
    page.keyboard.press("Escape")
    page.wait_for_selector("#list:not([hidden])")
    # Whoever reads by ear is told what each thing is.
    unnamed = "[...document.querySelectorAll('select, input, button, canvas, #grid img')].filter(e => !(e.labels?.length || e.textContent.trim() || e.getAttribute('aria-label') || e.alt)).length"
    assert page.evaluate(unnamed) == 0 and page.get_attribute("html", "lang") == "en"
    assert page.get_attribute("#count", "role") == "status" and faults == []


@needs_chromium
def test_on_a_phone(page_file: Path, browser: Any) -> None:
    page, faults, _ = _watched(browser, page_file.as_uri(), viewport={"width": 360, "height": 700}, has_touch=True)  # fmt: skip
    wide = "document.documentElement.scrollWidth > innerWidth"
    assert not page.evaluate(wide)
    page.tap("#grid a >> nth=1")
    page.wait_for_selector("#drawn .person")
    assert not page.evaluate(wide) and faults == []


@needs_chromium
def test_thousands_of_pictures_are_read_in_pieces(tmp_path: Path, browser: Any) -> None:
    count = 2 * gallery.ROWS_CHUNK + 5
    gallery.write(made_up.dataset(tmp_path, made_up.items(count)), "<script>alert(1)</script>")
    page, _, asked = _watched(browser, (tmp_path / gallery.PAGE).as_uri())
    page.wait_for_function(f"document.getElementById('count').textContent === '{count} pictures'")
    assert sum("gallery/rows-" in url for url in asked) == 3
    assert not any("gallery/people-" in url for url in asked)
    assert page.locator("#grid a").count() == 60 and "<script>" in page.inner_text("#about")
    page.goto((tmp_path / gallery.PAGE).as_uri() + f"#{count - 1}")
    page.wait_for_selector("#drawn .person")
    assert sum("gallery/people-" in url for url in asked) == 1
    assert page.inner_text("#name").endswith(f"f{count - 1:06d}.png")


def test_pieces_hold_what_the_dataset_holds(tmp_path: Path) -> None:
    # Two in one picture.
    target = made_up.dataset(tmp_path, made_up.items(5, people={2: 2}))
    gallery.write(target, "v")
    table = pd.read_parquet(target.landmarks)
    text = (tmp_path / gallery.FOLDER / "people-000000.js").read_text()
    people = json.loads("[" + text.removeprefix("gallery.people(").removesuffix(")") + "]")[1]
    assert [len(p["people"]) for p in people] == [1, 1, 2, 1, 1]
    assert people[0]["people"][0]["p"][::3] == pytest.approx(table["x_px"][:33].tolist(), abs=0.06)
    assert len(people[0]["people"][0]["s"]) == 3 * len(LANDMARKS)
