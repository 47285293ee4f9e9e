"""Patch binary FBX where Blender cannot write what a file in the wild has.

Each function takes the bytes of a file and gives those of another one. Records are found with the factory's own reader, and
what comes out is read by Blender's importer.
"""

from __future__ import annotations

import array
import struct

from blender_scripts.formats import fbx_file
from blender_scripts.formats.fbx_file import TICKS_PER_SECOND, _array_length, _records, _text

WIDE_FROM = 7500


def splice(data: bytes, start: int, stop: int, new: bytes) -> bytes:
    """Put ``new`` in the place of ``data[start:stop]`` and move the ends of all records that lie behind or around it."""
    grown = len(new) - (stop - start)
    wide = int.from_bytes(data[23:27], "little") >= WIDE_FROM
    ends, lengths = struct.Struct("<Q" if wide else "<I"), struct.Struct("<QQ" if wide else "<II")
    moved = bytearray(data)
    for record in _records(data):
        (end,) = ends.unpack_from(data, record.start)
        # What is put in between two records belongs to neither.
        if end < stop or (end == stop and start == stop):
            continue
        ends.pack_into(moved, record.start, end + grown)
        # Where the change lies in the record's own properties, their length changes too.
        if (
            record.properties
            and record.properties[0][1] - 5 <= start
            and stop <= sum(record.properties[-1][1:])
        ):
            count, length = lengths.unpack_from(data, record.start + ends.size)
            lengths.pack_into(moved, record.start + ends.size, count, length + grown)
    return bytes(moved[:start]) + new + bytes(moved[stop:])


def text_property(value: str) -> bytes:
    """A property that holds a text."""
    raw = value.encode()
    return b"S" + struct.pack("<I", len(raw)) + raw


def record(data: bytes, at: int, name: str, properties: list[bytes]) -> bytes:
    """A record without others in it, for the place ``at``."""
    wide = int.from_bytes(data[23:27], "little") >= WIDE_FROM
    body = b"".join(properties)
    head = struct.Struct("<QQQB" if wide else "<IIIB")
    end = at + head.size + len(name) + len(body)
    return head.pack(end, len(properties), len(body), len(name)) + name.encode() + body


def hide(data: bytes, model: str) -> bytes:
    """A model that the file does not show."""
    inside = False
    for found in _records(data):
        if found.name == b"Model" and found.above == (b"Objects",):
            inside = _text(data, found, 1).startswith(model.encode() + b"\x00")
        if inside and found.name == b"P" and found.above == (b"Objects", b"Model", b"Properties70"):
            flags = [text_property(t) for t in ("Visibility", "Visibility", "", "A")]
            new = record(data, found.start, "P", [*flags, b"D" + struct.pack("<d", 0.0)])
            return splice(data, found.start, found.start, new)
    raise LookupError(model)


def numbers(kind: str, values: list[int]) -> bytes:
    """A property that holds whole numbers, uncompressed; ``kind`` is ``i`` or ``l``."""
    raw = array.array({"i": "i", "l": "q"}[kind], values).tobytes()
    return kind.encode() + struct.pack("<III", len(values), 0, len(raw)) + raw


def _replace_first_property(data: bytes, found: fbx_file._Record, new: bytes) -> bytes:
    _, start, length = found.properties[0]
    return splice(data, start - 1, start + length, new)


def weights_outside(data: bytes, index: int = 1_000_000_000) -> bytes:
    """Skin weights for a vertex that the mesh does not have."""
    for found in _records(data):
        if found.name == b"Indexes" and (count := _array_length(data, found)):
            return _replace_first_property(data, found, numbers("i", [index] * count))
    raise LookupError("Indexes")


def last_key_at(data: bytes, seconds: float) -> bytes:
    """An animation whose last key is far away."""
    for found in _records(data):
        if found.name == b"KeyTime" and (count := _array_length(data, found)) > 1:
            times = [*range(count - 1), int(seconds * TICKS_PER_SECOND)]
            return _replace_first_property(data, found, numbers("l", times))
    raise LookupError("KeyTime")


def rename_paths(data: bytes, path: str) -> bytes:
    """Every path of an image becomes ``path``."""
    while True:
        for found in _records(data):
            place = fbx_file._path_place(data, found)
            if place is None or found.above[:1] != (b"Objects",):
                continue
            start, length = place
            if data[start : start + length] != path.encode():
                data = splice(data, start - 5, start + length, text_property(path))
                break
        else:
            return data


def many_models(data: bytes, count: int) -> bytes:
    """Many empties more."""
    first = next(r for r in _records(data) if r.name == b"Model" and r.above == (b"Objects",))
    new, at = b"", first.start
    for number in range(count):
        identity = b"L" + struct.pack("<q", 5_000_000_000 + number)
        name = b"S" + struct.pack("<I", 9 + 5) + b"Empty" + b"\x00\x01Model" + b"\x00\x00"
        entry = record(data, at + len(new), "Model", [identity, name, text_property("Null")])
        new += entry
    return splice(data, at, at, new)


def big_endian(data: bytes) -> bytes:
    """The mark of a file whose numbers are big-endian."""
    return data[:22] + b"\x01" + data[23:]
