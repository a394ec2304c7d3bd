"""Near misses: turn an unknown name into an error that helps."""

from collections.abc import Iterable
from difflib import get_close_matches


def nearest(name: str, known: Iterable[str], *, likeness: float = 0.5) -> str | None:
    """The known name that is most like ``name``, upper and lower case being the same; None when none is.

    Args:
        name: What the user wrote.
        known: The names that would have been accepted.
        likeness: Share of characters in common, 0 to 1, below which names are not alike.
    """
    folded: dict[str, str] = {}
    for choice in known:
        folded.setdefault(choice.casefold(), choice)
    close = get_close_matches(name.casefold(), folded, n=1, cutoff=likeness)
    return folded[close[0]] if close else None


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Sentence naming the closest known names and then all of them.

    Args:
        name: What the user wrote.
        known: The names that would have been accepted.

    Returns:
        ``"Did you mean 'x'? Known: a, b, x."``, without the question when nothing is close.
    """
    choices = [str(choice) for choice in known]
    close = nearest(str(name), choices)
    question = f"Did you mean {close!r}? " if close is not None else ""
    return f"{question}Known: {', '.join(choices) if choices else 'none'}."
