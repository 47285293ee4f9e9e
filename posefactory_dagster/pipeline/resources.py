"""The project's settings as a Dagster resource."""

from pathlib import Path

import dagster as dg
from pydantic import Field

from blender_scripts.contract import SettingsError
from posefactory_dagster.settings import ProjectSettings, project_settings


class ProjectResource(dg.ConfigurableResource):
    """The settings of a run, read when a step asks for them."""

    settings_file: str = Field(
        default="",
        description="Another posefactory.toml for what this run renders, labels, varies and exports; empty: "
        "POSEFACTORY_SETTINGS says it. Takes are always read from that one: who plans before a run sees them too.",
    )

    def settings(self) -> ProjectSettings:
        """Read the settings file.

        Raises:
            dagster.Failure: it is no file of settings; the text says what is wrong.
        """
        try:
            return project_settings(Path(self.settings_file) if self.settings_file else None)
        except SettingsError as error:
            raise dg.Failure(description=str(error), allow_retries=False) from error
