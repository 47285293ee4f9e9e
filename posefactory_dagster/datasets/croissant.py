"""The dataset described in Croissant 1.0 (MLCommons), so that catalogues and loaders know its files and columns without being told."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from posefactory_dagster.datasets.card import citation
from posefactory_dagster.storage.sets import file_sha256

CROISSANT = "croissant.json"
#: The context that the specification prescribes (Croissant 1.0, docs.mlcommons.org/croissant/docs/croissant-spec.html).
_CONTEXT: dict[str, Any] = {
    "@language": "en", "@vocab": "https://schema.org/", "sc": "https://schema.org/", "cr": "http://mlcommons.org/croissant/",
    "rai": "http://mlcommons.org/croissant/RAI/", "dct": "http://purl.org/dc/terms/", "citeAs": "cr:citeAs", "column": "cr:column",
    "conformsTo": "dct:conformsTo", "data": {"@id": "cr:data", "@type": "@json"}, "dataType": {"@id": "cr:dataType", "@type": "@vocab"},
    "examples": {"@id": "cr:examples", "@type": "@json"}, "extract": "cr:extract", "field": "cr:field", "fileProperty": "cr:fileProperty",
    "fileObject": "cr:fileObject", "fileSet": "cr:fileSet", "format": "cr:format", "includes": "cr:includes", "isLiveDataset": "cr:isLiveDataset",
    "jsonPath": "cr:jsonPath", "key": "cr:key", "md5": "cr:md5", "parentField": "cr:parentField", "path": "cr:path", "recordSet": "cr:recordSet",
    "references": "cr:references", "regex": "cr:regex", "repeated": "cr:repeated", "replace": "cr:replace", "samplingRate": "cr:samplingRate",
    "separator": "cr:separator", "source": "cr:source", "subField": "cr:subField", "transform": "cr:transform",
}  # fmt: skip
#: Columns of the table that are described: type and meaning.
COLUMNS = {
    "file": ("sc:Text", "Image, relative to the dataset"), "split": ("sc:Text", "train, val or test"), "character": ("sc:Text", "Key of the character or group"),
    "person_index": ("sc:Integer", "Which person of the image, from 0"), "name": ("sc:Text", "Name of the landmark, MediaPipe's 33"),
    "look": ("sc:Text", "Place, light and cameras"), "view": ("sc:Text", "Camera"), "x_px": ("sc:Float", "Pixels from the left edge"),
    "y_px": ("sc:Float", "Pixels from the top edge"), "visibility": ("sc:Integer", "0 outside the frame, 1 hidden, 2 visible"),
    "occluded_by": ("sc:Text", "Why it is not visible"), "depth_m": ("sc:Float", "Metres along the camera's axis"),
    "world_x_m": ("sc:Float", "World, metres"), "world_y_m": ("sc:Float", "World, metres"), "world_z_m": ("sc:Float", "World, metres, up"),
    "mediapipe_x": ("sc:Float", "MediaPipe's opinion, part of the width"), "mediapipe_y": ("sc:Float", "MediaPipe's opinion, part of the height"),
}  # fmt: skip


def write(folder: Path, figures: Mapping[str, Any], version: str, licences: list[str], made: str) -> None:  # fmt: skip
    """Write ``croissant.json`` into a dataset's folder, whose other files are there.

    Args:
        figures: the dataset's numbers. version: its identity. licences: of what others made in it. made: ISO 8601 date.
    """
    described = [("landmarks.parquet", "application/x-parquet"), ("annotations/person_keypoints_all.json", "application/json"), ("annotations/person_keypoints_33_all.json", "application/json")]  # fmt: skip
    files = [
        {"@type": "cr:FileObject", "@id": name, "name": name.replace("/", "-"), "contentUrl": name, "encodingFormat": kind, "sha256": file_sha256(folder / name)}
        for name, kind in described
    ]  # fmt: skip
    sources = "; ".join(licences) or "no pieces with a licence of their own were named"
    document = {
        "@context": _CONTEXT,
        "@type": "sc:Dataset",
        "conformsTo": "http://mlcommons.org/croissant/1.0",
        "name": "pose_dataset",
        "description": f"Synthetic human poses with exact labels: {figures['images']} images of {figures['characters']} characters, rendered with Blender. Sources with licences: {sources}. README.md tells the rest.",
        "license": "README.md",
        "url": "README.md",
        "version": f"1.0.0+{version}",
        "datePublished": made,
        "citeAs": citation(version, made[:4]),
        "distribution": files,
        "recordSet": [
            {
                "@type": "cr:RecordSet", "@id": "landmarks", "name": "landmarks", "description": "A row for each landmark of each person of each image.",
                "field": [
                    {
                        "@type": "cr:Field", "@id": f"landmarks/{column}", "name": column, "description": text, "dataType": kind,
                        "source": {"fileObject": {"@id": "landmarks.parquet"}, "extract": {"column": column}},
                    }
                    for column, (kind, text) in COLUMNS.items()
                ],
            }
        ],
    }  # fmt: skip
    (folder / CROISSANT).write_text(json.dumps(document, indent=1), "utf-8")
