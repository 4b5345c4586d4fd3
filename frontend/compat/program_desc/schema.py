"""The messages of Paddle's ``framework.proto`` that a ProgramDesc is made of, described to the protobuf library.

Nothing is ``required`` and enumerations are plain integers, so that a damaged or newer file parses, and what is wrong
with it is said in words.  On the wire both are the same.
"""

from __future__ import annotations

from functools import cache
from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

_PACKAGE = "paddle.framework.proto"

# Message: field = number, type, and "*" for repeated ones (which proto2 writes unpacked).
_MESSAGES: dict[str, str] = {
    "Version": "version=1 int64",
    "TensorDesc": "data_type=1 int32, dims=2 int64*",
    "LoDTensorDesc": "tensor=1 TensorDesc, lod_level=2 int32",
    "ReaderDesc": "lod_tensor=1 LoDTensorDesc*",
    "VarType": "type=1 int32, selected_rows=2 TensorDesc, lod_tensor=3 LoDTensorDesc, tensor_array=4 LoDTensorDesc, "
    "reader=5 ReaderDesc",
    "VarDesc": "name=1 string, type=2 VarType, persistable=3 bool, need_check_feed=4 bool",
    "Attr": "name=1 string, type=2 int32, i=3 int32, f=4 float, s=5 bytes, ints=6 int32*, floats=7 float*, "
    "strings=8 bytes*, b=10 bool, bools=11 bool*, block_idx=12 int32, l=13 int64, "
    "blocks_idx=14 int32*, longs=15 int64*",
    "Slot": "parameter=1 string, arguments=2 string*",
    "OpDesc": "inputs=1 Slot*, outputs=2 Slot*, type=3 string, attrs=4 Attr*, is_target=5 bool",
    "BlockDesc": "idx=1 int32, parent_idx=2 int32, vars=3 VarDesc*, ops=4 OpDesc*, forward_block_idx=5 int32",
    "ProgramDesc": "blocks=1 BlockDesc*, version=4 Version",
}

_Field = descriptor_pb2.FieldDescriptorProto
_SCALARS = {
    "int32": _Field.TYPE_INT32,
    "int64": _Field.TYPE_INT64,
    "float": _Field.TYPE_FLOAT,
    "bool": _Field.TYPE_BOOL,
    "string": _Field.TYPE_STRING,
    "bytes": _Field.TYPE_BYTES,
}


@cache
def program_desc_class() -> type[Any]:
    """The message class ``ProgramDesc``; its fields are those of Paddle 1.8.5, others are skipped when read."""
    file = descriptor_pb2.FileDescriptorProto(name="framework.proto", package=_PACKAGE, syntax="proto2")
    for name, fields in _MESSAGES.items():
        message = file.message_type.add(name=name)
        for text in fields.split(", "):
            _describe(message, text)
    pool = descriptor_pool.DescriptorPool()  # its own: Paddle may have registered the same names in the default one
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName(f"{_PACKAGE}.ProgramDesc"))


def _describe(message: Any, text: str) -> None:
    """Add a field written as ``name=number type`` to a message."""
    left, kind = text.split(" ")
    name, number = left.split("=")
    label = _Field.LABEL_REPEATED if kind.endswith("*") else _Field.LABEL_OPTIONAL
    field = message.field.add(name=name, number=int(number), label=label)
    kind = kind.removesuffix("*")
    if kind in _SCALARS:
        field.type = _SCALARS[kind]
    else:
        field.type, field.type_name = _Field.TYPE_MESSAGE, f".{_PACKAGE}.{kind}"
