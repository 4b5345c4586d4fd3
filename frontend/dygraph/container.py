"""Layers that hold others: `Sequential`, `LayerList`, `ParameterList`."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, overload

from ..errors import invalid, wrong_type
from ..variable import Parameter
from .layers import Layer


def _position(owner: Layer, index: int, length: int) -> str:
    """The name under which a list holds its element ``index``; -1 is the last."""
    at = index + length if index < 0 else index
    if not 0 <= at < length:
        raise invalid(
            f"{type(owner).__name__}: there is no element {index}, it holds {length}",
            f"give an index from {-length} to {length - 1}" if length else "append something first",
        )
    return str(at)


class Sequential(Layer):
    """Layers called one after the other; each gets what the one before returned.

    Args:
        layers: Layers, named ``0``, ``1``, ...; or pairs ``(name, layer)``.

    >>> Sequential(("hidden", Linear(8, 4)), ("out", Linear(4, 2)))["out"]          # doctest: +SKIP
    """

    def __init__(self, *layers: Layer | tuple[str, Layer]) -> None:
        super().__init__()
        for i, given in enumerate(layers):
            name, layer = given if isinstance(given, tuple) and len(given) == 2 else (str(i), given)
            if not isinstance(layer, Layer):
                raise wrong_type(
                    f"Sequential: argument {i} is {type(layer).__name__}", "give Layers, or pairs (name, Layer)"
                )
            self.add_sublayer(str(name), layer)

    def _named(self, name: str | int) -> str:
        key = str(name)
        if key in self._sub_layers:
            return key
        if isinstance(name, int) and all(each.isdecimal() for each in self._sub_layers):
            return _position(self, name, len(self))
        raise invalid(f"Sequential: there is no layer {name!r}", f"it has {', '.join(self._sub_layers) or 'none'}")

    def __getitem__(self, name: str | int) -> Layer:
        return self._sub_layers[self._named(name)]  # type: ignore[return-value]

    def __setitem__(self, name: str | int, layer: Layer) -> None:
        self.add_sublayer(str(name), layer)

    def __delitem__(self, name: str | int) -> None:
        del self._sub_layers[self._named(name)]

    def __iter__(self) -> Iterator[Layer]:
        return iter([layer for layer in self._sub_layers.values() if layer is not None])

    def __len__(self) -> int:
        return len(self._sub_layers)

    def forward(self, input: Any) -> Any:
        for layer in self:
            input = layer(input)
        return input


class ParameterList(Layer):
    """Parameters in a list; its elements are parameters of the layer that holds it.

    Args:
        parameters: The first elements.
    """

    def __init__(self, parameters: Iterable[Parameter] | None = None) -> None:
        super().__init__()
        for parameter in () if parameters is None else parameters:
            self.append(parameter)

    def __getitem__(self, idx: int) -> Parameter:
        return self._parameters[_position(self, idx, len(self))]  # type: ignore[return-value]

    def __setitem__(self, idx: int, param: Parameter) -> None:
        self._take(_position(self, idx, len(self)), param)

    def __len__(self) -> int:
        return len(self._parameters)

    def __iter__(self) -> Iterator[Parameter]:
        return iter([parameter for parameter in self._parameters.values() if parameter is not None])

    def _take(self, name: str, parameter: Parameter) -> None:
        if not isinstance(parameter, Parameter):
            raise self._wrong("parameter", name, "Parameter", parameter)
        self.add_parameter(name, parameter)

    def append(self, parameter: Parameter) -> ParameterList:
        """Add one at the end; returns the list."""
        self._take(str(len(self)), parameter)
        return self


class LayerList(Layer):
    """Layers in a list; its elements are sublayers of the layer that holds it. It cannot be called.

    Args:
        sublayers: The first elements.
    """

    def __init__(self, sublayers: Iterable[Layer] | None = None) -> None:
        super().__init__()
        self.extend(() if sublayers is None else sublayers)

    @overload
    def __getitem__(self, idx: int) -> Layer: ...
    @overload
    def __getitem__(self, idx: slice) -> LayerList: ...
    def __getitem__(self, idx: int | slice) -> Layer | LayerList:
        if isinstance(idx, slice):
            return type(self)(list(self)[idx])
        return self._sub_layers[_position(self, idx, len(self))]  # type: ignore[return-value]

    def __setitem__(self, idx: int, sublayer: Layer) -> None:
        self.add_sublayer(_position(self, idx, len(self)), sublayer)

    def __delitem__(self, idx: int | slice) -> None:
        left = list(self)
        if not isinstance(idx, slice):
            idx = slice(at := int(_position(self, idx, len(self))), at + 1)
        del left[idx]
        self._renumber(left)

    def __len__(self) -> int:
        return len(self._sub_layers)

    def __iter__(self) -> Iterator[Layer]:
        return iter([layer for layer in self._sub_layers.values() if layer is not None])

    def _renumber(self, layers: Iterable[Layer]) -> None:
        self._sub_layers.clear()
        self.extend(layers)

    def append(self, sublayer: Layer) -> LayerList:
        """Add one at the end; returns the list."""
        self.add_sublayer(str(len(self)), sublayer)
        return self

    def insert(self, index: int, sublayer: Layer) -> None:
        """Put one before element ``index``, or at the end for ``len(self)``."""
        if not 0 <= index <= len(self):
            raise invalid(f"LayerList.insert: index is {index}", f"give an index from 0 to {len(self)}")
        if not isinstance(sublayer, Layer):
            raise self._wrong("sublayer", str(index), "Layer", sublayer)
        layers = list(self)
        layers.insert(index, sublayer)
        self._renumber(layers)

    def extend(self, sublayers: Iterable[Layer]) -> LayerList:
        """Add several at the end; returns the list."""
        for sublayer in list(sublayers):
            self.append(sublayer)
        return self
