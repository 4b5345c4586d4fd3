"""`Layer`: parameters and sublayers under the names they are assigned to."""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Literal, NoReturn, overload

from .. import unique_name
from ..errors import invalid, unsupported, warn, wrong_type
from ..framework import default_main_program
from ..initializer import Initializer
from ..layer_helper import LayerHelper
from ..param_attr import ParamAttrLike, WantedAttrLike
from ..parameter_list import UnsizedParameters
from ..variable import Parameter, Variable
from ..vartype import DTypeLike, VarType, convert_dtype
from .base import eagerly
from .program import EagerProgram
from .state import load_state
from .variable import EagerParameter

PreHook = Callable[["Layer", tuple[Any, ...]], Any]
PostHook = Callable[["Layer", tuple[Any, ...], Any], Any]
_hook_ids = itertools.count()
_WORD_STARTS = re.compile(r"(?<=.)(?=[A-Z][a-z])|(?<=[a-z])(?=[A-Z])")


class HookRemoveHelper:
    """What registering a hook returns; `remove` takes the hook away, a second time without effect."""

    def __init__(self, hooks: dict[int, Any], hook: Any) -> None:
        self._hooks, self._id = hooks, next(_hook_ids)
        hooks[self._id] = hook

    def remove(self) -> None:
        self._hooks.pop(self._id, None)


class Layer:
    """A part of a model: parameters and sublayers, under the names of the attributes that hold them.

    A subclass calls ``super().__init__()``, assigns parameters and sublayers to attributes, and computes in
    ``forward``; ``layer(x)`` runs the hooks around it.

    Args:
        name_scope: Start of the layer's own name and of its parameters' (``name_0.w_0``); by default the name of the
            class in snake case.
        dtype: Element type of what the layer makes.

    Attributes:
        training: False after `eval`; dropout and batch_norm look at it.
    """

    # False where a constructor leaves it to the first input to size the parameters.
    _sized = True

    def __init__(self, name_scope: str | None = None, dtype: DTypeLike = VarType.FP32) -> None:
        if not (name_scope is None or isinstance(name_scope, str)):
            raise wrong_type(f"{type(self).__name__}: name_scope is {name_scope!r}", "give a string or leave it out")
        self._parameters: dict[str, Parameter | None] = {}
        self._sub_layers: dict[str, Layer | None] = {}
        self._forward_pre_hooks: dict[int, PreHook] = {}
        self._forward_post_hooks: dict[int, PostHook] = {}
        self.training = True
        kind = _WORD_STARTS.sub("_", type(self).__name__).lower()
        self._full_name = unique_name.generate(name_scope or kind)
        self._helper = LayerHelper(kind, self._full_name)
        self._dtype = convert_dtype(dtype)
        self._built = False

    def full_name(self) -> str:
        """The layer's own name, such as ``linear_0``: its parameters' names start with it."""
        return self._full_name

    # What a subclass writes.
    def forward(self, *inputs: Any, **kwargs: Any) -> Any:
        """The layer's value; every subclass defines it."""
        del inputs, kwargs
        raise unsupported(f"{type(self).__name__} has no forward", "define forward(self, ...) in the class")

    def _build_once(self, *inputs: Any, **kwargs: Any) -> None:
        """Called before the first ``forward``, with its arguments: creates what depends on their shapes."""

    def _take_sizes(self, *inputs: Any, **kwargs: Any) -> None:
        """Called with the first inputs where ``_sized`` is False: creates the parameters, and sets it."""

    def backward(self, *inputs: Any) -> NoReturn:
        """Refused: gradients follow from ``forward``."""
        del inputs
        raise invalid(f"{type(self).__name__}.backward: a Layer has no backward", "call backward() on the loss")

    def __call__(self, *inputs: Any, **kwargs: Any) -> Any:
        for before in list(self._forward_pre_hooks.values()):
            changed = before(self, inputs)
            if changed is not None:
                inputs = changed if isinstance(changed, tuple) else (changed,)
        if not self._sized:
            self._take_sizes(*inputs, **kwargs)
        if not self._built:
            self._build_once(*inputs, **kwargs)
            self._built = True
        result = self.forward(*inputs, **kwargs)
        for after in list(self._forward_post_hooks.values()):
            changed = after(self, inputs, result)
            if changed is not None:
                result = changed
        return result

    def register_forward_pre_hook(self, hook: PreHook) -> HookRemoveHelper:
        """``hook(layer, inputs)`` runs before ``forward``; what it returns, unless None, becomes the inputs."""
        return HookRemoveHelper(self._forward_pre_hooks, hook)

    def register_forward_post_hook(self, hook: PostHook) -> HookRemoveHelper:
        """``hook(layer, inputs, output)`` runs after ``forward``; what it returns, unless None, is the output."""
        return HookRemoveHelper(self._forward_post_hooks, hook)

    # Parameters and sublayers.
    @overload
    def create_parameter(
        self,
        shape: Sequence[int],
        attr: Literal[False],
        dtype: DTypeLike = "float32",
        is_bias: bool = False,
        default_initializer: Initializer | None = None,
    ) -> None: ...
    @overload
    def create_parameter(
        self,
        shape: Sequence[int],
        attr: WantedAttrLike = None,
        dtype: DTypeLike = "float32",
        is_bias: bool = False,
        default_initializer: Initializer | None = None,
    ) -> Parameter: ...
    def create_parameter(
        self,
        shape: Sequence[int],
        attr: ParamAttrLike = None,
        dtype: DTypeLike = "float32",
        is_bias: bool = False,
        default_initializer: Initializer | None = None,
    ) -> Parameter | None:
        """A new parameter named ``<full name>.w_0`` (``.b_0`` for a bias); assign it to an attribute.

        Args:
            shape: Its extents.
            attr: Name, initializer, ...; False gives no parameter but None.
            dtype: Its element type.
            is_bias: Starts at zero instead of by Xavier's rule.
            default_initializer: Used where ``attr`` has none.
        """
        if isinstance(shape, str) or not isinstance(shape, Sequence):
            raise wrong_type(f"create_parameter: shape is {shape!r}", "give the shape first, a list of integers")
        attr = None if attr == "" else attr
        with eagerly():
            return self._helper.parameter(attr, list(shape), dtype, is_bias=is_bias, default=default_initializer)

    def create_variable(
        self,
        name: str | None = None,
        persistable: bool | None = None,
        dtype: DTypeLike | None = None,
        type: VarType = VarType.LOD_TENSOR,
    ) -> Variable:
        """A variable named ``<full name>.<name>``, in the block being built; not part of the state dict."""
        start = f"{self._full_name}."
        full = start + name if name is not None else unique_name.generate(start + "_generated_var")
        return self._helper.block.create_var(name=full, persistable=persistable, dtype=dtype, type=type)

    def add_parameter(self, name: str, parameter: Parameter | None) -> Parameter | None:
        """Hold ``parameter`` as attribute ``name``; returns it."""
        if not (parameter is None or isinstance(parameter, Parameter)):
            raise self._wrong("parameter", name, "Parameter", parameter)
        self._parameters[name] = parameter
        return parameter

    def add_sublayer(self, name: str, sublayer: Layer) -> Layer:
        """Hold ``sublayer`` as attribute ``name``; returns it."""
        if not isinstance(sublayer, Layer):
            raise self._wrong("sublayer", name, "Layer", sublayer)
        self._sub_layers[name] = sublayer
        return sublayer

    def named_sublayers(
        self,
        prefix: str = "",
        include_sublayers: bool = True,
        include_self: bool = False,
        layers_set: set[Layer] | None = None,
    ) -> Iterator[tuple[str, Layer]]:
        """``("encoder.fc", layer)`` for every sublayer, each once, under the first path that leads to it.

        Args:
            prefix: Put before every path.
            include_sublayers: False for none.
            include_self: Begin with ``(prefix, self)``.
            layers_set: Layers that were seen elsewhere; those found are added.
        """
        seen: set[Layer] = set() if layers_set is None else layers_set
        if include_self and self not in seen:
            seen.add(self)
            yield prefix, self
        for name, layer in self._sub_layers.items() if include_sublayers else ():
            if layer is not None:
                path = f"{prefix}.{name}" if prefix else name
                yield from layer.named_sublayers(path, include_self=True, layers_set=seen)

    def sublayers(self, include_sublayers: bool = True) -> list[Layer]:
        """The layers of `named_sublayers`."""
        return [layer for _, layer in self.named_sublayers(include_sublayers=include_sublayers)]

    def named_parameters(self, prefix: str = "", include_sublayers: bool = True) -> Iterator[tuple[str, Parameter]]:
        """``("encoder.fc.weight", parameter)`` for every parameter, each once, under its first path."""
        # By identity: == of Variables compares their values.
        seen: set[int] = set()
        for path, layer in self.named_sublayers(prefix, include_sublayers, include_self=True):
            for name, parameter in layer._parameters.items():
                if parameter is not None and id(parameter) not in seen:
                    seen.add(id(parameter))
                    yield f"{path}.{name}" if path else name, parameter

    def parameters(self, include_sublayers: bool = True) -> list[Parameter]:
        """The parameters of `named_parameters`; without those of layers that are sized by an input still to come."""
        parameters = [parameter for _, parameter in self.named_parameters(include_sublayers=include_sublayers)]
        unsized = self._unsized(include_sublayers)
        return UnsizedParameters(parameters, unsized) if unsized else parameters

    def _unsized(self, include_sublayers: bool) -> list[str]:
        """Full names of the layers that create parameters when they are first called, and were not."""
        return [
            layer._full_name
            for _, layer in self.named_sublayers(include_sublayers=include_sublayers, include_self=True)
            if not layer._sized or (not layer._built and type(layer)._build_once is not Layer._build_once)
        ]

    def clear_gradients(self) -> None:
        """Forget the gradients of all trainable parameters."""
        for parameter in self.parameters():
            if isinstance(parameter, EagerParameter) and parameter.trainable:
                parameter.clear_gradient()

    # Training and evaluation.
    def train(self) -> None:
        """This layer and its sublayers compute as in training; gradients are recorded again, see `eval`."""
        self._set_training(True)

    def eval(self) -> None:
        """This layer and its sublayers compute as in evaluation: no dropout, running statistics in batch_norm.

        As in Paddle 1.8.5 nothing that eager code computes from here on gets a gradient, whichever layer computes
        it, until some layer's `train` is called.
        """
        self._set_training(False)

    def _set_training(self, training: bool) -> None:
        for _, layer in self.named_sublayers(include_self=True):
            layer.training = training
        program = default_main_program()
        if isinstance(program, EagerProgram):
            program.recorder.grad_enabled = training

    # State.
    def state_dict(
        self,
        destination: dict[str, Parameter] | None = None,
        include_sublayers: bool = True,
        structured_name_prefix: str = "",
    ) -> dict[str, Parameter]:
        """Every parameter, running statistics among them, under its path: ``{"encoder.fc.weight": parameter, ...}``.

        A parameter that has several paths stands under each.

        Args:
            destination: Dictionary to add to.
            include_sublayers: False for this layer's own parameters only.
            structured_name_prefix: Put before every path.
        """
        found: dict[str, Parameter] = {} if destination is None else destination
        for name, parameter in self._parameters.items():
            if parameter is not None:
                found[structured_name_prefix + name] = parameter
        for name, layer in self._sub_layers.items() if include_sublayers else ():
            if layer is not None:
                layer.state_dict(found, include_sublayers, f"{structured_name_prefix}{name}.")
        return found

    def load_dict(
        self, stat_dict: Mapping[str, Any] | None, include_sublayers: bool = True, use_structured_name: bool = True
    ) -> None:
        """`set_dict`, which calls this method, as Paddle's does: a subclass overrides this one."""
        if unsized := self._unsized(include_sublayers):
            UnsizedParameters([], unsized).refuse("set_dict")
        everything = self.state_dict()
        wanted = everything if include_sublayers else self.state_dict(include_sublayers=False)
        if not use_structured_name:
            everything, wanted = _by_name(everything), _by_name(wanted)
        unused = load_state("set_dict", wanted, stat_dict, known=everything)
        if unused:
            warn(f"set_dict: {', '.join(unused)} belongs to no parameter of {self._full_name}")

    def set_dict(
        self, stat_dict: Mapping[str, Any] | None, include_sublayers: bool = True, use_structured_name: bool = True
    ) -> None:
        """Set every parameter to the value that a state dict holds for it; all of them or, after an error, none.

        Args:
            stat_dict: Arrays or Variables, of each parameter's shape and element type.
            include_sublayers: False for this layer's own parameters only.
            use_structured_name: Keys are the paths of `state_dict`; else the parameters' own names.

        Warns:
            UserWarning: Keys that belong to no parameter.

        Raises:
            StateDictError: A parameter's key is missing, or its value does not fit.
            ProgramError: A layer has no parameters yet.
        """
        self.load_dict(stat_dict, include_sublayers, use_structured_name)

    # Attributes.
    def __getattr__(self, name: str) -> Any:
        for held in ("_parameters", "_sub_layers"):
            # Not self._parameters: before __init__ that would look for itself.
            if name in (found := self.__dict__.get(held, {})):
                return found[name]
        raise AttributeError(f"{type(self).__name__} has no attribute {name!r}")

    def __setattr__(self, name: str, value: Any) -> None:
        own = self.__dict__
        parameters, layers = own.get("_parameters"), own.get("_sub_layers")
        if parameters is None or layers is None:
            if isinstance(value, Parameter | Layer):
                raise invalid(
                    f"{type(self).__name__}: {name} is assigned before Layer.__init__ has run",
                    "call super().__init__() first",
                )
            object.__setattr__(self, name, value)
        elif isinstance(getattr(type(self), name, None), property):
            object.__setattr__(self, name, value)
        elif isinstance(value, Parameter):
            _drop(name, own, layers)
            parameters[name] = value
        elif name in parameters:
            if value is not None:
                raise self._wrong("parameter", name, "Parameter", value)
            parameters[name] = None
        elif isinstance(value, Layer):
            _drop(name, own)
            layers[name] = value
        elif name in layers:
            if value is not None:
                raise self._wrong("sublayer", name, "Layer", value)
            layers[name] = None
        else:
            object.__setattr__(self, name, value)

    def __delattr__(self, name: str) -> None:
        for held in (self._parameters, self._sub_layers):
            if name in held:
                del held[name]
                return
        object.__delattr__(self, name)

    def __dir__(self) -> Iterable[str]:
        return [*object.__dir__(self), *self._parameters, *self._sub_layers]

    def _wrong(self, what: str, name: str, wanted: str, value: object) -> Exception:
        return wrong_type(
            f"{type(self).__name__}: {what} {name} is given {type(value).__name__}",
            f"assign a {wanted} or None; del it first to use the name for something else",
        )


def _by_name(state: Mapping[str, Parameter]) -> dict[str, Parameter]:
    return {parameter.name: parameter for parameter in state.values()}


def _drop(name: str, *held: dict[str, Any]) -> None:
    for each in held:
        each.pop(name, None)
