"""Scripts for Python 2 are named as such, and what fails of Python 2's ways gets the word that replaces it."""

from __future__ import annotations

import pytest

from fluidc.frontend.paddle.python2 import explain_error, explain_syntax


def syntax(text: str) -> str | None:
    try:
        compile(text, "old.py", "exec")
    except SyntaxError as error:
        found = explain_syntax(error, "old.py")
        return found and found[0].removeprefix("this is a script for Python 2: it has ")
    raise AssertionError(f"{text!r} parses")


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("print 'a'", "a print statement"),
        ("if 1:\n    print x, y", "a print statement"),
        ("print '%d' % 3, 4", "a print statement"),
        ("exec 'x = 1'", "an exec statement"),
        ("try:\n    pass\nexcept IOError, e:\n    pass", "`except Error, name`"),
        ("raise ValueError, 'text'", "`raise Error, text`"),
        ("x = `3`", "backticks for repr"),
        ("if 1 <> 2: pass", "`<>` for !="),
        ("x = 0777", "an octal number written 0777"),
        ("x = 10L", "a long integer written 10L"),
        ("x = ur'a'", "a text written ur''"),
        ("def f(a, (b, c)): pass", "a tuple among the parameters"),
        ("f = lambda (a, b): a", "a tuple among the parameters of a lambda"),
        ("if 1:\n\tx = 1\n        y = 2", "tabs mixed with spaces"),
    ],
)
def test_syntax(text: str, what: str) -> None:
    assert syntax(text) == what


@pytest.mark.parametrize("text", ["if True print('x')", "x = (1", "def f(:", "x = 3 +", "print('a'", "for x in y"])
def test_other_mistakes_are_none_of_python_2(text: str) -> None:
    assert syntax(text) is None


@pytest.mark.parametrize(
    ("text", "advice"),
    [
        ("xrange(3)", "Python 2's xrange: write range"),
        ("unicode('a')", "Python 2's unicode: write str"),
        ("reduce(max, [1])", "Python 2's reduce: from functools import reduce"),
        ("{}.has_key(1)", "Python 2's dict.has_key(key): write key in dict"),
        ("{}.iteritems()", "Python 2's dict.iteritems(): write dict.items()"),
        ("{}.viewkeys()", "Python 2's dict.viewkeys(): write dict.keys()"),
        ("{1: 2}.keys()[0]", "Python 2 made a list here: write list(...) around it"),
        ("map(str, [1])[0]", "Python 2 made a list here: write list(...) around it"),
        ("len(zip([1], [2]))", "Python 2 made a list here: write list(...) around it"),
        ("{}.keys().sort()", "Python 2 made a list here: write list(...) around it"),
        ("range(4 / 2)", "dividing integers with / gives a float since Python 3: write //"),
        ("[1, 2][: 2 / 1]", "dividing integers with / gives a float since Python 3: write //"),
        (
            "'a'.decode('utf-8')",
            "a text is decoded already in Python 3: leave .decode() out, or open the file in mode 'rb'",
        ),
        ("b'a'.split('a')", "open the file in mode 't', or write bytes: text.encode()"),
        ("print >>open('/dev/null')", "Python 2's print >>file, text: write print(text, file=file)"),
        ("import cPickle", "Python 2's module cPickle: import pickle"),
        ("from itertools import izip", "write zip: it is an iterator in Python 3"),
        ("import time; time.clock()", "write time.perf_counter()"),
        (
            "raise TypeError('only 0-dimensional arrays can be converted to Python scalars')",
            "numpy 2.4 no longer takes an array of shape [1] for a number: pip install 'numpy<2.4', or write x.item()",
        ),
        ("from collections import Iterable", "from collections.abc import Iterable"),
    ],
)
@pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning")
def test_errors(text: str, advice: str) -> None:
    with pytest.raises(Exception) as caught:  # whatever Python raises
        exec(text, {})
    assert explain_error(caught.value) == advice


@pytest.mark.parametrize("text", ["{}['a']", "undefined", "[].nothing", "import no_such_module", "1 / 0"])
def test_other_errors_get_none(text: str) -> None:
    with pytest.raises(Exception) as caught:  # whatever Python raises
        exec(text, {})
    assert explain_error(caught.value) is None
