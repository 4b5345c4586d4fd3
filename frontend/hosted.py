"""Plans of programs with host ops, kept until the program is edited."""

from __future__ import annotations

import warnings
from collections import OrderedDict

from ..compiler.errors import FluidcError
from ..runtime.errors import PrivacyWarning
from .framework import Program
from .host.plan import Plan, plan
from .lower import rules

CACHED_PLANS = 64
_Key = tuple[int, int, tuple[str, ...]]


class Plans:
    """How programs are run that cannot be compiled as a whole."""

    def __init__(self) -> None:
        self._known: OrderedDict[_Key, Plan | None] = OrderedDict()

    def of(self, program: Program, fetches: tuple[str, ...]) -> Plan | None:
        """The plan of a program; None where it is compiled as a whole.

        Raises:
            LoweringError: A host op on the way from parameters to a loss.
            PrivacyError: A host op of a private program that is no metric to be fetched.
        """
        key = (program.uid, program.version, fetches)
        if key not in self._known:
            self._keep(program, fetches, plan(program, fetches, rules().keys()))
        return self._known[(program.uid, program.version, fetches)]

    def refused(self, program: Program, fetches: tuple[str, ...], error: FluidcError) -> Plan | None:
        """The plan of a program that the compiler refused: its loops, arrays and sequence ops run on the host.

        None where that changes nothing: such ops have gradients, or there are none.
        """
        if program.global_block().private_backward() is not None:
            return None
        try:
            found = plan(program, fetches, rules().keys(), forced=error.what)
        except FluidcError:
            return None
        if found is None or found.reasons == getattr(self.of(program, fetches), "reasons", None):
            return None
        self._keep(program, fetches, found)
        return found

    def clear(self) -> None:
        """Forget all plans."""
        self._known.clear()

    def _keep(self, program: Program, fetches: tuple[str, ...], found: Plan | None) -> None:
        for text in found.warnings if found is not None else ():
            warnings.warn(text, PrivacyWarning, stacklevel=5)
        # A plan may have asked for gradients, which edits the program.
        self._known[(program.uid, program.version, fetches)] = found
        if len(self._known) > CACHED_PLANS:
            self._known.popitem(last=False)
