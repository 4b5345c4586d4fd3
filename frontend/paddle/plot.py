"""``paddle.utils.plot``: curves that scripts draw while they train."""

from __future__ import annotations

import os
from collections.abc import Sequence

from .session import note_ignored


class Ploter:
    """Curves by title, drawn by matplotlib; not at all where the environment says ``DISABLE_PLOT=True``.

    Args:
        titles: What the curves are called.
    """

    def __init__(self, *titles: str) -> None:
        self._titles = titles
        self._curves: dict[str, tuple[list[float], list[float]]] = {}
        self.reset()

    def append(self, title: str, step: float, value: float) -> None:
        """Add a point to a curve.  Raises ValueError for a title that was not given."""
        if title not in self._curves:
            raise ValueError(f"Ploter has no curve {title!r}; it has {', '.join(self._titles)}")
        steps, values = self._curves[title]
        steps.append(step)
        values.append(value)

    def plot(self, path: str | None = None) -> None:
        """Draw the curves to the file ``path``; without one nothing is drawn, as there is no notebook to show them."""
        if os.environ.get("DISABLE_PLOT") == "True":
            return
        if path is None:
            note_ignored("Ploter.plot() without a file", "there is no notebook to show the curves in")
            return
        from matplotlib.figure import Figure  # only of scripts that draw

        figure = Figure()
        axes = figure.subplots()
        shown: Sequence[str] = [title for title in self._titles if self._curves[title][0]]
        for title in shown:
            axes.plot(*self._curves[title], label=title)
        if shown:
            axes.legend(loc="upper left")
        figure.savefig(path)

    def reset(self) -> None:
        """Forget all points."""
        self._curves = {title: ([], []) for title in self._titles}


__all__ = ["Ploter"]
