"""``paddle.dataset.cifar``: (pixels float32[3072] in [0, 1], label) of CIFAR-10 and CIFAR-100."""

from __future__ import annotations

import tarfile
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ....runtime.errors import DataError
from ...formats import pickle_reader
from ...reader import Reader
from .common import find
from .made_up import pictures

URL_PREFIX = "https://dataset.bj.bcebos.com/cifar/"
CIFAR10_URL = URL_PREFIX + "cifar-10-python.tar.gz"
CIFAR10_MD5 = "c58f30108f718f92721af3b95e74349a"
CIFAR100_URL = URL_PREFIX + "cifar-100-python.tar.gz"
CIFAR100_MD5 = "eb9058c3a382ffc7106e4002c42a8d85"

_MADE_UP = "1000 and 200 synthetic pictures of {} classes, 3 x 32 x 32, for CIFAR-{}'s"
_FILES = {10: ("cifar-10-python.tar.gz", CIFAR10_MD5), 100: ("cifar-100-python.tar.gz", CIFAR100_MD5)}

Sample = tuple[NDArray[np.float32], int]


def _samples(data: Any, labels: Any) -> Iterator[Sample]:
    for row, label in zip(data, labels):
        yield (row / 255.0).astype(np.float32), int(label)


def _batch(content: bytes, source: str) -> Iterator[Sample]:
    """The samples of one pickled batch, which is read without Python's unpickler."""
    batch = pickle_reader.read(content, source)
    labels = batch.get("labels", batch.get("fine_labels")) if isinstance(batch, dict) else None
    if not isinstance(batch, dict) or "data" not in batch or labels is None:
        raise DataError("the batch has no data or no labels", source, "put CIFAR's own archive there")
    return _samples(batch["data"], labels)


def reader_creator(filename: str, sub_name: str, cycle: bool = False) -> Reader:
    """The samples of those members of an archive whose names hold ``sub_name``, again and again if ``cycle``."""

    def reader() -> Iterator[Sample]:
        while True:
            with tarfile.open(filename) as archive:
                for member in archive:
                    file = archive.extractfile(member) if sub_name in member.name else None
                    if file is not None:
                        yield from _batch(file.read(), f"{filename}, {member.name}")
            if not cycle:
                return

    return reader


def _reader(classes: int, part: str, seed: int, count: int, cycle: bool = False) -> Reader:
    name, md5 = _FILES[classes]
    files = find("cifar", {name: md5}, _MADE_UP.format(classes, classes), f"cifar ({classes} classes)")
    if files is not None:
        return reader_creator(files[name], part, cycle)

    def reader() -> Iterator[Sample]:
        pixels, labels = pictures(seed, count, classes, 3, 32, 8)
        while True:
            yield from _samples(pixels.reshape(count, 3072), labels)
            if not cycle:
                return

    return reader


def train100() -> Reader:
    """A reader of CIFAR-100's samples to train on."""
    return _reader(100, "train", 3, 1000)


def test100() -> Reader:
    """A reader of CIFAR-100's samples to test with."""
    return _reader(100, "test", 4, 200)


def train10(cycle: bool = False) -> Reader:
    """A reader of CIFAR-10's samples to train on."""
    return _reader(10, "data_batch", 5, 1000, cycle)


def test10(cycle: bool = False) -> Reader:
    """A reader of CIFAR-10's samples to test with."""
    return _reader(10, "test_batch", 6, 200, cycle)


def fetch() -> None:
    """Says whether the files are there."""
    train10()
    train100()
