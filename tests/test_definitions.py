"""The code location loads as `dagster dev` loads it, and shows what it should."""

from __future__ import annotations

import yaml

from posefactory_dagster.definitions import defs
from posefactory_dagster.settings import PROJECT_ROOT


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
        "multi_angle_renders",
        "pose_labels",
        "label_accuracy",
        "pose_dataset",
        "gpu_prices",
    }
    for name, node in specs.items():
        assert node.description and node.group_name != "default" and node.kinds
        assert (node.partitions_def is None) == (name in ("pose_dataset", "gpu_prices"))
    upstream = {n: {k.to_user_string() for k in node.parent_keys} for n, node in specs.items()}
    assert upstream["multi_angle_renders"] == {"character"}
    assert upstream["pose_dataset"] == {"multi_angle_renders", "pose_labels", "label_accuracy"}
    assert {s.name for s in defs.sensors or []} == {
        "upload_sensor",
        "carry_on_sensor",
        "pod_janitor",
    }
