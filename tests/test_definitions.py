"""The code location loads as `dagster dev` loads it, and shows what it should."""

from __future__ import annotations

from pathlib import Path

import dagster as dg
import pytest
import yaml

from posefactory_dagster.definitions import defs
from posefactory_dagster.settings import PROJECT_ROOT
from posefactory_dagster.storage import layout
from posefactory_dagster.storage.opening import open_store
from posefactory_dagster.storage.sets import CommittedSets
from tests.conftest import SAMPLES


def test_the_store_of_the_launchpad_holds_for_assets_and_io_manager(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("POSEFACTORY_STORE", str(tmp_path / "of the environment"))
    chosen = open_store(str(tmp_path / "chosen"))
    chosen.put_bytes(layout.upload("hero.fbx"), (SAMPLES / "ada_walk.fbx").read_bytes())
    render = {"num_angles": 1, "frames_per_clip": 1, "width": 64, "height": 64, "samples": 1}
    settings = tmp_path / "of this run.toml"
    settings.write_text("[render]\nseed = 7\n")
    with dg.instance_for_test() as instance:
        instance.add_dynamic_partitions("character", ["hero"])
        result = defs.resolve_job_def("characters_to_dataset").execute_in_process(
            instance=instance,
            partition_key="hero",
            asset_selection=[dg.AssetKey("character"), dg.AssetKey("multi_angle_renders")],
            run_config={
                "resources": {
                    "store": {"config": {"address": str(tmp_path / "chosen")}},
                    "project": {"config": {"settings_file": str(settings)}},
                },
                "ops": {"multi_angle_renders": {"config": {**render, "engine": "cycles"}}},
            },
        )
        assert result.success
        made = CommittedSets(chosen).current("multi_angle_renders", "hero")
        assert made is not None and made.settings["seed"] == 7
        # The identity is Dagster's data version, and the key has a check of its own.
        event = instance.get_latest_materialization_event(dg.AssetKey("multi_angle_renders"))
        assert event is not None and event.asset_materialization is not None
        tags = event.asset_materialization.tags or {}
        assert tags["dagster/data_version"] == made.ref.identity
        checks = [c for c in result.get_asset_check_evaluations() if c.partition == "hero"]
        assert {(c.check_name, c.passed) for c in checks} == {
            ("truth_is_sound", True),
            ("cast_well", True),
        }
    assert not (tmp_path / "of the environment").exists()


def test_workspace_names_the_definitions() -> None:
    workspace = yaml.safe_load((PROJECT_ROOT / "workspace.yaml").read_text())
    assert workspace["load_from"] == [{"python_module": "posefactory_dagster.definitions"}]
    text = (PROJECT_ROOT / "pyproject.toml").read_text()
    assert "[tool.dagster]" not in text and "[tool.dg]" not in text  # it would hide workspace.yaml


def test_the_graph() -> None:
    graph = defs.resolve_asset_graph()
    specs = {k.to_user_string(): graph.get(k) for k in graph.get_all_asset_keys()}
    assert set(specs) == {
        "character",
        "person",
        "motion",
        "cast",
        "group",
        "variety",
        "multi_angle_renders",
        "pose_labels",
        "label_accuracy",
        "enhanced_variants",
        "pose_dataset",
        "gpu_prices",
        "spending",
    }
    for name, node in specs.items():
        assert node.description and node.group_name != "default" and node.kinds
        assert (node.partitions_def is None) == (
            name in ("pose_dataset", "variety", "gpu_prices", "spending")
        )
    upstream = {n: {k.to_user_string() for k in node.parent_keys} for n, node in specs.items()}
    assert upstream["multi_angle_renders"] == {"character"}
    assert upstream["character"] == set() and upstream["cast"] == {"motion"}
    assert upstream["pose_dataset"] == {
        "multi_angle_renders",
        "pose_labels",
        "label_accuracy",
        "enhanced_variants",
    }
    assert upstream["enhanced_variants"] == {"multi_angle_renders"}
    assert {s.name for s in defs.sensors or []} == {
        "upload_sensor",
        "cast_sensor",
        "carry_on_sensor",
        "review_sensor",
        "pod_janitor",
    }
