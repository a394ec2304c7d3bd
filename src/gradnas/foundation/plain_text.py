"""Texts of strangers as one line that no terminal minds."""

import unicodedata


def one_line(text: object) -> str:
    """The text on one line, with � for control characters.

    Among those are the ones that color or erase a terminal's lines, and the marks that turn the reading direction.
    """
    spaced = " ".join(str(text).split())
    return "".join("�" if unicodedata.category(c) in ("Cc", "Cf", "Cs", "Co", "Cn") else c for c in spaced)
