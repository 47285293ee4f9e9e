"""Look into an FBX file before any importer does: refuse what would harm it, and blank the paths it holds.

Standard library only. The layout of binary FBX is documented by Blender's developers ("FBX binary file format
specification", code.blender.org, 2013): records of {end offset, number of properties, their length, name}, 32 bits wide
before version 7500 and 64 bits from it on, nested up to a record of zeros.
"""

from __future__ import annotations

import array
import hashlib
import re
import struct
import sys
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field

from blender_scripts.errors import InputError

MAGIC = b"Kaydara FBX Binary  \x00"
HEADER_BYTES = 27
#: FBX counts time in these units (KTime).
TICKS_PER_SECOND = 46_186_158_000
MAX_DEPTH = 64
#: Caps, each far above what characters need: Mixamo's largest rigs have 112 bones.
MAX_OBJECTS = 20_000
MAX_BONES = 5_000
MAX_RECORDS = 2_000_000
MAX_SECONDS = 1_800
MAX_ARRAY_BYTES = 1 << 30

#: Records and properties whose text is the path of a file.
PATH_RECORDS = frozenset(
    {b"FileName", b"Filename", b"RelativeFilename", b"CacheFileName", b"CacheAbsoluteFileName"}
)
PATH_PROPERTIES = frozenset({b"Path", b"RelPath", b"CacheFileName", b"CacheAbsoluteFileName"})
_SCALARS = {b"Y": 2, b"C": 1, b"B": 1, b"I": 4, b"F": 4, b"D": 8, b"L": 8}
_ARRAYS = {b"f": "f", b"d": "d", b"l": "q", b"i": "i", b"b": "b"}
_DIGITS = b"0123456789abcdefghijklmnopqrstuvwxyz"
_TEXT_PATH = re.compile(
    rb'((?:^|\n)[ \t]*(?:RelativeFilename|Filename|FileName|CacheFileName|CacheAbsoluteFileName):[ \t]*")([^"\n]*)(")'
)
_TEXT_PROPERTY = re.compile(
    rb'((?:^|\n)[ \t]*P(?:roperty)?:[ \t]*"(?:Path|RelPath|CacheFileName|CacheAbsoluteFileName)"[^\n]*,[ \t]*")([^"\n]*)(")'
)


@dataclass
class Prepared:
    """A file that may be given to an importer.

    ``data`` is its content with every path replaced by a name that leads nowhere; ``names`` maps such a name to what
    the file said.
    """

    data: bytes
    names: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class _Record:
    """A record: its place, its name, the names above it, and its properties as (type, start, length) in the data."""

    start: int
    name: bytes
    above: tuple[bytes, ...]
    owner: int
    properties: tuple[tuple[bytes, int, int], ...]


class _Damaged(ValueError):
    pass


def prepare(data: bytes, name: str) -> Prepared:
    """Check a file and blank its paths.

    Files that are not little-endian binary FBX are passed on as they are, but for the paths of ASCII files: what the
    importer makes of them, it says itself.

    Raises:
        InputError: clusters that point outside their mesh, or more of something than any character has.
    """
    if not data.startswith(MAGIC):
        return _prepare_text(data)
    if len(data) > 22 and data[22] == 1:  # big-endian
        return Prepared(data)
    try:
        return _prepare_binary(data, name)
    except (_Damaged, struct.error, zlib.error, IndexError) as error:
        raise InputError(f"{name}: damaged FBX ({error}); export or upload it again") from error


def _prepare_binary(data: bytes, name: str) -> Prepared:
    survey, paths = _Survey(data, name), _Paths()
    for record in _records(data):
        survey.note(record)
        paths.note(data, record)
    survey.check_whole()
    return paths.blanked(data, survey.links)


class _Survey:
    """Counts what a file holds, and refuses what would harm an importer."""

    def __init__(self, data: bytes, name: str) -> None:
        self._data, self._name = data, name
        self._counts = {"records": 0, "objects": 0, "bones": 0}
        self._vertices_of_mesh: dict[int, int] = {}
        self._last_of_cluster: dict[int, int] = {}
        self.links: list[tuple[int, int]] = []

    def note(self, record: _Record) -> None:
        """Count a record, and look into it where it can do harm."""
        data = self._data
        self._counts["records"] += 1
        self._hold("records", MAX_RECORDS)
        if record.above == (b"Objects",):
            self._counts["objects"] += 1
            is_bone = record.name == b"Model" and _text(data, record, 2) in (b"LimbNode", b"Limb")
            self._counts["bones"] += is_bone
        elif record.name == b"Vertices" and record.above == (b"Objects", b"Geometry"):
            self._vertices_of_mesh[record.owner] = _array_length(data, record) // 3
        elif record.name == b"Indexes" and record.above == (b"Objects", b"Deformer"):
            low, self._last_of_cluster[record.owner] = _extremes(data, record)
            if low < 0:
                raise self._index_error()
        elif record.name == b"KeyTime":
            self._check_keys(record)
        elif record.name == b"C" and record.above == (b"Connections",):
            ends = [_integer(data, p) for p in record.properties[1:3]]
            if len(ends) == 2:
                self.links.append((ends[0], ends[1]))

    def check_whole(self) -> None:
        """What shows only when all records are known."""
        self._hold("objects", MAX_OBJECTS)
        self._hold("bones", MAX_BONES)
        # A cluster belongs to a skin, and the skin to a mesh; a weight past the mesh would be written past its memory.
        meshes = self._vertices_of_mesh
        mesh_of_skin = {child: parent for child, parent in self.links if parent in meshes}
        for child, parent in self.links:
            mesh, last = mesh_of_skin.get(parent), self._last_of_cluster.get(child)
            if mesh is not None and last is not None and last >= meshes[mesh]:
                raise self._index_error()

    def _hold(self, what: str, most: int) -> None:
        if self._counts[what] > most:
            raise InputError(
                f"{self._name}: {self._counts[what]} {what}, over the limit of {most}; export the character alone"
            )

    def _check_keys(self, record: _Record) -> None:
        low, high = _extremes(self._data, record)
        seconds = (high - low) / TICKS_PER_SECOND
        if seconds > MAX_SECONDS:
            raise InputError(
                f"{self._name}: an animation of {seconds:.0f} s, over the limit of {MAX_SECONDS} s; "
                "cut it and export again"
            )

    def _index_error(self) -> InputError:
        return InputError(
            f"{self._name}: skin weights for vertices that its mesh does not have; export it again"
        )


class _Paths:
    """The paths in a file, and the images it embeds."""

    def __init__(self) -> None:
        self._places: list[tuple[int, int, int]] = []  # start, length, owner
        self._content: dict[int, str] = {}

    def note(self, data: bytes, record: _Record) -> None:
        """Remember what a record says of files."""
        place = _path_place(data, record)
        if place is not None:
            self._places.append((*place, record.owner))
        if record.name == b"Content" and record.above[:2] == (b"Objects", b"Video"):
            for _, start, length in record.properties[:1]:
                if length:
                    content = data[start : start + length]
                    self._content[record.owner] = hashlib.sha256(content).hexdigest()

    def blanked(self, data: bytes, links: list[tuple[int, int]]) -> Prepared:
        """The file with a name of the same length in each path's place.

        One path has one name, as many files embed an image once and name it often. Where different images are
        embedded under one path, each has a name of its own, with the textures that hang on it.
        """
        patched, names = bytearray(data), {}
        used: set[bytes] = set()
        chosen: dict[tuple[bytes, str], bytes] = {}
        contents: dict[bytes, set[str]] = {}
        for start, length, owner in self._places:
            if owner in self._content:
                path = data[start : start + length]
                contents.setdefault(path, set()).add(self._content[owner])
        image_of = dict(self._content)
        image_of |= {
            parent: self._content[child] for child, parent in links if child in self._content
        }
        for start, length, owner in self._places:
            path = data[start : start + length]
            image = image_of.get(owner, "") if len(contents.get(path, ())) > 1 else ""
            name = chosen.get((path, image))
            if name is None:
                name = chosen[path, image] = _free_name(length, used)
                used.add(name)
                names[name.decode("ascii")] = path.decode("utf-8", "replace")
            patched[start : start + length] = name
        return Prepared(bytes(patched), names)


def _records(data: bytes) -> Iterator[_Record]:
    """All records, each before those inside it."""
    wide = int.from_bytes(data[23:27], "little") >= 7500
    head = struct.Struct("<QQQB" if wide else "<IIIB")
    # (end of the record, names down to it, id of the object it belongs to)
    stack: list[tuple[int, tuple[bytes, ...], int]] = [(len(data), (), 0)]
    position = HEADER_BYTES
    while stack:
        end, above, owner = stack[-1]
        if position >= end:
            stack.pop()
            continue
        if position + head.size > len(data):
            raise _Damaged("a record is cut off")
        stop, count, _, name_length = head.unpack_from(data, position)
        start = position
        position += head.size
        if stop == 0:  # the record of zeros that ends a list
            if len(stack) == 1:
                return
            position = end
            continue
        if not position < stop <= end:
            raise _Damaged("a record ends outside the one that holds it")
        name = data[position : position + name_length]
        position += name_length
        properties = []
        for _ in range(min(count, len(data))):
            kind, first, length = _property(data, position)
            if first + length > stop:
                raise _Damaged("a property is longer than its record")
            properties.append((kind, first, length))
            position = first + length
        inside = owner
        if above == (b"Objects",) and properties and properties[0][0] == b"L":
            inside = _integer(data, properties[0])
        yield _Record(start, name, above, inside, tuple(properties))
        if len(stack) > MAX_DEPTH:
            raise _Damaged("records nested too deeply")
        stack.append((stop, (*above, name), inside))


def _property(data: bytes, position: int) -> tuple[bytes, int, int]:
    """Type, start of the value and its length in bytes; of arrays with their head of 12 bytes."""
    kind = data[position : position + 1]
    position += 1
    if kind in _SCALARS:
        return kind, position, _SCALARS[kind]
    if kind in (b"S", b"R"):
        (length,) = struct.unpack_from("<I", data, position)
        return kind, position + 4, length
    if kind in _ARRAYS:
        _, _, length = struct.unpack_from("<III", data, position)
        return kind, position, 12 + length
    raise _Damaged(f"a property of unknown type {kind!r}")


def _text(data: bytes, record: _Record, index: int) -> bytes:
    if index >= len(record.properties) or record.properties[index][0] != b"S":
        return b""
    _, start, length = record.properties[index]
    return data[start : start + length]


def _integer(data: bytes, place: tuple[bytes, int, int]) -> int:
    kind, start, length = place
    if kind not in (b"L", b"I"):
        return 0
    return int.from_bytes(data[start : start + length], "little", signed=True)


def _array_length(data: bytes, record: _Record) -> int:
    if not record.properties or record.properties[0][0] not in _ARRAYS:
        return 0
    return int(struct.unpack_from("<I", data, record.properties[0][1])[0])


def _extremes(data: bytes, record: _Record) -> tuple[int, int]:
    """Least and greatest value of an array of whole numbers; (0, -1) of an empty one."""
    if not record.properties or record.properties[0][0] not in (b"i", b"l"):
        return 0, -1
    kind, start, length = record.properties[0]
    count, encoding, _ = struct.unpack_from("<III", data, start)
    values = array.array(_ARRAYS[kind])
    wanted = count * values.itemsize
    if wanted > MAX_ARRAY_BYTES:
        raise _Damaged("an array larger than any character needs")
    raw = data[start + 12 : start + length]
    if encoding == 1:
        raw = zlib.decompressobj().decompress(raw, wanted + 1)
    if len(raw) != wanted:
        raise _Damaged("an array of another length than announced")
    values.frombytes(raw)
    if sys.byteorder == "big":
        values.byteswap()
    return (min(values), max(values)) if values else (0, -1)


def _path_place(data: bytes, record: _Record) -> tuple[int, int] | None:
    """Where in the data a record names a file: (start, length)."""
    if record.name in PATH_RECORDS:
        index = 0
    elif record.name in (b"P", b"Property") and _text(data, record, 0) in PATH_PROPERTIES:
        index = len(record.properties) - 1
    else:
        return None
    if not record.properties or record.properties[index][0] != b"S":
        return None
    _, start, length = record.properties[index]
    return (start, length) if length else None


def _free_name(length: int, used: set[bytes]) -> bytes:
    """A name of letters and digits that is not used yet; where so short a name is none left, any."""
    for number in range(36 ** min(length, 4)):
        digits = b""
        rest = number
        for _ in range(min(length, 4)):
            rest, digit = divmod(rest, 36)
            digits = _DIGITS[digit : digit + 1] + digits
        name = digits.rjust(length, b"t") if length > 4 else digits
        if name not in used:
            return name
    return b"t" * length


def _prepare_text(data: bytes) -> Prepared:
    """An ASCII file: its paths, each by a name of its own."""
    names: dict[str, str] = {}

    def blank(match: re.Match[bytes]) -> bytes:
        if not match.group(2):
            return match.group(0)
        path = match.group(2)
        name = next((n for n, p in names.items() if p.encode("utf-8", "replace") == path), None)
        if name is None:
            name = f"texture{len(names)}"
            names[name] = path.decode("utf-8", "replace")
        return match.group(1) + name.encode() + match.group(3)

    return Prepared(_TEXT_PROPERTY.sub(blank, _TEXT_PATH.sub(blank, data)), names)
