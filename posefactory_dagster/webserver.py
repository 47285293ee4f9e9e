"""Dagster's webserver for this machine alone: it answers no page of another site.

Dagster's GraphQL runs mutations that arrive by GET, and asks nobody who they are: without this, any web page that is open in
the user's browser could start runs.

    python -m posefactory_dagster.webserver [the options of dagster-webserver]
"""

from __future__ import annotations

import dagster_webserver.cli as dagster_cli
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from posefactory_dagster.guarding import OwnPagesOnly, own_hosts


class NoQueriesByAddress:
    """Refuses GraphQL by GET: a link is enough to send it, and Dagster's own pages do not."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        graphql = scope["type"] == "http" and scope["path"].rstrip("/").endswith("/graphql")
        if graphql and scope["method"] == "GET" and b"query=" in scope.get("query_string", b""):
            answer = PlainTextResponse("send queries by POST\n", status_code=405)
            await answer(scope, receive, send)
            return
        await self._app(scope, receive, send)


def guard(app: Starlette) -> Starlette:
    """The app, answering its own pages only."""
    app.add_middleware(NoQueriesByAddress)
    app.add_middleware(OwnPagesOnly, hosts=own_hosts())
    return app


def main() -> None:
    """Dagster's own command, whose app is guarded."""
    create = dagster_cli.create_app_from_workspace_process_context
    dagster_cli.create_app_from_workspace_process_context = lambda *a, **k: guard(create(*a, **k))
    dagster_cli.main()


if __name__ == "__main__":
    main()
