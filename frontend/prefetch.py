"""Reading ahead: a thread makes what an iterable gives, a bounded number of items before they are asked for."""

from __future__ import annotations

import threading
import weakref
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import Generic, TypeVar

T = TypeVar("T")


class _Channel(Generic[T]):
    """Items on their way from one thread to another, at most ``size`` of them."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._items: deque[T] = deque()
        self._changed = threading.Condition()
        self._ended = False
        self._closed = False
        self._error: BaseException | None = None

    def put(self, item: T) -> bool:
        """Wait for room and leave an item there; False once nobody wants any more."""
        with self._changed:
            self._changed.wait_for(lambda: self._closed or len(self._items) < self._size)
            if self._closed:
                return False
            self._items.append(item)
            self._changed.notify_all()
            return True

    def end(self, error: BaseException | None = None) -> None:
        """No more items come: the source is at its end, or failed."""
        with self._changed:
            self._ended, self._error = True, error
            self._changed.notify_all()

    def get(self) -> T:
        """Wait for the next item.  Raises StopIteration after the last one, or once what the source raised."""
        with self._changed:
            self._changed.wait_for(lambda: self._closed or self._ended or bool(self._items))
            if self._items and not self._closed:
                item = self._items.popleft()
                self._changed.notify_all()
                return item
            error, self._error = self._error, None
        if error is not None:
            raise error
        raise StopIteration

    def close(self) -> None:
        with self._changed:
            self._closed, self._error = True, None
            self._items.clear()
            self._changed.notify_all()


def _fill(channel: _Channel[T], make: Callable[[], Iterable[T]]) -> None:
    try:
        for item in make():
            if not channel.put(item):
                return
        channel.end()
    except BaseException as error:  # handed over to who asks for the next item, whatever it is
        channel.end(error)


class Prefetch(Generic[T]):
    """An iterator over what ``make()`` gives, made ahead by a thread of its own.

    An exception of the source is raised, with its own traceback, where the item would have been. The thread ends
    with the items, with `close`, and with this object: it waits for nothing but the source itself.

    Args:
        make: Called in the thread.
        size: Items made ahead; at least 1.
    """

    def __init__(self, make: Callable[[], Iterable[T]], size: int) -> None:
        self._channel: _Channel[T] = _Channel(max(1, size))
        self._thread = threading.Thread(target=_fill, args=(self._channel, make), name="prefetch", daemon=True)
        weakref.finalize(self, self._channel.close)
        self._thread.start()

    def __iter__(self) -> Iterator[T]:
        return self

    def __next__(self) -> T:
        return self._channel.get()

    def close(self) -> None:
        """Drop what was made, and wait until the thread has left the source."""
        self._channel.close()
        self._thread.join()
