"""The curves of ``paddle.utils.plot``."""

from __future__ import annotations

from pathlib import Path

import pytest

from fluidc.frontend.paddle.finder import installed
from fluidc.frontend.paddle.session import Session, noting


def test_curves_are_drawn(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("matplotlib")
    monkeypatch.delenv("DISABLE_PLOT", raising=False)
    with installed(), noting(Session()) as session:
        from paddle.utils.plot import Ploter  # pyright: ignore[reportMissingImports]

        curves = Ploter("train", "test")
        for step in range(3):
            curves.append("train", step, 1.0 / (step + 1))
        with pytest.raises(ValueError, match="no curve 'tets'; it has train, test"):
            curves.append("tets", 0, 1.0)
        curves.plot(str(tmp_path / "curves.png"))
        assert (tmp_path / "curves.png").read_bytes().startswith(b"\x89PNG")
        curves.plot()
        assert list(session.ignored) == ["Ploter.plot() without a file"]
        monkeypatch.setenv("DISABLE_PLOT", "True")
        curves.plot(str(tmp_path / "none.png"))
        assert not (tmp_path / "none.png").exists()
