"""The configuration in a run folder: every setting, with a checksum behind it."""

import dataclasses
from collections.abc import Mapping

from gradnas.config.loading import from_yaml, to_yaml, values_of
from gradnas.config.settings import RunConf
from gradnas.foundation.checksums import damaged, is_sealed, seal_text, unseal_text

_MEANT = "If the change is meant, delete the line with the checksum."


def to_stored(conf: RunConf) -> str:
    """The text of ``config.yaml``: the resolved configuration, and a comment line with its checksum."""
    return seal_text(to_yaml(conf))


def from_stored(text: str, where: str) -> RunConf:
    """Read :func:`to_stored`, also when it was changed on purpose and its checksum was deleted.

    Args:
        text: The text of the file.
        where: Name of the file, for messages.

    Raises:
        ValueError: For a text that is not what was written; one without a checksum that does not name every part of
            the settings, as one that was cut short; and as for :func:`gradnas.config.from_yaml`.
    """
    try:
        content = unseal_text(text)
    except ValueError as error:
        raise damaged(where, _MEANT) from error
    conf = from_yaml(content, where)
    missing = [] if is_sealed(text) else _missing(values_of(content, where))
    if missing:
        raise ValueError(
            f"{where} has no checksum and does not say what {', '.join(missing)} should be, as a file that was cut "
            "short. Put the original back; if it is meant to be so, add these settings."
        )
    return conf


def _missing(values: Mapping[str, object]) -> list[str]:
    return [field.name for field in dataclasses.fields(RunConf) if field.name not in values]
