"""``paddle.dataset.flowers``: 102 kinds; (pixels float32[3 * 224 * 224], label), or what a mapper makes of a file."""

from __future__ import annotations

import os
import tarfile
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any

from ....runtime.errors import DataError
from ...reader import Reader, map_readers
from .common import fetched, find
from .image import bitmap, load_image_bytes, simple_transform
from .made_up import pictures

DATA_URL = "http://paddlemodels.bj.bcebos.com/flowers/102flowers.tgz"
LABEL_URL = "http://paddlemodels.bj.bcebos.com/flowers/imagelabels.mat"
SETID_URL = "http://paddlemodels.bj.bcebos.com/flowers/setid.mat"
DATA_MD5 = "52808999861908f626f3c1f4e79d11fa"
LABEL_MD5 = "e0620be6f572b9609742df49c70aed4d"
SETID_MD5 = "a5357ecc9cb78c4bef273ce3793fc85c"
# Paddle trains on the larger part, which the authors call the test data.
TRAIN_FLAG = "tstid"
TEST_FLAG = "trnid"
VALID_FLAG = "valid"

_FILES = {"102flowers.tgz": DATA_MD5, "imagelabels.mat": LABEL_MD5, "setid.mat": SETID_MD5}
_MADE_UP = "204, 102 and 102 synthetic pictures of 102 classes, 3 x 256 x 256, for the flowers"
_PARTS = {TRAIN_FLAG: (71, 204), TEST_FLAG: (72, 102), VALID_FLAG: (73, 102)}

Sample = tuple[bytes, int]
Mapper = Callable[[Sample], Any]


def default_mapper(is_train: bool, sample: Sample) -> tuple[Any, int]:
    """The file's picture at 256, cropped to 224 x 224 and flattened, less the mean of ImageNet; and the label."""
    content, label = sample
    picture = simple_transform(load_image_bytes(content), 256, 224, is_train, mean=[103.94, 116.78, 123.68])
    return picture.flatten(), label


train_mapper = partial(default_mapper, True)
test_mapper = partial(default_mapper, False)


def _labels(files: Mapping[str, str], part: str) -> dict[str, int]:
    """The label of each picture of a part, by its name in the archive.

    Raises:
        DataError: The two files of MATLAB's are not what they should be.
    """
    from scipy.io import loadmat

    try:
        labels = loadmat(files["imagelabels.mat"])["labels"][0]
        return {f"jpg/image_{n:05d}.jpg": int(labels[n - 1]) - 1 for n in loadmat(files["setid.mat"])[part][0]}
    except (OSError, KeyError, IndexError, TypeError, ValueError) as error:
        where = os.path.dirname(files["setid.mat"])
        raise DataError(f"no labels of the flowers: {error}", where, "put the authors' own files there") from None


def _samples(part: str, cycle: bool) -> Iterator[Sample]:
    files = find("flowers", _FILES, _MADE_UP)
    while True:
        if files is None:
            seed, count = _PARTS[part]
            for at in range(count):
                pixels, labels = pictures(seed + 10 * at, 1, 102, 3, 256, 8)
                yield bitmap(pixels[0].transpose(1, 2, 0)), int(labels[0])
        else:
            known = _labels(files, part)
            with tarfile.open(files["102flowers.tgz"]) as archive:
                for member in archive:
                    file = archive.extractfile(member) if member.name in known else None
                    if file is not None:
                        yield file.read(), known[member.name]
        if not cycle:
            return


def _reader(part: str, mapper: Mapper, cycle: bool) -> Reader:
    find("flowers", _FILES, _MADE_UP)
    return map_readers(mapper, lambda: _samples(part, cycle))


def train(
    mapper: Mapper = train_mapper, buffered_size: int = 1024, use_xmap: bool = True, cycle: bool = False
) -> Reader:
    """A reader of the pictures to train on; ``buffered_size`` and ``use_xmap`` are without effect: order is kept."""
    del buffered_size, use_xmap
    return _reader(TRAIN_FLAG, mapper, cycle)


def test(mapper: Mapper = test_mapper, buffered_size: int = 1024, use_xmap: bool = True, cycle: bool = False) -> Reader:
    """A reader of the pictures to test with."""
    del buffered_size, use_xmap
    return _reader(TEST_FLAG, mapper, cycle)


def valid(mapper: Mapper = test_mapper, buffered_size: int = 1024, use_xmap: bool = True) -> Reader:
    """A reader of the pictures to validate with."""
    del buffered_size, use_xmap
    return _reader(VALID_FLAG, mapper, False)


fetch = fetched("flowers", _FILES, _MADE_UP)
