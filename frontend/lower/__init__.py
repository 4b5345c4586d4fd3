"""From Programs to an IR module at stage ``captured``: the one bridge between the frontend and the compiler.

Lowering follows program order: a name means its latest value; several writes of a persistable variable become
one ``state.write``; fetches read the values at the end of the step.
"""

from .module import Lowered, default_feeds, lower_program, lower_startup, privacy_config, rules

__all__ = ["Lowered", "default_feeds", "lower_program", "lower_startup", "privacy_config", "rules"]
