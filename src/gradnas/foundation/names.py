"""Near misses: turn an unknown name into an error that helps."""

from collections.abc import Iterable
from difflib import get_close_matches


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Sentence naming the closest known names and then all of them.

    Args:
        name: What the user wrote.
        known: The names that would have been accepted.

    Returns:
        ``"Did you mean 'x'? Known: a, b, x."``, without the question when nothing is close.
    """
    choices = [str(choice) for choice in known]
    close = get_close_matches(str(name), choices, n=1, cutoff=0.5)
    question = f"Did you mean {close[0]!r}? " if close else ""
    return f"{question}Known: {', '.join(choices) if choices else 'none'}."
