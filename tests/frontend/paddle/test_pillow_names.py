"""Filters that Pillow 10 dropped are back inside the block, told once, and gone after it."""

from __future__ import annotations

import subprocess
import sys

import pytest

from fluidc.frontend.paddle.pillow_names import RESTORED, old_pillow
from fluidc.frontend.paddle.session import Session, noting

Image = pytest.importorskip("PIL.Image")
pytestmark = pytest.mark.skipif(hasattr(Image, "ANTIALIAS"), reason="this Pillow has them")


def test_names_mean_what_they_did(capsys: pytest.CaptureFixture[str]) -> None:
    with noting(Session()) as session, old_pillow():
        for name, now in RESTORED.items():
            assert getattr(Image, name) == getattr(Image, now)
        assert Image.new("L", (4, 4), 7).resize((2, 2), Image.ANTIALIAS).getpixel((0, 0)) == 7
        with pytest.raises(AttributeError, match="has no attribute 'nothing'"):
            Image.nothing  # noqa: B018  # looked up
    told = capsys.readouterr().err.splitlines()
    assert len(told) == len(session.restored) == len(RESTORED)
    assert told[0].startswith("note: PIL.Image.ANTIALIAS of older Pillow is PIL.Image.LANCZOS in this run")
    assert not hasattr(Image, "ANTIALIAS")


def test_pillow_is_loaded_only_by_the_script() -> None:
    script = """
import sys
from fluidc.frontend.paddle.pillow_names import old_pillow
with old_pillow():
    assert "PIL" not in sys.modules
    from PIL import Image
    assert Image.ANTIALIAS == Image.LANCZOS
assert not hasattr(Image, "ANTIALIAS")
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
