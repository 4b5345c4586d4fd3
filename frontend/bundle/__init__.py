"""Bundles: an artifact with all that it runs on, for machines that have Python and numpy and nothing of fluidc."""

from __future__ import annotations

from .contents import Bundle, bundle_of
from .writing import write_archive, write_folder

__all__ = ["Bundle", "bundle_of", "write_archive", "write_folder"]
