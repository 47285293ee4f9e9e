"""Every object key in the store, and no key anywhere else.

uploads/<file name>                             what people drop
sets/<asset>/<partition>/<identity>/manifest.json        makes a set exist; names its attempt
sets/<asset>/<partition>/<identity>/<attempt>/<file>    what one attempt to make the set wrote
current/<asset>/<partition>.json                        which identity readers get
jobs/<job>/job.json, status.json                        what a renderer was asked, and how it went
jobs/<job>/order-<attempt>.json, messages-<attempt>/…   while a machine elsewhere works on it
jobs/<job>/requests-<attempt>/…, answers-<attempt>/…    while a pod makes images on request
casts/<cast>.json                                       which skin does which motion
people/<person>.json                                    the description of a person
groups/<group>.json                                     which characters are a group, and how they stand
wardrobe/<piece>/<file>                                 a piece of the wardrobe that the user added
motions/<motion>.json                                   which animation of which upload a motion is, and its tags
variants/<character>/<variant>/<file>                   images made from renders, and the record of paid calls
locks/<subject>/<id>.json                               an approved variant of a character; written once
locks/<kind>/<subject>/<id>.json                        an approved artifact of another kind
decisions/<name>.json                                   what people decided; dropped or written by `review`
ledger/<day>/<entry>.json                               money that was spent; written once
reserved/<day>/<holder>.json                            money that a run in progress may still spend
set-aside/<key>                                         what could not be read and `store verify --repair` took out of the way
doctor/<name>                                           written and removed by `posefactory doctor`

Each attempt writes to a folder of its own, so that two runs that race for one set cannot mix their files.
"""

from __future__ import annotations

import re

UPLOADS = "uploads/"
CASTS = "casts/"
MOTIONS = "motions/"
PEOPLE = "people/"
GROUPS = "groups/"
WARDROBE = "wardrobe/"
VARIANTS = "variants/"
LOCKS = "locks/"
DECISIONS = "decisions/"
LEDGER = "ledger/"
RESERVED = "reserved/"
SET_ASIDE = "set-aside/"
SETS = "sets/"
CURRENT = "current/"
JOBS = "jobs/"
#: How the names of what lies there only while a worker is at it begin.
JOB_TRAFFIC = ("order-", "messages-", "requests-", "answers-")
MANIFEST = "manifest.json"
#: The partition of an asset that has none.
UNPARTITIONED = "all"

_PART = re.compile(r"[a-zA-Z0-9_-][a-zA-Z0-9_.-]{0,199}")


class LayoutError(ValueError):
    """A part of a key that could lead elsewhere."""


def is_part(value: str) -> bool:
    """Whether ``value`` may be a part of an object key."""
    return _PART.fullmatch(value) is not None and ".." not in value


def _part(value: str) -> str:
    if not is_part(value):
        raise LayoutError(f"{value!r} cannot be part of an object key")
    return value


def set_prefix(asset: str, partition: str, identity: str) -> str:
    """Where a set's files lie; ends with a slash."""
    return f"{SETS}{_part(asset)}/{_part(partition)}/{_part(identity)}/"


def set_file(asset: str, partition: str, identity: str, attempt: str, name: str) -> str:
    """One file of a set; ``name`` may have folders."""
    inside = "/".join(_part(p) for p in name.split("/"))
    return f"{set_prefix(asset, partition, identity)}{_part(attempt)}/{inside}"


def job_file(job_id: str, name: str) -> str:
    """A file about a job; ``name`` may have folders."""
    return f"{JOBS}{_part(job_id)}/" + "/".join(_part(p) for p in name.split("/"))


def parse_job(key: str) -> str | None:
    """The job id if ``key`` is a job's document."""
    parts = key.split("/")
    is_job = len(parts) == 3 and parts[0] + "/" == JOBS and parts[2] == "job.json"
    return parts[1] if is_job and is_part(parts[1]) else None


def parse_job_traffic(key: str) -> str | None:
    """The job id if ``key`` is of use only while a worker is at it: an order, a message, a request, an answer."""
    parts = key.split("/")
    is_traffic = len(parts) >= 3 and parts[2].startswith(JOB_TRAFFIC)
    return parts[1] if is_traffic and is_part(parts[1]) else None


def variants_of(character: str) -> str:
    """Where all that was made for a character's variants lies; ends with a slash."""
    return f"{VARIANTS}{_part(character)}/"


def variant_prefix(character: str, variant: str) -> str:
    """Where what was made for one variant lies; ends with a slash."""
    return f"{variants_of(character)}{_part(variant)}/"


def variant_file(character: str, variant: str, name: str) -> str:
    """A file of one variant."""
    return variant_prefix(character, variant) + _part(name)


#: The kind of artifact whose locks lie in no folder of its own, as there was no other at first.
FIRST_KIND = "variant"


def locks(kind: str, subject: str) -> str:
    """Where the locks of a subject's artifacts of one kind lie; ends with a slash."""
    folder = "" if kind == FIRST_KIND else f"{_part(kind)}/"
    return f"{LOCKS}{folder}{_part(subject)}/"


def lock(kind: str, subject: str, item: str) -> str:
    """The lock of an approved artifact."""
    return f"{locks(kind, subject)}{_part(item)}.json"


def parse_lock(key: str) -> tuple[str, str, str] | None:
    """(kind, subject, id) if ``key`` is a lock's."""
    folder, *parts = key.removesuffix(".json").split("/")
    if folder + "/" != LOCKS or not key.endswith(".json") or not all(map(is_part, parts)):
        return None
    if len(parts) == 2:
        return FIRST_KIND, parts[0], parts[1]
    return (parts[0], parts[1], parts[2]) if len(parts) == 3 else None


def decision(name: str) -> str:
    """A file of people's decisions."""
    return f"{DECISIONS}{_part(name)}.json"


def ledger_day(day: str) -> str:
    """Where the entries of a day (ISO 8601) lie; ends with a slash."""
    return f"{LEDGER}{_part(day)}/"


def ledger_entry(day: str, entry: str) -> str:
    """One entry of the ledger."""
    return f"{ledger_day(day)}{_part(entry)}.json"


def reservations(day: str) -> str:
    """Where what runs of a day (ISO 8601) may still spend is said; ends with a slash."""
    return f"{RESERVED}{_part(day)}/"


def reservation(day: str, holder: str) -> str:
    """What one run may still spend."""
    return f"{reservations(day)}{_part(holder)}.json"


def set_aside(key: str) -> str:
    """Where an object that cannot be read goes; ``key`` is one that the store listed."""
    return SET_ASIDE + key


def doctor(name: str) -> str:
    """An object to try the store with."""
    return "doctor/" + _part(name)


def upload(name: str) -> str:
    """An uploaded file; ``name`` is made of a slug and an ending."""
    return UPLOADS + _part(name)


def motion_record(motion: str) -> str:
    """What a motion's key means."""
    return f"{MOTIONS}{_part(motion)}.json"


def person_record(person: str) -> str:
    """The description of a person."""
    return f"{PEOPLE}{_part(person)}.json"


def group_record(group: str) -> str:
    """The recipe of a group."""
    return f"{GROUPS}{_part(group)}.json"


def wardrobe_piece(piece: str) -> str:
    """Where the files of a piece of the wardrobe lie; ends with a slash."""
    return f"{WARDROBE}{_part(piece)}/"


def wardrobe_file(piece: str, name: str) -> str:
    """A file of a piece of the wardrobe."""
    return wardrobe_piece(piece) + _part(name)


def recipe(cast: str) -> str:
    """The recipe of a cast."""
    return f"{CASTS}{_part(cast)}.json"


def parse_recipe(key: str) -> str | None:
    """The cast if ``key`` is a recipe's."""
    name = key.removeprefix(CASTS).removesuffix(".json")
    is_recipe = key == f"{CASTS}{name}.json" and is_part(name)
    return name if is_recipe else None


def manifest(asset: str, partition: str, identity: str) -> str:
    """A set's manifest, written last."""
    return set_prefix(asset, partition, identity) + MANIFEST


def parse_manifest(key: str) -> tuple[str, str, str] | None:
    """(asset, partition, identity) if ``key`` is a manifest's."""
    parts = key.split("/")
    if len(parts) == 5 and parts[0] + "/" == SETS and parts[4] == MANIFEST:
        return (parts[1], parts[2], parts[3]) if all(map(is_part, parts[1:4])) else None
    return None


def parse_set_file(key: str) -> tuple[str, str, str, str] | None:
    """(asset, partition, identity, attempt) if ``key`` is a file of an attempt."""
    parts = key.split("/")
    if len(parts) >= 6 and parts[0] + "/" == SETS and all(map(is_part, parts[1:5])):
        return parts[1], parts[2], parts[3], parts[4]
    return None


def parse_current(key: str) -> tuple[str, str] | None:
    """(asset, partition) if ``key`` is a pointer."""
    parts = key.removesuffix(".json").split("/")
    if len(parts) != 3 or parts[0] + "/" != CURRENT or not key.endswith(".json"):
        return None
    return (parts[1], parts[2]) if is_part(parts[1]) and is_part(parts[2]) else None


def current_prefix(asset: str) -> str:
    """Where the pointers of an asset lie; ends with a slash."""
    return f"{CURRENT}{_part(asset)}/"


def current(asset: str, partition: str) -> str:
    """The pointer to the set that readers get."""
    return f"{CURRENT}{_part(asset)}/{_part(partition)}.json"
