"""Data sets of text files (fluid's ``DatasetFactory``), for `Executor.train_from_dataset`.

A line is one sample: for every variable of ``set_use_var``, in order, the number of its values and the values
(fluid's MultiSlot format): ``2 11 42 1 0`` are the ids 11 and 42, and the label 0.
"""

from __future__ import annotations

import itertools
import os
import random
import subprocess
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from ..runtime.errors import DataError
from .errors import invalid, unsupported, wrong_type
from .lod import LoDTensor
from .variable import Variable
from .vartype import VarType

Sample = list[np.ndarray]
"""The values of one line, an array for every variable."""


@dataclass(frozen=True)
class Slot:
    """What one variable takes of a line.

    Attributes:
        name: The variable's.
        dtype: float32 or int64.
        shape: Of one sample; None for sequences, whose lengths the lines say.
    """

    name: str
    dtype: np.dtype[np.generic]
    shape: tuple[int, ...] | None


class DatasetBase:
    """Text files, read by a command, and the variables that their values are for."""

    def __init__(self) -> None:
        self.thread_num = 1
        self.filelist: list[str] = []
        self.batch_size = 1
        self.pipe_command = "cat"
        self.slots: list[Slot] = []

    def set_pipe_command(self, pipe_command: str) -> None:
        """A shell command that turns a file, its standard input, into lines of the format, its standard output."""
        self.pipe_command = pipe_command

    def set_batch_size(self, batch_size: int) -> None:
        """Samples of a batch."""
        if isinstance(batch_size, bool) or not isinstance(batch_size, int) or batch_size <= 0:
            raise invalid(f"set_batch_size: {batch_size!r}", "give a positive integer")
        self.batch_size = batch_size

    def set_thread(self, thread_num: int) -> None:
        """Fluid's number of threads that train at once; here one step follows the other, in the order of the files."""
        self.thread_num = thread_num

    def set_filelist(self, filelist: Sequence[str]) -> None:
        """The files."""
        if isinstance(filelist, str):
            raise wrong_type("set_filelist: a str", "give a list of file names")
        self.filelist = [os.fspath(name) for name in filelist]

    def set_use_var(self, var_list: Sequence[Variable]) -> None:
        """The variables that a line's values are for, in order; float32 or int64.

        Raises ProgramError for another element type, or a dense variable with an open size besides the batch.
        """
        slots: list[Slot] = []
        for var in var_list:
            if var.dtype not in (VarType.FP32, VarType.INT64):
                raise invalid(
                    f"set_use_var: {var.name} holds {var.dtype.numpy.name}", "data sets give float32 and int64; cast"
                )
            shape = None if var.lod_level else var.shape[1:]
            if shape is not None and any(extent < 0 for extent in shape):
                raise invalid(
                    f"set_use_var: {var.name} is {list(var.shape)}, with an open size besides the batch",
                    "declare it, or use lod_level=1",
                )
            slots.append(Slot(var.name, var.dtype.numpy, shape))
        self.slots = slots

    def set_hdfs_config(self, fs_name: str, fs_ugi: str) -> None:
        """Refused: only local files are read."""
        raise unsupported("set_hdfs_config: only local files are read", "download the files first")

    def desc(self) -> str:
        """What was set, as fluid's text."""
        slots = "".join(
            f'  slots {{ name: "{slot.name}" type: "{"float" if slot.dtype.kind == "f" else "uint64"}" '
            f"is_dense: {str(slot.shape is not None).lower()} is_used: true }}\n"
            for slot in self.slots
        )
        return (
            f'name: "{type(self).__name__}"\nbatch_size: {self.batch_size}\n'
            f'pipe_command: "{self.pipe_command}"\nmulti_slot_desc {{\n{slots}}}\n'
        )

    def batches(self, *, drop_last: bool = False) -> Iterator[dict[str, LoDTensor]]:
        """Feeds of ``batch_size`` samples each, the last one smaller unless ``drop_last``.

        Raises:
            ProgramError: There are no files, or no variables.
            DataError: A line that does not fit, or a command that failed.
        """
        self._check()
        samples = iter(self._samples())
        while chunk := list(itertools.islice(samples, self.batch_size)):
            if len(chunk) < self.batch_size and drop_last:
                return
            yield {slot.name: _tensor(slot, [sample[i] for sample in chunk]) for i, slot in enumerate(self.slots)}

    def _samples(self) -> Iterable[Sample]:
        return self._read()

    def _check(self) -> None:
        for given, what in ((self.slots, "set_use_var"), (self.filelist, "set_filelist")):
            if not given:
                raise invalid(f"the data set is not complete: {what} was not called", f"call dataset.{what}([...])")

    def _read(self) -> Iterator[Sample]:
        for path in self.filelist:
            for number, line in enumerate(self._lines(path), 1):
                if line.strip():
                    yield self._sample(line, f"{path}:{number}")

    def _lines(self, path: str) -> Iterator[str]:
        try:
            file = open(path, encoding="utf-8")  # noqa: SIM115 - closed below, or handed to the command
        except OSError as error:
            raise DataError(
                f"the data set's file cannot be read: {error.strerror}", path, "look at set_filelist"
            ) from None
        with file:
            if self.pipe_command == "cat":
                yield from file
                return
            with subprocess.Popen(
                self.pipe_command, shell=True, stdin=file, stdout=subprocess.PIPE, encoding="utf-8"
            ) as process:
                assert process.stdout is not None
                yield from process.stdout
            if process.returncode:
                raise DataError(
                    f"the pipe_command ended with status {process.returncode}",
                    path,
                    f"run it by hand: {self.pipe_command}",
                )

    def _sample(self, line: str, where: str) -> Sample:
        words = line.split()
        at = 0
        found: Sample = []
        for slot in self.slots:
            try:
                count = int(words[at])
                values = _numbers(words[at + 1 : at + 1 + count], slot.dtype)
            except (IndexError, ValueError):
                raise DataError(
                    f"the line has no values for {slot.name}, or no numbers there",
                    where,
                    "a line holds for every variable of set_use_var the number of its values, and the values",
                ) from None
            if count <= 0 or len(values) != count:
                raise DataError(
                    f"the line announces {count} values for {slot.name} and has {len(values)}",
                    where,
                    "every variable has at least one value; pad what is empty",
                )
            if slot.shape is not None and count != int(np.prod(slot.shape)):
                raise DataError(
                    f"{slot.name} takes {int(np.prod(slot.shape))} values, the line has {count}",
                    where,
                    "declare the variable's shape as the file has it, or lod_level=1",
                )
            found.append(values)
            at += 1 + count
        if at != len(words):
            raise DataError(
                f"the line has {len(words) - at} more words than the variables take", where, "look at set_use_var"
            )
        return found


def _numbers(words: Sequence[str], dtype: np.dtype[np.generic]) -> np.ndarray:
    """Words as float32, or as 64-bit ids: those above 2^63, of hashes, become negative as in fluid."""
    if dtype.kind == "f":
        return np.array([float(word) for word in words], dtype)
    return np.array([int(word) & 0xFFFFFFFFFFFFFFFF for word in words], np.uint64).view(dtype)


def _tensor(slot: Slot, values: Sample) -> LoDTensor:
    tensor = LoDTensor()
    if slot.shape is not None:
        tensor.set(np.stack(values).reshape(len(values), *slot.shape))
        return tensor
    tensor.set(np.concatenate(values).reshape(-1, 1))
    tensor.set_recursive_sequence_lengths([[len(each) for each in values]])
    return tensor


class QueueDataset(DatasetBase):
    """Files that are read while the program runs."""

    def local_shuffle(self) -> None:
        """Refused, as in fluid: the samples are not in memory."""
        raise unsupported("QueueDataset.local_shuffle", "use InMemoryDataset")

    def global_shuffle(self, fleet: object = None) -> None:
        """Refused, as in fluid: the samples are not in memory."""
        raise unsupported("QueueDataset.global_shuffle", "use InMemoryDataset")


class FileInstantDataset(QueueDataset):
    """fluid's name for files without a queue; the same as `QueueDataset` here."""


class InMemoryDataset(DatasetBase):
    """Files that are read once, shuffled where asked for, and used from memory."""

    def __init__(self) -> None:
        super().__init__()
        self._memory: list[Sample] | None = None

    def set_queue_num(self, queue_num: int) -> None:
        """fluid's, for its threads; without effect."""

    def set_feed_type(self, data_feed_type: str) -> None:
        """Only fluid's default, MultiSlotInMemoryDataFeed, is read."""
        if data_feed_type != "MultiSlotInMemoryDataFeed":
            raise unsupported(f"set_feed_type: {data_feed_type}", "files are read as MultiSlotInMemoryDataFeed")

    def load_into_memory(self) -> None:
        """Read all samples."""
        self._check()
        self._memory = list(self._read())

    def preload_into_memory(self, thread_num: int | None = None) -> None:
        """Read all samples; fluid goes on meanwhile, and waits in `wait_preload_done`."""
        del thread_num
        self.load_into_memory()

    def wait_preload_done(self) -> None:
        """Nothing is left to wait for."""

    def local_shuffle(self) -> None:
        """Put the samples into random order; follows Python's ``random.seed``."""
        random.shuffle(self._loaded("local_shuffle"))

    def global_shuffle(self, fleet: object = None, thread_num: int = 12) -> None:
        """The same as `local_shuffle`: there is one trainer."""
        del fleet, thread_num
        random.shuffle(self._loaded("global_shuffle"))

    def release_memory(self) -> None:
        """Forget the samples."""
        self._memory = None

    def get_memory_data_size(self, fleet: object = None) -> int:
        """Number of samples in memory."""
        del fleet
        return len(self._memory or ())

    def get_shuffle_data_size(self, fleet: object = None) -> int:
        """Number of samples in memory: one trainer keeps all that were shuffled."""
        return self.get_memory_data_size(fleet)

    def _loaded(self, method: str) -> list[Sample]:
        if self._memory is None:
            raise invalid(f"{method}: the samples are not in memory", "call load_into_memory() first")
        return self._memory

    def _samples(self) -> Iterable[Sample]:
        return self._loaded("the data set")


class DatasetFactory:
    """Makes data sets by the names of their classes."""

    def create_dataset(self, datafeed_class: str = "QueueDataset") -> DatasetBase:
        """A ``QueueDataset``, ``InMemoryDataset`` or ``FileInstantDataset``.

        Raises:
            ProgramError: There is no such class.
            UnsupportedError: BoxPSDataset, which needs a parameter server.
        """
        known = {kind.__name__: kind for kind in (QueueDataset, InMemoryDataset, FileInstantDataset)}
        if datafeed_class == "BoxPSDataset":
            raise unsupported("BoxPSDataset needs a parameter server", "use InMemoryDataset")
        if datafeed_class not in known:
            raise invalid(f"create_dataset: there is no data set {datafeed_class!r}", f"use one of {', '.join(known)}")
        return known[datafeed_class]()


__all__ = ["DatasetFactory", "FileInstantDataset", "InMemoryDataset", "QueueDataset"]
