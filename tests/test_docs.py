"""Pages that are made from the code say what the code does."""

from __future__ import annotations

import subprocess
import sys

import pytest

from posefactory_dagster.settings import PROJECT_ROOT


@pytest.mark.integration
def test_the_reference_of_commands_is_that_of_the_code() -> None:
    words = ["posefactory_dagster.cli.app", "utils", "docs", "--name", "posefactory"]
    made = subprocess.run(
        [sys.executable, "-m", "typer", *words], cwd=PROJECT_ROOT, capture_output=True, text=True, check=True,
    ).stdout  # fmt: skip
    page = (PROJECT_ROOT / "docs" / "reference.md").read_text("utf-8")
    assert page.split() == made.split(), "make docs writes it anew"
