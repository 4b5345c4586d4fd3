"""``paddle.dataset.voc2012``: (picture uint8[height, width, 3], red first; classes of its pixels, uint8)."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ....runtime.errors import EngineError
from ...reader import Reader
from ...source import user_location
from .common import fetched, find

VOC_URL = "http://host.robots.ox.ac.uk/pascal/VOC/voc2012/VOCtrainval_11-May-2012.tar"
VOC_MD5 = "6cd6e144f989b92b3379bac3b3de84fd"
SET_FILE = "VOCdevkit/VOC2012/ImageSets/Segmentation/{}.txt"
DATA_FILE = "VOCdevkit/VOC2012/JPEGImages/{}.jpg"
LABEL_FILE = "VOCdevkit/VOC2012/SegmentationClass/{}.png"
CACHE_DIR = "voc2012"

_FILES = {"VOCtrainval_11-May-2012.tar": VOC_MD5}
_MADE_UP = "30, 20 and 10 synthetic pictures of coloured discs of 20 classes, 120 x 160, for PASCAL VOC's"
_PARTS = {"trainval": (81, 30), "train": (82, 20), "val": (83, 10)}

Sample = tuple[NDArray[np.uint8], NDArray[np.uint8]]


def _synthetic(part: str) -> Iterator[Sample]:
    colours = np.random.default_rng(80).integers(0, 256, (21, 3))
    seed, count = _PARTS[part]
    rng = np.random.default_rng(seed)
    rows, columns = np.mgrid[:120, :160]
    for _ in range(count):
        label = np.zeros((120, 160), np.uint8)
        for _ in range(rng.integers(1, 4)):
            inside = (rows - rng.integers(120)) ** 2 + (columns - rng.integers(160)) ** 2 < rng.integers(15, 50) ** 2
            label[inside] = rng.integers(1, 21)
        noisy = colours[label] + rng.normal(0, 12, (120, 160, 3))
        yield np.clip(noisy, 0, 255).astype(np.uint8), label


def _opened(content: bytes) -> NDArray[Any]:
    try:
        from PIL import Image
    except ImportError:
        raise EngineError(
            "paddle.dataset.voc2012 needs Pillow, as in Paddle", user_location().place, "pip install pillow"
        ) from None
    # Its reader of PostScript would start another program.
    return np.array(Image.open(io.BytesIO(content), formats=("JPEG", "PNG", "BMP")))


def _read(path: str, part: str) -> Iterator[Sample]:
    with tarfile.open(path) as archive:
        members = {member.name: member for member in archive.getmembers()}

        def content(name: str) -> bytes:
            file = archive.extractfile(members[name])
            return b"" if file is None else file.read()

        for line in content(SET_FILE.format(part)).decode().split():
            yield _opened(content(DATA_FILE.format(line))), _opened(content(LABEL_FILE.format(line)))


def _reader(part: str) -> Reader:
    files = find("voc2012", _FILES, _MADE_UP)

    def reader() -> Iterator[Sample]:
        return _synthetic(part) if files is None else _read(files["VOCtrainval_11-May-2012.tar"], part)

    return reader


def train() -> Reader:
    """A reader of all pictures, as in Paddle: those to train on and those to validate with."""
    return _reader("trainval")


def test() -> Reader:
    """A reader of the pictures to train on, which Paddle tests with."""
    return _reader("train")


def val() -> Reader:
    """A reader of the pictures to validate with."""
    return _reader("val")


fetch = fetched("voc2012", _FILES, _MADE_UP)
