"""A worker's messages, read from chunks that anybody holding an address could have written."""

import json
import time
from collections.abc import Callable

import dagster as dg
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from posefactory_dagster.compute.runpod import reader as reading
from posefactory_dagster.compute.runpod.reader import MessageStreamReader

OPENED = {"__dagster_pipes_version": "0.1", "method": "opened", "params": {"extras": {}}}
CLOSED = {"__dagster_pipes_version": "0.1", "method": "closed", "params": {}}


def custom(payload: object) -> dict[str, object]:
    return {"__dagster_pipes_version": "0.1", "method": "report_custom_message", "params": {"payload": payload}}  # fmt: skip


def lines(*messages: object) -> bytes:
    return "\n".join(json.dumps(m) for m in messages).encode()


def heard(
    chunks: dict[tuple[int, int], bytes],
    late: Callable[[tuple[int, int]], bool] = lambda place: False,
) -> list[object]:
    """What a session gets to know of these chunks before it is closed, with three streams.

    ``late``: whether a chunk is not there yet, asked whenever it is looked for.
    """
    payloads: list[object] = []

    def read(stream: int, number: int) -> bytes | None:
        return None if late((stream, number)) else chunks.get((stream, number))

    reader = MessageStreamReader(read, 3)

    @dg.asset
    def listening(context: dg.AssetExecutionContext) -> object:
        injector = dg.PipesEnvContextInjector()
        with dg.open_pipes_session(context, injector, message_reader=reader) as session:
            deadline = time.monotonic() + 20
            while not reader.closed:
                assert time.monotonic() < deadline, "the reader came to a stop"
                time.sleep(0.01)
        payloads.extend(session.get_custom_messages())
        return session.get_results()

    with dg.instance_for_test() as instance:
        assert dg.materialize([listening], instance=instance).success
    return payloads


def test_a_container_that_was_started_anew_goes_on_in_the_next_stream() -> None:
    assert heard(
        {
            (0, 0): lines(OPENED, custom(1)),
            (0, 1): lines(custom(2)),  # it died here
            (1, 0): lines(OPENED),
            (1, 1): lines(custom(3), CLOSED),
        }
    ) == [1, 2, 3]


def test_what_comes_late_in_one_stream_holds_no_other_up_and_is_not_lost() -> None:
    seen: set[tuple[int, int]] = set()

    def late(place: tuple[int, int]) -> bool:
        seen.add(place)
        return place == (0, 1) and (1, 1) not in seen or place == (1, 2) and (0, 2) not in seen

    chunks = {
        (0, 0): lines(OPENED),
        (0, 1): lines(custom("late")),  # only after the second stream is under way
        (1, 0): lines(OPENED, custom("second")),
        (1, 1): lines(custom("more")),
        (1, 2): lines(CLOSED),  # only after the late one was read
    }
    assert heard(chunks, late) == ["second", "more", "late"]


def test_chunks_of_a_size_that_no_worker_writes_are_left_out() -> None:
    huge = lines(custom("x" * (reading.MAX_CHUNK + 1)))
    assert heard({(0, 0): lines(OPENED), (0, 1): huge, (0, 2): lines(custom(1), CLOSED)}) == [1]


strange = st.one_of(
    st.binary(max_size=200),
    st.recursive(
        st.none() | st.booleans() | st.floats(allow_nan=False) | st.text(max_size=20),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["method", "params", "payload", "extras"]), inner, max_size=3),
        max_leaves=8,
    ).map(lambda value: json.dumps(value).encode()),
    st.sampled_from(["opened", "log", "log_external_stream", "report_asset_materialization", "report_asset_check", "no such"]).map(
        lambda method: lines({"__dagster_pipes_version": "0.1", "method": method, "params": {"x": 1}})
    ),
)  # fmt: skip


@settings(max_examples=15, deadline=None, phases=[Phase.explicit, Phase.generate])
@given(garbage=st.lists(strange, min_size=1, max_size=5))
def test_no_garbage_keeps_the_messages_beside_it_away(garbage: list[bytes]) -> None:
    chunks = {(0, 0): lines(OPENED, custom("before"))}
    for number, data in enumerate(garbage, start=1):
        chunks[0, number] = data
    chunks[0, len(garbage) + 1] = lines(custom("after"), CLOSED)
    said = heard(chunks)
    assert said[0] == "before" and said[-1] == "after"
