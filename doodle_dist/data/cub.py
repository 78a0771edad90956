"""The layout of CUB-200-2011 (Wah et al. 2011): lists of pictures, classes and bounding boxes beside ``images/``.

``images.txt`` has a line "<id> <class>/<file>" for each picture, ``image_class_labels.txt`` "<id> <class id>",
``classes.txt`` "<class id> <class>", ``bounding_boxes.txt`` "<id> <x> <y> <width> <height>" in pixels.
"""

from __future__ import annotations

import math

from doodle_dist.data import locations, storage
from doodle_dist.data.decode import Box

IMAGES, LABELS, CLASSES, BOXES = "images.txt", "image_class_labels.txt", "classes.txt", "bounding_boxes.txt"
_FOLDER = "CUB_200_2011"


def layout_root(uri: str) -> str | None:
    """The folder of the lists, where ``uri`` is that folder, the one it was unpacked in, or its ``images``."""
    candidates = [uri, locations.join(uri, _FOLDER)]
    if locations.basename(uri) == "images" and "/" in uri.rstrip("/"):
        candidates.append(uri.rstrip("/").rpartition("/")[0])
    return next((root for root in candidates if storage.exists(locations.join(root, IMAGES))), None)


def read_layout(root: str, *, boxes: bool) -> dict[str, Box | None]:
    """The path below ``images/`` of every picture that the lists name, and its box where ``boxes`` asks for it.

    Raises ValueError for a list that is missing or not as above, and where the lists contradict each other.
    """
    images = _read_list(root, IMAGES, 1)
    labels, classes = _read_list(root, LABELS, 1), _read_list(root, CLASSES, 1)
    places = _read_list(root, BOXES, 4) if boxes else {}
    found: dict[str, Box | None] = {}
    for number, (path,) in images.items():
        folder, _, name = path.partition("/")
        if not name or "/" in name or folder in ("", ".."):
            raise ValueError(f"{root}/{IMAGES}: picture {number} is {path!r}, expected <class>/<file>")
        (label,) = labels.get(number, [""])
        (category,) = classes.get(label, ["unknown"])
        if category != folder:
            raise ValueError(
                f"{root}/{IMAGES}: picture {number} lies in {folder}; by {LABELS} and {CLASSES} its class is "
                f"{category}"
            )
        if boxes and number not in places:
            raise ValueError(f"{root}/{BOXES} has no box for picture {number}, {path}")
        found[path] = _box(root, number, places[number]) if boxes else None
    return found


def _read_list(root: str, name: str, fields: int) -> dict[str, list[str]]:
    """The fields of each id's line."""
    uri = locations.join(root, name)
    if not storage.exists(uri):
        option = "--crop bounding-box: " if name == BOXES else ""
        raise ValueError(f"{option}{root} has no {name}")
    found = {}
    for number, line in enumerate(storage.read_bytes(uri).decode("utf-8", "replace").splitlines(), 1):
        parts = line.split(maxsplit=fields)
        if parts and len(parts) != fields + 1:
            raise ValueError(f"{uri}:{number}: {line[:60]!r} has not {fields + 1} fields, an id first")
        if parts:
            found[parts[0]] = [part.strip() for part in parts[1:]]
    return found


def _box(root: str, number: str, fields: list[str]) -> Box:
    try:
        x, y, width, height = map(float, fields)
    except ValueError:
        x = y = width = height = math.nan
    if not (all(map(math.isfinite, (x, y, width, height))) and width > 0 and height > 0):
        raise ValueError(
            f"{root}/{BOXES}: picture {number} has the box {' '.join(fields)!r}; expected x, y, width and "
            "height in pixels"
        )
    return x, y, width, height
