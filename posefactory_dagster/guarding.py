"""Servers for this machine alone: they answer no page of another site."""

from __future__ import annotations

import os
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Receive, Scope, Send

#: Further names by which browsers may reach the server, separated by commas: that of a proxy in front of it.
HOSTS_VARIABLE = "POSEFACTORY_WEB_HOSTS"
LOCAL_HOSTS = ("127.0.0.1", "localhost", "[::1]", "::1")


def own_hosts() -> frozenset[str]:
    """The names by which browsers may reach a server of this machine."""
    more = [h.strip().lower() for h in os.environ.get(HOSTS_VARIABLE, "").split(",") if h.strip()]
    return frozenset([*LOCAL_HOSTS, *more])


class OwnPagesOnly:
    """Refuses requests for other hosts (DNS rebinding) and those that pages of other sites send (CSRF).

    Host and Origin are checked, as is what browsers say of where a request comes from.
    """

    def __init__(self, app: ASGIApp, hosts: frozenset[str]) -> None:
        self._app, self._hosts = app, hosts

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] in ("http", "websocket"):
            fault = self._fault(Headers(scope=scope))
            if fault is not None:
                if scope["type"] == "websocket":
                    await receive()
                    await send({"type": "websocket.close", "code": 1008, "reason": fault})
                else:
                    await PlainTextResponse(fault + "\n", status_code=403)(scope, receive, send)
                return
        await self._app(scope, receive, send)

    def _fault(self, headers: Headers) -> str | None:
        host = headers.get("host", "")
        if _name(f"//{host}") not in self._hosts:
            return f"the host {host[:100]!r} is not this server's; {HOSTS_VARIABLE} adds names"
        origin = headers.get("origin")
        if origin is not None and urlsplit(origin).netloc.lower() != host.lower():
            return "a page of another site may not ask for this"
        # Browsers say where a request comes from even when it has no Origin, as a picture's or a script's.
        elsewhere = headers.get("sec-fetch-site") in ("cross-site", "same-site")
        if elsewhere and headers.get("sec-fetch-mode") != "navigate":
            return "a page of another site may not ask for this"
        return None


def _name(address: str) -> str:
    try:
        return (urlsplit(address).hostname or "").lower()
    except ValueError:
        return ""
