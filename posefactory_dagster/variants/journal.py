"""The record of paid calls: written before a call and after it, so that nothing is paid for twice and nothing is lost."""

from __future__ import annotations

import datetime
import hashlib
from dataclasses import dataclass
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

from posefactory_dagster.review.documents import Image
from posefactory_dagster.storage import layout
from posefactory_dagster.storage.store import Store
from posefactory_dagster.variants.documents import Parameters
from posefactory_dagster.variants.enhancers.base import Enhanced

#: In the name of an image that a content filter spoiled.
FILTERED = "filtered-"


class Call(BaseModel):
    """The record that is written before a paid call: time, parameters, estimated cost and run."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    at: datetime.datetime
    parameters: Parameters
    estimate_usd: float
    run_id: str

    def lost(self, error: str) -> CallAnswer:
        """The answer of a call whose outcome is not known: it may have been charged."""
        return CallAnswer(
            parameters=self.parameters,
            error=error,
            cost_usd=self.estimate_usd,
            estimate_usd=self.estimate_usd,
            outcome="unknown",
        )


class CallAnswer(BaseModel):
    """How a call ended. Costs in US dollars; ``seconds`` from the call to its answer.

    ``answer`` is what the provider said, ``filtered`` that its content filter spoiled or refused the image.
    """

    model_config = ConfigDict(extra="ignore", frozen=True)

    parameters: Parameters
    image: Image | None = None
    seed: int | None = None
    answer: dict[str, Any] = {}
    filtered: bool = False
    seconds: float = 0.0
    cost_usd: float = 0.0
    estimate_usd: float = 0.0
    outcome: Literal["done", "filtered", "unknown"] = "unknown"
    error: str = ""

    def of_attempt(self) -> dict[str, Any]:
        """The fields that a record of the attempt (``Attempt``) takes over."""
        shared = ("parameters", "image", "answer", "seconds", "cost_usd", "estimate_usd", "error")
        seed = self.parameters.seed if self.seed is None else self.seed
        return {"seed": seed, **{name: getattr(self, name) for name in shared}}


@dataclass(frozen=True)
class Journal:
    """One variant's calls. A call that was begun and has no answer may have been charged."""

    store: Store
    character: str
    variant: str

    def begin(self, number: int, call: Call) -> bool:
        """Record that the call is about to be made. Returns False if it was recorded before."""
        return self.store.create_bytes(
            self._key(f"{number}-call.json"), call.model_dump_json().encode()
        )

    def take_back(self, number: int) -> None:
        """Remove the record of a call that was not charged, so that it may be repeated."""
        self.store.delete([self._key(f"{number}-call.json")])

    def call(self, number: int) -> Call | None:
        """The record written before the call, or None."""
        data = self.store.get_bytes(self._key(f"{number}-call.json"))
        return Call.model_validate_json(data) if data else None

    def keep(self, number: int, call: Call, enhanced: Enhanced, seconds: float) -> CallAnswer:
        """Keep an image that came, before anything else is done with it; returns the answer's record."""
        image = image_of(self.character, self.variant, number, enhanced)
        self.store.put_bytes(image.key, enhanced.data)
        cost = call.estimate_usd if enhanced.cost_usd is None else enhanced.cost_usd
        answer = CallAnswer(
            parameters=call.parameters,
            image=image,
            seed=enhanced.seed,
            answer=enhanced.answer,
            filtered=enhanced.filtered,
            seconds=round(seconds, 3),
            cost_usd=cost,
            estimate_usd=call.estimate_usd,
            outcome="filtered" if enhanced.filtered else "done",
        )
        return self.close(number, answer)

    def recover(self, number: int, call: Call) -> CallAnswer | None:
        """The answer of a call whose image was kept by a run that was killed before it could say so; or None."""
        begin = self._key(f"{number}-")
        for item in self.store.list(layout.variant_prefix(self.character, self.variant)):
            if not item.key.startswith(begin) or item.key.endswith(".json"):
                continue
            data = self.store.get_bytes(item.key) or b""
            ending = item.key.rpartition(".")[2]
            filtered = item.key.startswith(begin + FILTERED)
            seed, said = call.parameters.seed, {"recovered": True}
            enhanced = Enhanced(data, ending, seed, said, filtered)
            image = image_of(self.character, self.variant, number, enhanced)
            if image.key == item.key:  # its name holds its checksum, so it is whole
                return self.keep(number, call, enhanced, 0.0)
        return None

    def close(self, number: int, answer: CallAnswer) -> CallAnswer:
        """Write the outcome of a call, once."""
        self.store.create_bytes(
            self._key(f"{number}-answer.json"),
            answer.model_dump_json(indent=1, exclude_none=True).encode(),
        )
        return answer

    def answer(self, number: int) -> CallAnswer | None:
        """The outcome of a call, or None."""
        data = self.store.get_bytes(self._key(f"{number}-answer.json"))
        return CallAnswer.model_validate_json(data) if data else None

    def image(self, answer: CallAnswer) -> bytes | None:
        """The image of an answer, or None if it has none.

        Raises:
            StoreError: it is not what it was.
        """
        image = answer.image
        if image is None:
            return None
        return self.store.local_paths({image.key: image.sha256})[image.key].read_bytes()

    def _key(self, name: str) -> str:
        return layout.variant_file(self.character, self.variant, name)


def image_of(character: str, variant: str, number: int, enhanced: Enhanced) -> Image:
    """Where an attempt's image belongs; its name holds its checksum, so that it can never be overwritten by another."""
    sha256 = hashlib.sha256(enhanced.data).hexdigest()
    word = FILTERED if enhanced.filtered else ""
    key = layout.variant_file(character, variant, f"{number}-{word}{sha256[:12]}.{enhanced.ending}")
    return Image(key=key, sha256=sha256, size=len(enhanced.data))


def asked_for(store: Store, character: str) -> set[str]:
    """The variants of a character for which a call was made already, whatever came of it."""
    keys = (item.key for item in store.list(layout.variants_of(character)))
    return {key.split("/")[2] for key in keys if key.endswith("/1-call.json")}
