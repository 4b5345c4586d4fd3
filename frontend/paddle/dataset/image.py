"""``paddle.dataset.image``: pictures as numpy arrays. All but what crops and turns needs opencv-python."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ....runtime.errors import EngineError
from ...source import user_location

Picture = NDArray[Any]
"""[height, width, 3] in the order blue, green, red, or [height, width]."""

_BMP = struct.Struct("<2sIHHIIiiHHIIiiII")
"""Header of a bitmap of 24 bits: the form of pictures that are made up here, which every reader of pictures knows."""


def _cv2(what: str) -> Any:
    try:
        import cv2  # pyright: ignore[reportMissingImports]
    except ImportError:
        raise EngineError(
            f"paddle.dataset.image.{what} needs OpenCV, as in Paddle",
            user_location().place,
            "pip install opencv-python-headless",
        ) from None
    return cv2


def bitmap(picture: NDArray[np.uint8]) -> bytes:
    """A file of [height, width, 3], blue first; width a multiple of 4."""
    height, width, _ = picture.shape
    size = picture.size
    header = _BMP.pack(b"BM", 54 + size, 0, 0, 54, 40, width, height, 1, 24, 0, size, 2835, 2835, 0, 0)
    return header + picture[::-1].tobytes()


def load_image_bytes(bytes: bytes, is_color: bool = True) -> Picture:
    """The picture in the content of a file: [height, width, 3], or [height, width] if not ``is_color``.

    Raises:
        EngineError: OpenCV is not installed.
    """
    if bytes[:2] == b"BM" and is_color and len(bytes) > 54:
        _, _, _, _, offset, _, width, height, _, bits, *_ = _BMP.unpack_from(bytes)
        if offset == 54 and bits == 24 and width % 4 == 0 and height > 0 and len(bytes) == 54 + 3 * width * height:
            return np.frombuffer(bytes, np.uint8, offset=54).reshape(height, width, 3)[::-1].copy()
    return _cv2("load_image_bytes").imdecode(np.frombuffer(bytes, np.uint8), 1 if is_color else 0)


def load_image(file: str, is_color: bool = True) -> Picture:
    """The picture in a file.

    Raises:
        EngineError: OpenCV is not installed.
    """
    return _cv2("load_image").imread(file, 1 if is_color else 0)


def resize_short(im: Picture, size: int) -> Picture:
    """The picture with its shorter side made ``size``, by cubic interpolation.

    Raises:
        EngineError: It has another size, and OpenCV is not installed.
    """
    height, width = im.shape[:2]
    if min(height, width) == size:
        return im
    tall, wide = (size * height // width, size) if height > width else (size, size * width // height)
    cv2 = _cv2("resize_short")
    return cv2.resize(im, (wide, tall), interpolation=cv2.INTER_CUBIC)


def to_chw(im: Picture, order: Sequence[int] = (2, 0, 1)) -> Picture:
    """The axes in another order: channels first."""
    assert len(im.shape) == len(order)
    return im.transpose(order)


def center_crop(im: Picture, size: int, is_color: bool = True) -> Picture:
    """The square of ``size`` in the middle."""
    del is_color
    top, left = (im.shape[0] - size) // 2, (im.shape[1] - size) // 2
    return im[top : top + size, left : left + size]


def random_crop(im: Picture, size: int, is_color: bool = True) -> Picture:
    """A square of ``size`` anywhere, drawn by numpy's global generator."""
    del is_color
    top = np.random.randint(0, im.shape[0] - size + 1)  # noqa: NPY002
    left = np.random.randint(0, im.shape[1] - size + 1)  # noqa: NPY002
    return im[top : top + size, left : left + size]


def left_right_flip(im: Picture, is_color: bool = True) -> Picture:
    """The picture mirrored."""
    del is_color
    return im[:, ::-1]


def simple_transform(
    im: Picture,
    resize_size: int,
    crop_size: int,
    is_train: bool,
    is_color: bool = True,
    mean: Sequence[float] | Picture | None = None,
) -> NDArray[np.float32]:
    """Resized, cropped (anywhere and perhaps mirrored if ``is_train``), channels first, float32, less ``mean``."""
    im = resize_short(im, resize_size)
    if is_train:
        im = random_crop(im, crop_size)
        if np.random.randint(2) == 0:  # noqa: NPY002
            im = left_right_flip(im)
    else:
        im = center_crop(im, crop_size)
    result = (to_chw(im) if im.ndim == 3 else im).astype(np.float32)
    if mean is not None:
        means = np.array(mean, np.float32)
        result -= means[:, None, None] if means.ndim == 1 and is_color else means
    return result


def load_and_transform(
    filename: str,
    resize_size: int,
    crop_size: int,
    is_train: bool,
    is_color: bool = True,
    mean: Sequence[float] | Picture | None = None,
) -> NDArray[np.float32]:
    """`load_image` and `simple_transform`."""
    return simple_transform(load_image(filename, is_color), resize_size, crop_size, is_train, is_color, mean)
