"""Stability AI's API: structure and sketch control of v2beta, and SDXL 1.0 image-to-image of v1.

Fields, limits and answers follow Stability's published API specification (v2beta and v1); how it charges follows its
price page, where failed generations are free. What is not documented is treated as if it had cost money.
"""

from __future__ import annotations

import io
import json
from dataclasses import dataclass
from typing import Any

import httpx
import numpy as np
import tenacity
from PIL import Image
from pydantic import SecretStr
from pyrate_limiter import Duration, Limiter, Rate

from blender_scripts.supervise import plain_text
from posefactory_dagster.budget.prices import estimate_cost, price_table
from posefactory_dagster.pictures import UNREADABLE
from posefactory_dagster.settings import environment
from posefactory_dagster.variants.documents import Parameters, Style
from posefactory_dagster.variants.enhancers.base import (
    CannotEnhance,
    Enhanced,
    EnhancerError,
    OutcomeUnknown,
    Refused,
    RenderView,
)
from posefactory_dagster.variants.providers import (
    DreamStudioProvider,
    StabilityOptions,
    StabilityProvider,
)

#: Stability allows 150 calls in 10 s, and who goes over it waits a minute. Calls reach it later than they leave here,
#: some more than others, so the window is taken 2 s longer.
RATE = Rate(150, 12 * Duration.SECOND)
TIMED_OUT_S = 60.0
#: An answer takes some 13 s; so many calls on the way keep to that rate.
PARALLEL = 180
#: No byte comes before the image is ready.
READ_TIMEOUT_S = 180.0
MOST_TRIES = 5
MOST_BYTES = 10 * 1024 * 1024
LEAST_SIDE, LEAST_PIXELS, MOST_PIXELS, MOST_ASPECT = 64, 4096, 9_437_184, 2.5
#: What SDXL 1.0 takes, (width, height), and the same upright.
SDXL_SIZES = ((1024, 1024), (1152, 896), (1216, 832), (1344, 768), (1536, 640))
#: A render is stretched to one of these, and back, by at most this.
MOST_STRETCH = 0.02
#: No image of MOST_PIXELS is larger than this as a file; of a longer answer the beginning is kept, and the gate refuses it.
MOST_ANSWER_BYTES = 64 * 1024 * 1024
MOST_SEED = 2**32 - 1
#: So much of a header is kept in the record.
MOST_SAID = 200
FILTERED = "CONTENT_FILTERED"
#: Names of answers that say no to this image alone.
REFUSALS = ("content_moderation", "public_figure", "invalid_prompts")
CLIENT = "pose-factory"


@dataclass(frozen=True)
class _Answer:
    """What an error answer says, without anything that could hold a key."""

    status: int
    name: str
    text: str


@dataclass(frozen=True)
class _Reply:
    """An answer that was read as far as it is allowed to be long."""

    status_code: int
    headers: httpx.Headers
    content: bytes


class Stability:
    """See the module.

    Args:
        provider: ``stability``, or ``dreamstudio`` with a key of its own.
        model: ``structure``, ``sketch`` or ``sdxl_1_0``.
        timed_out_s: how long to stay away after too many calls, where the answer does not say.

    Raises:
        CannotEnhance: the key is not in the environment, or there is no such model to call.
    """

    paid = True
    repeatable = False
    moves_pose = True
    parallel = PARALLEL

    def __init__(
        self,
        provider: str,
        model: str,
        timed_out_s: float = TIMED_OUT_S,
    ) -> None:
        env = environment()
        keys: dict[str, SecretStr | None] = {
            StabilityProvider.name: env.stability_api_key,
            DreamStudioProvider.name: env.dreamstudio_api_key,
        }
        endpoints = {
            name: price.endpoint
            for name, price in price_table().providers[provider].models.items()
            if price.endpoint
        }
        if model not in endpoints:
            raise CannotEnhance(f"model {model!r}: {provider} is called for {', '.join(endpoints)}")
        key = keys[provider]
        if key is None:
            raise CannotEnhance(
                f"{provider.upper()}_API_KEY is not set; {provider} makes no image without it"
            )
        secret = key.get_secret_value().strip()  # files of secrets end in a newline
        if not secret.isascii() or not secret.isprintable() or " " in secret:
            raise CannotEnhance(f"{provider.upper()}_API_KEY holds what no key holds; set it again")
        base = env.stability_api_base_url
        if not base.startswith(("https://", "http://")):
            raise CannotEnhance(f"STABILITY_API_BASE_URL={base}: give it with https://")
        self._provider, self._model, self._endpoint = provider, model, endpoints[model]
        self._timed_out_s = timed_out_s
        self._limiter = Limiter(RATE)
        self._client = httpx.Client(
            base_url=base,
            headers={
                "authorization": f"Bearer {secret}",
                "stability-client-id": CLIENT,
            },
            timeout=httpx.Timeout(30.0, read=READ_TIMEOUT_S),
            limits=httpx.Limits(max_connections=PARALLEL),
        )
        version = self._endpoint.split("/")[1]
        self.name = {"provider": provider, "model": model, "version": version}

    def price(self) -> float:
        return float(estimate_cost(self._provider, model=self._model)["per_image"])

    def check(self, size: tuple[int, int]) -> None:
        width, height = size
        if self._model == "sdxl_1_0":
            _sdxl_size(size)
            return
        pixels, aspect = width * height, max(size) / min(size)
        if (
            min(size) < LEAST_SIDE
            or not LEAST_PIXELS <= pixels <= MOST_PIXELS
            or aspect > MOST_ASPECT
        ):
            raise CannotEnhance(
                f"{width} x {height} pixels: Stability takes sides of {LEAST_SIDE} and more, {LEAST_PIXELS} to {MOST_PIXELS} pixels, "
                f"and at most 1 : {MOST_ASPECT}; render in another size"
            )

    def close(self) -> None:
        self._client.close()

    def enhance(self, render_view: RenderView, style: Style, parameters: Parameters) -> Enhanced:
        options = style.options
        assert isinstance(options, StabilityOptions)
        if self._model == "sdxl_1_0":
            return self._sdxl(render_view, style, options, parameters)
        fields: dict[str, Any] = {
            "prompt": parameters.prompt,
            "negative_prompt": parameters.negative_prompt,
            "control_strength": str(parameters.control),
            "seed": str(parameters.seed),
            "output_format": "png",
        }
        if options.style_preset:
            fields["style_preset"] = options.style_preset
        answer = self._send("image", render_view.png, fields, "image/*")
        return self._enhanced(answer, answer.content, parameters)

    def _sdxl(
        self,
        render_view: RenderView,
        style: Style,
        options: StabilityOptions,
        parameters: Parameters,
    ) -> Enhanced:
        size = render_view.subject.size
        with Image.open(io.BytesIO(render_view.png)) as image:
            png = _png(image.convert("RGB").resize(_sdxl_size(size), Image.Resampling.LANCZOS))
        fields = {
            "text_prompts[0][text]": parameters.prompt,
            "text_prompts[0][weight]": "1",
            "init_image_mode": "IMAGE_STRENGTH",
            # Theirs says how much of the render stays, ours how far an image may go.
            "image_strength": f"{1 - parameters.strength:.3f}",
            "cfg_scale": str(options.cfg_scale),
            "samples": "1",
            "seed": str(parameters.seed),
            "steps": str(style.steps),
        }
        if parameters.negative_prompt:
            fields["text_prompts[1][text]"] = parameters.negative_prompt
            fields["text_prompts[1][weight]"] = "-1"
        if options.style_preset:
            fields["style_preset"] = options.style_preset
        answer = self._send("init_image", png, fields, "image/png")
        data = (
            answer.content
        )  # it is paid for, so it is kept as it is where it is not what was asked for
        try:
            with Image.open(io.BytesIO(data)) as image:
                if image.size == _sdxl_size(size):
                    data = _png(image.convert("RGB").resize(size, Image.Resampling.LANCZOS))
        except UNREADABLE:  # the gate says what it is
            pass
        return self._enhanced(answer, data, parameters)

    def _enhanced(self, answer: _Reply, data: bytes, parameters: Parameters) -> Enhanced:
        said = {
            name: plain_text(answer.headers[name][:MOST_SAID])
            for name in ("finish-reason", "seed", "content-type", "x-request-id")
            if name in answer.headers
        }
        seed = said.get("seed", "")
        return Enhanced(
            data,
            "png",
            int(seed) if _is_seed(seed) else parameters.seed,
            said,
            filtered=said.get("finish-reason") == FILTERED,
        )

    def _send(self, field: str, png: bytes, fields: dict[str, Any], accept: str) -> _Reply:
        """A call, repeated only where it is certain that nothing was charged.

        Raises:
            EnhancerError: its kind says whether to go on, and whether it may have cost money.
        """
        size = len(png) + sum(len(str(v)) for v in fields.values())
        if size > MOST_BYTES:
            raise EnhancerError(
                f"the render has {size} bytes; Stability takes {MOST_BYTES}, so render in a smaller size"
            )
        sent = {k: v for k, v in fields.items() if v != ""}
        for attempt in tenacity.Retrying(
            retry=tenacity.retry_if_exception_type(_TryAgain),
            stop=tenacity.stop_after_attempt(MOST_TRIES),
            wait=_waiting,
            reraise=True,
        ):
            with attempt:
                self._limiter.try_acquire("stability")
                return self._once(field, png, sent, accept)
        raise AssertionError("tenacity returns or raises")

    def _once(self, field: str, png: bytes, fields: dict[str, Any], accept: str) -> _Reply:
        files = {field: ("render.png", png, "image/png")}
        try:
            with self._client.stream(
                "POST", self._endpoint, data=fields, files=files, headers={"accept": accept}
            ) as stream:
                answer = _Reply(stream.status_code, stream.headers, _read_some(stream))
        except (
            httpx.ConnectError,
            httpx.ConnectTimeout,
            httpx.PoolTimeout,
            httpx.WriteError,
            httpx.WriteTimeout,
        ) as error:
            raise _TryAgain(
                f"{self._provider} cannot be reached ({type(error).__name__})", 1.0
            ) from error
        except (httpx.LocalProtocolError, httpx.UnsupportedProtocol, httpx.ProxyError) as error:
            # It never left; and the cause's text may hold the key.
            words = f"{self._provider} cannot be called ({type(error).__name__}); check address and proxy"
            raise CannotEnhance(words) from None
        except httpx.HTTPError as error:
            raise OutcomeUnknown(
                f"{self._provider} gave no answer ({type(error).__name__})"
            ) from error
        if answer.status_code == 200:
            return answer
        raise self._fault(_read_error(answer), answer)

    def _fault(self, said: _Answer, answer: _Reply) -> EnhancerError:
        """What an error answer means; v1 and v2beta differ in codes, so the name decides where it can."""
        where = f"{self._provider} answered {said.status} {said.name}".strip()
        text = f"{where}: {said.text}" if said.text else where
        if said.name == "insufficient_balance" or said.status == 402:
            return CannotEnhance(f"{where}: no credit is left; buy some, then run it again")
        if said.status == 401:  # its text repeats the key
            return CannotEnhance(
                f"{where}: {self._provider.upper()}_API_KEY is not accepted; make a new one"
            )
        if said.name in REFUSALS:
            return Refused(text)
        if said.status == 403:
            return CannotEnhance(f"{text}; the key may not use this endpoint")
        if said.status == 429:
            return _TryAgain(text, _retry_after(answer) or self._timed_out_s)
        if said.status == 413:
            return EnhancerError(f"{text}; render in a smaller size")
        if said.status in (500, 503) and said.name:
            return _TryAgain(text, 2.0)
        if said.status >= 500:  # a gateway's, which says nothing of what happened behind it
            return OutcomeUnknown(text)
        return CannotEnhance(f"{text}; mend the style and run it again")


class _TryAgain(EnhancerError):
    """Nothing was charged; the same call may do better after ``seconds``."""

    def __init__(self, text: str, seconds: float) -> None:
        super().__init__(text)
        self.seconds = seconds


def _waiting(state: tenacity.RetryCallState) -> float:
    error = state.outcome.exception() if state.outcome else None
    assert isinstance(error, _TryAgain)
    return error.seconds * (1 + float(np.random.default_rng().random()) / 4)


def _retry_after(answer: _Reply) -> float | None:
    text = answer.headers.get("retry-after", "")
    return float(text) if text.isascii() and text.isdecimal() and len(text) < 5 else None


def _read_some(stream: httpx.Response) -> bytes:
    """The body, or its beginning: an answer may be of any length, and may be compressed to a thousandth of it."""
    data = bytearray()
    for chunk in stream.iter_bytes():
        data += chunk
        if len(data) > MOST_ANSWER_BYTES:
            break
    return bytes(data[:MOST_ANSWER_BYTES])


def _is_seed(text: str) -> bool:
    return text.isascii() and text.isdecimal() and len(text) <= 10 and int(text) <= MOST_SEED


def _read_error(answer: _Reply) -> _Answer:
    """v2beta says {id, name, errors}, v1 {id, name, message}; anything else is left unread."""
    try:
        document = json.loads(answer.content)
    except (ValueError, RecursionError):
        return _Answer(answer.status_code, "", "")
    if not isinstance(document, dict):
        return _Answer(answer.status_code, "", "")
    errors = document.get("errors") or [document.get("message", "")]
    text = "; ".join(str(e) for e in errors) if isinstance(errors, list) else ""
    name = plain_text(str(document.get("name", ""))[:MOST_SAID])
    return _Answer(answer.status_code, name, plain_text(text[:500]))


def _sdxl_size(size: tuple[int, int]) -> tuple[int, int]:
    """The size at which SDXL 1.0 works on renders of (width, height).

    Raises:
        CannotEnhance: no size that it takes has these proportions.
    """
    choices = [*SDXL_SIZES, *((h, w) for w, h in SDXL_SIZES)]
    aspect = size[0] / size[1]
    best = min(choices, key=lambda s: abs(s[0] / s[1] / aspect - 1))
    if abs(best[0] / best[1] / aspect - 1) > MOST_STRETCH:
        words = ", ".join(f"{w} x {h}" for w, h in choices)
        raise CannotEnhance(
            f"{size[0]} x {size[1]} pixels: SDXL 1.0 takes the proportions of {words}"
        )
    return best


def _png(image: Image.Image) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()
