"""Paddle's ProgramDesc: programs and inference models to and from the files of Paddle 1.8."""

from .building import parse_program
from .errors import ProgramDescError
from .inference_model import load_inference_model, save_inference_model
from .loading import LoadedProgram, load_program
from .writing import inference_to_bytes, program_to_bytes

__all__ = [
    "LoadedProgram",
    "ProgramDescError",
    "inference_to_bytes",
    "load_inference_model",
    "load_program",
    "parse_program",
    "program_to_bytes",
    "save_inference_model",
]
