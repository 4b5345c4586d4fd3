"""``paddle.dataset.mnist``: handwritten digits; (pixels float32[784] in [-1, 1], label) of LeCun's files."""

from __future__ import annotations

import gzip
import struct
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ....runtime.errors import DataError
from ...reader import Reader
from .common import fetched, find
from .made_up import pictures

URL_PREFIX = "https://dataset.bj.bcebos.com/mnist/"
TEST_IMAGE_URL = URL_PREFIX + "t10k-images-idx3-ubyte.gz"
TEST_IMAGE_MD5 = "9fb629c4189551a2d022fa330f9573f3"
TEST_LABEL_URL = URL_PREFIX + "t10k-labels-idx1-ubyte.gz"
TEST_LABEL_MD5 = "ec29112dd5afa0611ce80d1b7f02629c"
TRAIN_IMAGE_URL = URL_PREFIX + "train-images-idx3-ubyte.gz"
TRAIN_IMAGE_MD5 = "f68b3c2dcbeaaa9fbdd348bbdeb94873"
TRAIN_LABEL_URL = URL_PREFIX + "train-labels-idx1-ubyte.gz"
TRAIN_LABEL_MD5 = "d53e105ee54ea40749a09fcbcd1e9432"

_FILES = {
    url.removeprefix(URL_PREFIX): md5
    for url, md5 in (
        (TRAIN_IMAGE_URL, TRAIN_IMAGE_MD5),
        (TRAIN_LABEL_URL, TRAIN_LABEL_MD5),
        (TEST_IMAGE_URL, TEST_IMAGE_MD5),
        (TEST_LABEL_URL, TEST_LABEL_MD5),
    )
}
_MADE_UP = "2000 and 500 synthetic pictures of 10 classes, 28 x 28, for MNIST's digits"


def _samples(pixels: NDArray[np.uint8], labels: NDArray[np.uint8]) -> Iterator[tuple[NDArray[np.float32], int]]:
    for row, label in zip(pixels, labels):
        # In this order, so that the last bits are Paddle's.
        yield row.astype(np.float32) / np.float32(255.0) * np.float32(2.0) - np.float32(1.0), int(label)


def _unpacked(path: str, axes: int) -> NDArray[np.uint8]:
    """The array of a gzipped IDX file of bytes.

    Raises:
        DataError: It is none.
    """
    try:
        with gzip.open(path) as file:
            content = file.read()
        shape: tuple[Any, ...] = struct.unpack_from(f">4x{axes}I", content)
        return np.frombuffer(content, np.uint8, offset=4 + 4 * axes)[: int(np.prod(shape))].reshape(shape)
    except (OSError, EOFError, ValueError, struct.error) as error:
        raise DataError(f"no gzipped IDX file: {error}", path, "put MNIST's own file there") from None


def reader_creator(image_filename: str, label_filename: str, buffer_size: int) -> Reader:
    """The samples of a pair of files; ``buffer_size`` is Paddle's and without effect."""
    del buffer_size

    def reader() -> Iterator[tuple[NDArray[np.float32], int]]:
        images, labels = _unpacked(image_filename, 3), _unpacked(label_filename, 1)
        yield from _samples(images.reshape(len(images), -1), labels)

    return reader


def _reader(part: str, seed: int, count: int) -> Reader:
    files = find("mnist", _FILES, _MADE_UP)
    if files is not None:
        images, labels = (path for name, path in files.items() if name.startswith(part))
        return reader_creator(images, labels, 100)

    def reader() -> Iterator[tuple[NDArray[np.float32], int]]:
        pixels, labels = pictures(seed, count, 10, 1, 28, 7)
        yield from _samples(pixels.reshape(count, 784), labels)

    return reader


def train() -> Reader:
    """A reader of the 60000 samples to train on."""
    return _reader("train", 1, 2000)


def test() -> Reader:
    """A reader of the 10000 samples to test with."""
    return _reader("t10k", 2, 500)


fetch = fetched("mnist", _FILES, _MADE_UP)
