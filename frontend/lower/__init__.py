"""From Programs to an IR module at stage ``captured``: the one bridge between the frontend and the compiler.

Lowering follows program order: a name means its latest value; several writes of a persistable variable become
one ``state.write``; fetches read the values at the end of the step.
"""

from ..lod import LENGTHS
from .context import BATCH
from .module import default_feeds, feed_types_of, lower, privacy_spec, rules

__all__ = ["BATCH", "LENGTHS", "default_feeds", "feed_types_of", "lower", "privacy_spec", "rules"]
