"""Settings: what they allow, how they refuse, and that the docs show them as they are."""

from __future__ import annotations

import dataclasses
import re
import tomllib
from pathlib import Path

import pytest

from blender_scripts.contract import RENDER_HELP, RenderSettings, SettingsError
from posefactory_dagster.labels.assets import LabelConfig
from posefactory_dagster.renders.assets import RenderConfig
from posefactory_dagster.settings import (
    PROJECT_ROOT,
    SECTIONS,
    LabelSettings,
    VariantSettings,
    allowed,
    changed,
    example_file,
    fields_of,
    made,
    project_settings,
)
from posefactory_dagster.variants.assets import VariantConfig


@pytest.mark.parametrize(
    ("section", "name", "value", "words"),
    [
        ("labels", "min_detection_confidence", 7, "give a number from 0 to 1"),
        ("labels", "min_detection_confidence", True, "give a number from 0 to 1"),
        ("labels", "min_detection_confidence", float("nan"), "give a number from 0 to 1"),
        ("labels", "save_json", 1, "give true or false"),
        ("labels", "save_json", "yes", "give true or false"),
        ("variants", "styles", "places", "give a list of names"),
        ("variants", "styles", ["places", 3], "give a list of names"),
        ("variants", "styles", [""], "give a list of names"),
        ("variants", "max_attempts", 0, "give a whole number from 1 to 1,000,000"),
        ("variants", "max_attempts", 2.5, "give a whole number from 1 to 1,000,000"),
        ("variants", "warn_cost", -1, "give a number, 0 or more"),
        ("dataset", "split_seed", 1.5, "give a whole number"),
        ("pods", "cloud", "MINE", "give SECURE or COMMUNITY"),
        ("pods", "startup_s", 0, "give a number above zero"),
        ("pods", "disk_gb", 1.5, "give a whole number above zero"),
        ("pods", "job_timeout_s", float("inf"), "give a number above zero"),
    ],
)
def test_a_value_that_does_not_fit_is_named_with_what_is_allowed(
    section: str, name: str, value: object, words: str
) -> None:
    with pytest.raises(SettingsError) as caught:
        made(SECTIONS[section], {name: value})
    assert str(caught.value) == f"{name} is {value!r}: {words}"


def test_values_that_contradict_each_other_are_refused() -> None:
    with pytest.raises(
        SettingsError, match="^val_fraction and test_fraction together are at most 1$"
    ):
        made(SECTIONS["dataset"], {"val_fraction": 0.6, "test_fraction": 0.5})
    with pytest.raises(SettingsError, match="^places is in enforce and in report: choose one$"):
        made(SECTIONS["gate"], {"enforce": ["places"], "report": ["places"]})


def test_a_changed_section_is_checked_and_the_old_one_stays() -> None:
    before = LabelSettings()
    assert changed(before, save_json=True).save_json and not before.save_json
    with pytest.raises(SettingsError, match="min_detection_confidence is 2"):
        changed(before, min_detection_confidence=2)


def test_every_setting_says_what_it_means_and_what_it_allows() -> None:
    assert set(RENDER_HELP) == {f.name for f in dataclasses.fields(RenderSettings)}
    for section in SECTIONS.values():
        for name, info in fields_of(section).items():
            assert info.description and allowed(info), name
            seconds = name.endswith("_s") or name.startswith("seconds")
            assert not seconds or info.description.endswith(" s"), f"{name}: say the unit"
            money = "cost" in name or "price" in name
            assert not money or "US dollars" in info.description, f"{name}: say the unit"


def test_the_docs_show_the_settings_as_they_are() -> None:
    text = (PROJECT_ROOT / "docs" / "settings.md").read_text("utf-8")
    (shown,) = re.findall(r"```toml\n(.*?)```", text, re.DOTALL)
    assert shown == example_file(), (
        "put into docs/settings.md what python -m posefactory_dagster.settings prints"
    )


def test_the_example_is_a_settings_file_of_all_defaults(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "posefactory.toml"
    path.write_text(example_file(), "utf-8")
    assert tomllib.loads(path.read_text("utf-8"))
    monkeypatch.setenv("POSEFACTORY_SETTINGS", str(path))
    found = project_settings()
    assert found == type(found)()


def test_the_launchpad_shows_what_a_run_may_change() -> None:
    for config, section in ((LabelConfig, LabelSettings), (VariantConfig, VariantSettings)):
        for name, field in config.model_fields.items():
            assert field.default is None
            assert f"Default: {fields_of(section)[name].default!r}." in str(field.description)
    assert "W/m²" in str(RenderConfig.model_fields["sun_energy"].description)
    assert "max_cost_per_day" not in VariantConfig.model_fields, (
        "limits are the project's, not a run's"
    )
