"""What paddle.dataset makes of small files in the original formats (tests/support/dataset_files.py writes them).

Surprising: under Python 3 the words of imdb and imikolov are bytes, all but the marks; the ids of genres, of the words
of titles (movielens) and of labels (conll05) depend on the process; movielens seeds numpy's generator; voc2012 finds
no file under Python 3, and is left out.
"""

import importlib
import json
import os
import tempfile

import dataset_files
import matplotlib
from trees import GOLDENS

matplotlib.use("Agg")


class _Any(str):
    """The MD5 of every file."""

    def __eq__(self, other):
        return True

    __hash__ = str.__hash__


def write():
    """Write the golden."""
    import paddle.dataset  # pyright: ignore[reportMissingImports]

    found = {}
    folder = os.getcwd()
    with tempfile.TemporaryDirectory() as home:
        os.chdir(home)  # uci_housing draws a picture there
        paddle.dataset.common.DATA_HOME = home
        paddle.dataset.common.md5file = lambda path: _Any()
        for name in [name for name in dataset_files.WRITERS if name != "voc2012"]:
            dataset_files.write_files(home, name)
            module = importlib.import_module("paddle.dataset." + name)
            if name == "mq2007":  # it unpacks an archive of a kind that few machines can
                setattr(module, "__initialize_meta_info__", lambda: os.path.join(home, "MQ2007"))  # noqa: B010
            found[name] = dataset_files.described(module, name)
        os.chdir(folder)
    (GOLDENS / "datasets.json").write_text(json.dumps(found, separators=(",", ":")) + "\n")
