"""How a thing shows itself: a few lines in a terminal, a small table in a notebook."""

from collections.abc import Mapping
from html import escape

_WIDTH = 100


class Displayed:
    """Base of what has a short repr: a title, and below it facts by name, from `_title` and `_facts`."""

    def _title(self) -> str:
        return type(self).__name__

    def _facts(self) -> Mapping[str, object]:
        raise NotImplementedError

    def __repr__(self) -> str:
        facts = self._facts()
        width = max(map(len, facts), default=0)
        return "\n".join([self._title(), *(f"  {name:{width}s}  {shortened(text)}" for name, text in facts.items())])

    def __str__(self) -> str:
        return repr(self)

    def _repr_html_(self) -> str:
        rows = "".join(f"<tr><th style='text-align:left'>{escape(name)}</th><td style='text-align:left'>"
                       f"{escape(shortened(text))}</td></tr>" for name, text in self._facts().items())  # fmt: skip
        return f"<table><caption style='text-align:left'><b>{escape(self._title())}</b></caption>{rows}</table>"


def shortened(value: object, width: int = _WIDTH) -> str:
    """A value as text on one line of at most so many characters.

    >>> shortened("a b\\nc", 4)
    'a b…'
    """
    text = " ".join(str(value).splitlines())
    return text if len(text) <= width else f"{text[: width - 1]}…"


def duration(seconds: float) -> str:
    """A time in words.

    >>> duration(42.0), duration(150.0), duration(9000.0)
    ('42 s', '2 min', '2.5 h')
    """
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"


def listed(names: "list[str] | tuple[str, ...]", most: int = 8) -> str:
    """The first names of a list, and how many more there are.

    >>> listed(["u", "g", "r"], most=2)
    'u, g and 1 more'
    """
    names = list(names)
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more
