"""`posefactory …`: the few verbs that Dagster's own command line lacks."""

from __future__ import annotations

import json
import sys
import warnings

import typer

from blender_scripts.contract import SettingsError
from posefactory_dagster.characters.intake import UploadError
from posefactory_dagster.cli import characters, rented, review, running, spending, store
from posefactory_dagster.cli.terminal import CommandError, print_error
from posefactory_dagster.quality.approval import ApprovalError
from posefactory_dagster.slugs import SlugError
from posefactory_dagster.storage.layout import LayoutError
from posefactory_dagster.storage.store import StoreError

warnings.filterwarnings("ignore")  # Dagster's beta notices, on every start

USAGE_ERROR = 2
#: Told in one line, as their texts say what to do.
KNOWN_ERRORS = (
    CommandError, UploadError, SlugError, SettingsError, StoreError, ApprovalError, LayoutError,
)  # fmt: skip

app = typer.Typer(
    no_args_is_help=True, add_completion=False, help=__doc__, pretty_exceptions_enable=False
)
app.add_typer(characters.app, name="characters")
app.add_typer(store.app, name="store")
app.add_typer(rented.pods_app, name="pods")
app.add_typer(rented.jobs_app, name="jobs")
app.add_typer(review.app, name="review")
app.add_typer(spending.app, name="costs")
app.command()(characters.cast)
app.command()(review.trace)
app.command("upload-url")(store.upload_url)
app.command()(running.run)
app.command()(running.demo)
app.command()(running.home)
app.command()(running.doctor)


def main() -> None:
    """The entry point: known errors are one line, anything else is a bug with its trace."""
    try:
        app()
    except KNOWN_ERRORS as error:
        if "--json" in sys.argv:
            print(json.dumps({"error": str(error)}))
        print_error(str(error))
        sys.exit(USAGE_ERROR)
