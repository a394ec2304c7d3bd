"""What ``torch.save`` wrote, looked at before ``torch.load`` sees it.

``weights_only=True`` runs no code of the file, but it lets a file of a few hundred bytes ask for gigabytes: a
``bytearray`` of any length, or records that are packed a thousand to one. What gradnas stores needs neither.
"""

import io
import pickletools
import re
import zipfile

from gradnas.data.archive import ZIP_FAULTS, check_members

_KNOWN = re.compile(r"collections OrderedDict|torch \w+Storage|torch\._utils _rebuild_(?:tensor_v2|parameter)")


def check_stored_tensors(stream: io.BytesIO) -> None:
    """Refuse what would take more memory than its bytes, and what names anything but tensors.

    Args:
        stream: The bytes; afterwards it stands at its beginning.

    Raises:
        ValueError: For such a content, with the cause alone.
    """
    try:
        with zipfile.ZipFile(stream) as archive:
            check_members(archive)
            if any(member.compress_type != zipfile.ZIP_STORED for member in archive.infolist()):
                raise ValueError("its records are compressed, which torch.save never does")
            pickles = [name for name in archive.namelist() if name.endswith("/data.pkl")]
            if len(pickles) != 1:
                raise ValueError("it does not have the one list of contents that torch.save writes")
            operations = list(pickletools.genops(archive.read(pickles[0])))
    except ZIP_FAULTS as error:
        raise ValueError(f"it is no file of torch.save: {error}") from error
    if not all(_is_known(operation.name, argument) for operation, argument, _ in operations):
        raise ValueError("it holds more than tensors, numbers, strings, lists and dicts")
    stream.seek(0)


def _is_known(operation: str, argument: object) -> bool:
    """Whether an operation of the contents makes plain values, or names something of :data:`_KNOWN`."""
    names_something = "GLOBAL" in operation or operation in ("INST", "EXT1", "EXT2", "EXT4")
    return not names_something or _KNOWN.fullmatch(str(argument)) is not None
