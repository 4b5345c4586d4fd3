"""``paddle.dataset.uci_housing``: (13 normalised features float64[13], price float64[1]) of houses in Boston."""

from __future__ import annotations

import tarfile
import tempfile
from collections.abc import Iterator
from functools import cache

import numpy as np
from numpy.typing import NDArray

from ....runtime.errors import DataError
from ...reader import Reader
from .common import download, fetched, find

URL = "http://paddlemodels.bj.bcebos.com/uci_housing/housing.data"
MD5 = "d4accdce7a25600298819f8e28e8d593"
FLUID_URL_MODEL = "https://github.com/PaddlePaddle/book/raw/develop/01.fit_a_line/fluid/fit_a_line.fluid.tar"
FLUID_MD5_MODEL = "6e6dd637ccd5993961f68bfbde46090b"
feature_names = ["CRIM", "ZN", "INDUS", "CHAS", "NOX", "RM", "AGE", "DIS", "RAD", "TAX", "PTRATIO", "B", "LSTAT"]

_FILES = {"housing.data": MD5}
_MADE_UP = "506 synthetic rows, a linear function of 13 features with noise, for the houses"
Sample = tuple[NDArray[np.float64], NDArray[np.float64]]


@cache
def _synthetic() -> NDArray[np.float64]:
    rng = np.random.default_rng(7)
    features = rng.uniform(0, 1, (506, 13))
    prices = 22 + (features - 0.5) @ rng.normal(0, 8, 13) + rng.normal(0, 1, 506)
    return np.concatenate([features, prices[:, None]], axis=1)


def _normalised(data: NDArray[np.float64]) -> NDArray[np.float64]:
    """Each feature less its mean, by its range; the price as it is."""
    highest, lowest, average = data.max(axis=0), data.min(axis=0), data.sum(axis=0) / data.shape[0]
    data = data.copy()
    for at in range(data.shape[1] - 1):
        data[:, at] = (data[:, at] - average[at]) / (highest[at] - lowest[at])
    return data


def _parts(ratio: float = 0.8) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    files = find("uci_housing", _FILES, _MADE_UP)
    if files is None:
        data = _synthetic()
    else:
        try:
            with open(files["housing.data"]) as file:
                data = np.array(file.read().split(), np.float64).reshape(-1, 14)
        except (OSError, ValueError) as error:
            raise DataError(f"no rows of 14 numbers: {error}", files["housing.data"], "put UCI's file there") from None
    data = _normalised(data)
    return data[: int(len(data) * ratio)], data[int(len(data) * ratio) :]


def _reader(rows: NDArray[np.float64]) -> Reader:
    def reader() -> Iterator[Sample]:
        for row in rows:
            yield row[:-1], row[-1:]

    return reader


def train() -> Reader:
    """A reader of the first four fifths."""
    return _reader(_parts()[0])


def test() -> Reader:
    """A reader of the last fifth."""
    return _reader(_parts()[1])


def predict_reader() -> tuple[NDArray[np.float64]]:
    """The features of one row, to predict its price."""
    return (_parts()[1][0][:-1],)


def fluid_model() -> str:
    """A folder with Paddle's trained model, whose archive must be there.

    Raises:
        DataError: It is not.
    """
    path = download(FLUID_URL_MODEL, "uci_housing", FLUID_MD5_MODEL, "fit_a_line.fluid.tar")
    folder = tempfile.mkdtemp()
    with tarfile.open(path) as archive:
        archive.extractall(folder, filter="data")
    return folder


fetch = fetched("uci_housing", _FILES, _MADE_UP)
