"""The record of paid calls: written before a call and after it, so that nothing is paid for twice and nothing is lost."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from typing import Any

from posefactory_dagster.quality.approval import now
from posefactory_dagster.quality.records import Image, Parameters
from posefactory_dagster.storage import layout
from posefactory_dagster.storage.store import Store
from posefactory_dagster.variants.enhancers.base import Enhanced


@dataclass(frozen=True)
class Journal:
    """One variant's calls. A call that was begun and has no answer may have been charged."""

    store: Store
    character: str
    variant: str

    def begin(self, number: int, parameters: Parameters, estimate_usd: float, run_id: str) -> bool:
        """Say that the call is about to go out; False if it was said before."""
        call = {
            "at": now().isoformat(),
            "parameters": parameters.model_dump(),
            "estimate_usd": estimate_usd,
            "run_id": run_id,
        }
        return self.store.create_bytes(
            self._key(f"{number}-call.json"), json.dumps(call, indent=1).encode()
        )

    def take_back(self, number: int) -> None:
        """The call came to nothing and was not charged; it may be made again."""
        self.store.delete([self._key(f"{number}-call.json")])

    def call(self, number: int) -> dict[str, Any] | None:
        """What was said before the call, or None."""
        data = self.store.get_bytes(self._key(f"{number}-call.json"))
        return json.loads(data) if data else None

    def keep(
        self,
        number: int,
        parameters: Parameters,
        enhanced: Enhanced,
        seconds: float,
        cost_usd: float,
    ) -> dict[str, Any]:
        """Keep an image that came, before anything else is done with it; returns the answer's record."""
        image = image_of(self.character, self.variant, number, enhanced)
        self.store.put_bytes(image.key, enhanced.data)
        return self.close(
            number,
            {
                "parameters": parameters.model_dump(),
                "image": image.model_dump(),
                "seed": enhanced.seed,
                "answer": enhanced.answer,
                "filtered": enhanced.filtered,
                "seconds": round(seconds, 3),
                "cost_usd": cost_usd,
                "estimate_usd": cost_usd,
            },
        )

    def close(self, number: int, answer: dict[str, Any]) -> dict[str, Any]:
        """Write how a call ended; once."""
        self.store.create_bytes(
            self._key(f"{number}-answer.json"), json.dumps(answer, indent=1).encode()
        )
        return answer

    def answer(self, number: int) -> dict[str, Any] | None:
        """How a call ended, or None."""
        data = self.store.get_bytes(self._key(f"{number}-answer.json"))
        return json.loads(data) if data else None

    def _key(self, name: str) -> str:
        return layout.variant_file(self.character, self.variant, name)


def image_of(character: str, variant: str, number: int, enhanced: Enhanced) -> Image:
    """Where an attempt's image belongs; its name holds its checksum, so that it can never be overwritten by another."""
    sha256 = hashlib.sha256(enhanced.data).hexdigest()
    key = layout.variant_file(character, variant, f"{number}-{sha256[:12]}.{enhanced.ending}")
    return Image(key=key, sha256=sha256, size=len(enhanced.data))
