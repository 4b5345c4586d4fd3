"""Telling scripts for Python 2, and what of Python 2 and of old libraries fails while a script runs."""

from __future__ import annotations

import re

_CONVERT = "convert it once, by 2to3 -w {file} (of Python up to 3.12) or futurize -w {file} (pip install future)"

# What the parser says of Python 2's syntax, and what that was.  An empty text: it says no more than that.
_SYNTAX: tuple[tuple[str, str, str], ...] = (
    (r"Missing parentheses in call to 'print'", r"", "a print statement"),
    (r"Missing parentheses in call to 'exec'", r"", "an exec statement"),
    (r"multiple exception types must be parenthesized", r"", "`except Error, name`"),
    (r"leading zeros in decimal integer literals", r"", "an octal number written 0777"),
    (
        r"invalid (?:decimal|hexadecimal|octal) literal",
        r"\b(?:0[xX][0-9a-fA-F]+|\d+)[lL]\b",
        "a long integer written 10L",
    ),
    (r"inconsistent use of tabs and spaces", r"", "tabs mixed with spaces"),
    (r"", r"^\s*print\s+[^\s(=.\[]", "a print statement"),
    (r"", r"^\s*print\s*>>", "a print statement"),
    (r"", r"^\s*exec\s+[\"'\w]", "an exec statement"),
    (r"", r"\bexcept\s+[\w.]+\s*,\s*\w+\s*:", "`except Error, name`"),
    (r"", r"\braise\s+[\w.]+\s*,", "`raise Error, text`"),
    (r"", r"`[^`]+`", "backticks for repr"),
    (r"", r"<>", "`<>` for !="),
    (r"", r"\b[uU][rR]['\"]", "a text written ur''"),
    (r"", r"\bdef\s+\w+\s*\([^)]*\([^)]*\)", "a tuple among the parameters"),
    (r"", r"\blambda\s*\(", "a tuple among the parameters of a lambda"),
)

_NAMES = {
    "xrange": "write range",
    "raw_input": "write input",
    "unicode": "write str",
    "unichr": "write chr",
    "long": "write int",
    "basestring": "write str",
    "reduce": "from functools import reduce",
    "file": "write open",
    "cmp": "write (a > b) - (a < b), or sort by key=functools.cmp_to_key(...)",
    "execfile": "write exec(open(path).read())",
    "reload": "from importlib import reload",
    "apply": "write function(*arguments)",
    "izip": "write zip",
}

_MODULES = {
    "cPickle": "import pickle",
    "cStringIO": "from io import StringIO, or BytesIO",
    "StringIO": "from io import StringIO, or BytesIO",
    "Queue": "import queue",
    "urllib2": "import urllib.request",
    "urlparse": "import urllib.parse",
    "ConfigParser": "import configparser",
    "commands": "import subprocess",
    "HTMLParser": "import html.parser",
    "Tkinter": "import tkinter",
    "thread": "import threading",
    "__builtin__": "import builtins",
    "itertools.izip": "zip is such an iterator now",
}

_PATTERNS: tuple[tuple[str, str], ...] = (
    (r"'dict' object has no attribute 'has_key'", "Python 2's dict.has_key(key): write key in dict"),
    (r"object has no attribute 'iter(\w+)'", r"Python 2's dict.iter\1(): write dict.\1()"),
    (r"object has no attribute 'view(items|keys|values)'", r"Python 2's dict.view\1(): write dict.\1()"),
    (r"'(?:dict_keys|dict_values|dict_items|map|filter|zip|range_iterator)' object is not subscriptable",
     "Python 2 made a list here: write list(...) around it"),
    (r"object of type '(?:map|filter|zip)' has no len", "Python 2 made a list here: write list(...) around it"),
    (r"'(?:dict_keys|dict_values|dict_items)' object has no attribute '(?:sort|append|index)'",
     "Python 2 made a list here: write list(...) around it"),
    (r"'float' object cannot be interpreted as an integer",
     "dividing integers with / gives a float since Python 3: write //"),
    (r"slice indices must be integers", "dividing integers with / gives a float since Python 3: write //"),
    (r"only integer(?:s, slices|\s+scalar arrays)", "dividing integers with / gives a float since Python 3: write //"),
    (r"'str' object has no attribute 'decode'",
     "a text is decoded already in Python 3: leave .decode() out, or open the file in mode 'rb'"),
    (r"a bytes-like object is required, not 'str'", "open the file in mode 't', or write bytes: text.encode()"),
    (r"write\(\) argument must be str, not bytes", "open the file in mode 'wb' for bytes such as pickles"),
    (r"unsupported operand type\(s\) for >>: 'builtin_function_or_method'",
     "Python 2's print >>file, text: write print(text, file=file)"),
    (r"module 'string' has no attribute '(letters|lowercase|uppercase)'", r"write string.ascii_\1"),
    (r"module 'itertools' has no attribute 'i(zip|map|filter)'", r"write \1: it is an iterator in Python 3"),
    (r"cannot import name 'i(zip|map|filter)' from 'itertools'", r"write \1: it is an iterator in Python 3"),
    (r"only 0-dimensional arrays can be converted to Python scalars",
     "numpy 2.4 no longer takes an array of shape [1] for a number: pip install 'numpy<2.4', or write x.item()"),
    (r"module 'time' has no attribute 'clock'", "write time.perf_counter()"),
    (r"module 'collections' has no attribute '(\w+)'", r"write collections.abc.\1"),
    (r"cannot import name '(\w+)' from 'collections'", r"from collections.abc import \1"),
)  # fmt: skip


# What paddlepaddle 1.8.5 was installed with, by module: the package.
_BROUGHT = {
    "cv2": "opencv-python", "decorator": "decorator", "funcsigs": "funcsigs", "graphviz": "graphviz",
    "matplotlib": "matplotlib", "nltk": "nltk", "objgraph": "objgraph", "PIL": "Pillow", "prettytable": "prettytable",
    "requests": "requests", "scipy": "scipy", "six": "six", "yaml": "pyyaml",
}  # fmt: skip


def explain_syntax(error: SyntaxError, file: str) -> tuple[str, str] | None:
    """What of Python 2 a script does not parse for, and what to do; None where it is no script for Python 2.

    >>> try:
    ...     compile("print 'hello'", "old.py", "exec")
    ... except SyntaxError as error:
    ...     print(explain_syntax(error, "old.py")[0])
    this is a script for Python 2: it has a print statement
    """
    line = (error.text or "").rstrip()
    for message, pattern, what in _SYNTAX:
        if re.search(message, error.msg or "") and re.search(pattern, line) and (message or pattern):
            return f"this is a script for Python 2: it has {what}", _CONVERT.format(file=file)
    return None


def advice_on_module(name: str) -> str | None:
    """What to do where a module of this name is not there; None for a module that is not known.

    >>> advice_on_module("six")
    'paddlepaddle brought six along, fluidc does not: pip install six'
    """
    if name in _MODULES:
        return f"Python 2's module {name}: {_MODULES[name]}"
    if name in _BROUGHT:
        return f"paddlepaddle brought {_BROUGHT[name]} along, fluidc does not: pip install {_BROUGHT[name]}"
    return None


def advice_on_name(name: str) -> str | None:
    """What to write for a built-in name of Python 2; None for other names.

    >>> advice_on_name("xrange")
    "Python 2's xrange: write range"
    """
    return f"Python 2's {name}: {_NAMES[name]}" if name in _NAMES else None


def explain_error(error: BaseException) -> str | None:
    """What to write instead where an error comes of Python 2's ways or of old libraries; None for other errors.

    >>> explain_error(NameError("name 'xrange' is not defined", name="xrange"))
    "Python 2's xrange: write range"
    """
    told = None
    if isinstance(error, ModuleNotFoundError) and error.name is not None:
        told = advice_on_module(error.name)
    elif isinstance(error, NameError) and error.name is not None:
        told = advice_on_name(error.name)
    if told is not None:
        return told
    text = str(error)
    for pattern, advice in _PATTERNS:
        if found := re.search(pattern, text):
            return found.expand(advice)
    return None
