"""The viewer's server: pages of what is in a store, and the review page that saves decisions by itself.

It answers on this machine, to its own pages only, and to browsers that came once by the address with the token. All it writes
are decisions; all it gives away are files that a manifest names, or images of variants.
"""

from __future__ import annotations

import hmac
import secrets
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, select_autoescape
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, RedirectResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from blender_scripts.contract import THUMBNAIL
from posefactory_dagster.datasets.documents import ASSET as DATASET
from posefactory_dagster.datasets.documents import CONTACT_SHEET
from posefactory_dagster.guarding import OwnPagesOnly, own_hosts
from posefactory_dagster.review.approval import ApprovalError, parse_decisions, read_decisions
from posefactory_dagster.review.page import served
from posefactory_dagster.storage import layout
from posefactory_dagster.storage.sets import CommittedSet, CommittedSets, SetRef
from posefactory_dagster.storage.store import StoreError
from posefactory_dagster.variants.variant_sets import PAGE, take
from posefactory_dagster.viewer import reading

COOKIE = "posefactory_view"
TOKEN = "token"
#: Only pictures are given away as they are; whatever else a set holds is shown as text on a page of our own.
PICTURES = {"png": "image/png", "jpg": "image/jpeg"}
#: How a variant stands, in words.
STATES = {
    "locked_approved": "approved", "qa_approved": "approved, not locked yet", "qa_rejected": "rejected", "in_progress": "in progress",
    "pending": "not made",
}  # fmt: skip
MOST_DECISIONS_BYTES = 4 * 2**20
TEMPLATES = Environment(
    loader=FileSystemLoader(Path(__file__).with_name("templates")),
    autoescape=select_autoescape(default=True),
    trim_blocks=True,
    lstrip_blocks=True,
)


class TokenOnly:
    """Lets in who has the token: by the address once, by a cookie of this server from then on."""

    def __init__(self, app: ASGIApp, token: str) -> None:
        self._app, self._token = app, token

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request = Request(scope)
        if self._is_token(request.cookies.get(COOKIE, "")):
            await self._app(scope, receive, send)
            return
        answer: Response
        if request.method == "GET" and self._is_token(request.query_params.get(TOKEN, "")):
            answer = RedirectResponse(request.url.path, status_code=303)
            answer.set_cookie(COOKIE, self._token, httponly=True, samesite="lax")
        else:
            text = "Open the address that `posefactory view` printed: it holds the token that lets this browser in."
            answer = _page("message.html", 403, title="Not let in", text=text)
        await answer(scope, receive, send)

    def _is_token(self, text: str) -> bool:
        return hmac.compare_digest(text.encode(), self._token.encode())


def create_app(
    sets: CommittedSets, token: str, failures: Callable[[], Mapping[str, str]]
) -> Starlette:
    """The server.

    Args:
        sets: what it shows.
        token: who has it is let in.
        failures: why characters failed last time, by key.
    """
    pages = _Pages(sets, failures)
    routes = [
        Route("/", pages.home),
        Route("/characters/{key}", pages.character),
        Route("/characters/{key}/images/{file}", pages.image),
        Route("/review/{key}", pages.review),
        Route("/review/{key}/decisions", pages.decide, methods=["POST"]),
        Route("/datasets/{version}", pages.dataset),
        Route("/files/{asset}/{partition}/{identity}/{name:path}", pages.file),
        Route("/variants/{key}/{variant}", pages.variant),
    ]
    return Starlette(
        routes=routes,
        middleware=[
            Middleware(OwnPagesOnly, hosts=own_hosts()),
            Middleware(TokenOnly, token=token),
        ],
        exception_handlers={
            HTTPException: _failed,
            StoreError: _damaged,
            layout.LayoutError: _unknown,
        },
    )


def _page(template: str, status: int = 200, **values: Any) -> HTMLResponse:
    """A page that runs no script but its own and asks no other server for anything."""
    nonce = secrets.token_urlsafe(16)
    text = TEMPLATES.get_template(template).render(nonce=nonce, **values)
    return HTMLResponse(text, status, headers=_headers(nonce))


def _headers(nonce: str) -> dict[str, str]:
    policy = (
        "default-src 'none'; img-src 'self' data:; style-src 'unsafe-inline'; connect-src 'self'; "
        f"script-src 'nonce-{nonce}'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )
    return {
        "Content-Security-Policy": policy,
        "X-Content-Type-Options": "nosniff",
        "Referrer-Policy": "no-referrer",
        "Cache-Control": "no-store",
    }


def _failed(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    return _page("message.html", error.status_code, title="Not found", text=error.detail)


def _damaged(request: Request, error: Exception) -> Response:
    return _page("message.html", 500, title="Damaged", text=str(error))


def _unknown(request: Request, error: Exception) -> Response:
    return _page("message.html", 404, title="Not found", text="There is nothing of that name.")


class _Pages:
    """One method for each kind of page; Starlette runs them in threads."""

    def __init__(self, sets: CommittedSets, failures: Callable[[], Mapping[str, str]]) -> None:
        self._sets, self._failures = sets, failures

    def home(self, request: Request) -> Response:
        decisions = read_decisions(self._sets.store)
        people = [
            {
                "person": one,
                "states": _count(reading.standings(self._sets, one.variants, decisions)),
            }
            for one in reading.people(self._sets)
        ]
        current = self._sets.readable(DATASET, layout.UNPARTITIONED)
        return _page(
            "home.html",
            store=self._sets.store.address(),
            people=people,
            motions=reading.motions(self._sets),
            failures=self._failures(),
            datasets=self._sets.of_asset(DATASET),
            current=current.ref.identity if current else "",
        )

    def character(self, request: Request) -> Response:
        one = self._person(request)
        standings = self._standings(one)
        return _page(
            "character.html",
            person=one,
            looks=reading.looks(one),
            standings=standings,
            states=_count(standings),
            failure=self._failures().get(one.key),
            seen=reading.SEEN,
        )

    def image(self, request: Request) -> Response:
        one = self._person(request)
        looks = reading.looks(one)
        place = next(
            (i for i, look in enumerate(looks) if look.file == request.path_params["file"]), None
        )
        if place is None:
            raise HTTPException(404, "There is no such image in the present renders.")
        mine = [s for s in self._standings(one) if s.variant.source.file == looks[place].file]
        return _page(
            "image.html",
            person=one,
            look=looks[place],
            before=looks[place - 1] if place else None,
            after=looks[place + 1] if place + 1 < len(looks) else None,
            standings=mine,
            seen=reading.SEEN,
            kinds=("masks", "depth", "albedo", "normals"),
        )

    def review(self, request: Request) -> Response:
        one = self._person(request)
        if one.variants is None or PAGE not in one.variants.files:
            raise HTTPException(404, "There are no variants of this character yet.")
        states = {s.variant.variant: s.state for s in self._standings(one)}
        page = one.variants.path(PAGE).read_text("utf-8")
        nonce = secrets.token_urlsafe(16)
        try:
            text = served(page, states, f"/review/{one.key}/decisions")
        except ValueError as error:
            raise HTTPException(404, str(error)) from error
        return HTMLResponse(
            text.replace("<script>", f'<script nonce="{nonce}">'), headers=_headers(nonce)
        )

    async def decide(self, request: Request) -> Response:
        """Take decisions; an answer in JSON, as the page asks by script."""
        body = bytearray()
        async for chunk in request.stream():
            body += chunk
            if len(body) > MOST_DECISIONS_BYTES:
                return JSONResponse({"error": "too many decisions at once"}, 413)
        if request.headers.get("content-type", "").partition(";")[0] != "application/json":
            return JSONResponse({"error": "send decisions as application/json"}, 415)
        try:
            decisions = parse_decisions(bytes(body))
        except ApprovalError as error:
            return JSONResponse({"error": str(error)}, 400)
        key = request.path_params["key"]
        if any(d.subject != key for d in decisions):
            return JSONResponse({"error": f"decisions of another character than {key}"}, 400)
        try:
            taken, faults, _ = await run_in_threadpool(take, self._sets, decisions)
        except (ApprovalError, StoreError) as error:
            return JSONResponse({"error": str(error)}, 500)
        decided = [{"id": d.id, "decision": d.decision} for d in taken]
        return JSONResponse({"decided": decided, "refused": faults})

    def dataset(self, request: Request) -> Response:
        ref = SetRef(DATASET, layout.UNPARTITIONED, request.path_params["version"])
        dataset = self._sets.find(ref)
        if dataset is None:
            raise HTTPException(404, "There is no dataset of that version.")
        return _page("dataset.html", dataset=dataset, card=reading.card_of(dataset))

    def file(self, request: Request) -> Response:
        names = request.path_params
        ref = SetRef(names["asset"], names["partition"], names["identity"])
        committed = self._sets.find(ref)
        kind = PICTURES.get(names["name"].rpartition(".")[2])
        if committed is None or names["name"] not in committed.files or kind is None:
            raise HTTPException(404, "There is no such picture.")
        path = committed.path(names["name"])
        is_depth = names["name"].startswith("depth/")
        return _picture(reading.depth_picture(path) if is_depth else path.read_bytes(), kind)

    def variant(self, request: Request) -> Response:
        one = self._person(request)
        for standing in self._standings(one):
            image = standing.variant.image
            if standing.variant.variant == request.path_params["variant"] and image is not None:
                kind = PICTURES.get(image.key.rpartition(".")[2], "image/png")
                try:
                    paths = self._sets.store.local_paths({image.key: image.sha256})
                except FileNotFoundError:
                    break
                # Another run may keep another attempt of it.
                return _picture(paths[image.key].read_bytes(), kind, "no-store")
        raise HTTPException(404, "There is no such variant.")

    def _standings(self, one: reading.Person) -> list[reading.Standing]:
        return reading.standings(self._sets, one.variants, read_decisions(self._sets.store))

    def _person(self, request: Request) -> reading.Person:
        one = reading.person(self._sets, request.path_params["key"])
        if one.character is None and one.renders is None:
            raise HTTPException(404, "There is no character of that name.")
        return one


def _count(standings: list[reading.Standing]) -> dict[str, int]:
    counts: dict[str, int] = {}
    for standing in standings:
        counts[standing.state] = counts.get(standing.state, 0) + 1
    return counts


def _picture(data: bytes, kind: str, cached: str = "private, max-age=3600") -> Response:
    """A picture; what a set holds never changes, and its address names the set."""
    headers = {"X-Content-Type-Options": "nosniff", "Cache-Control": cached}
    return Response(data, media_type=kind, headers=headers)


def file_address(committed: CommittedSet, name: str) -> str:
    """The path of a file of a set on this server."""
    ref = committed.ref
    return f"/files/{ref.asset}/{ref.partition}/{ref.identity}/{name}"


TEMPLATES.globals["file_address"] = file_address
TEMPLATES.globals["CONTACT_SHEET"] = CONTACT_SHEET
TEMPLATES.globals["THUMBNAIL"] = THUMBNAIL
TEMPLATES.filters["words"] = lambda state: STATES.get(state, state)
