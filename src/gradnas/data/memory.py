"""The limit on what a source may hold in memory."""


def check_memory(what: str, n_bytes: int, max_bytes: int) -> None:
    """Refuse a source that does not fit, before it is read.

    Args:
        what: Subject of the error, e.g. ``"60000 images of 3x32x32"``.
        n_bytes: Bytes needed.
        max_bytes: Bytes allowed.

    Raises:
        ValueError: If more is needed than allowed; both numbers and the ways out are named.
    """
    if n_bytes > max_bytes:
        raise ValueError(
            f"{what}: {n_bytes:,} bytes needed in memory, {max_bytes:,} allowed (max_bytes). "
            "Pass a smaller image_size, use fewer images, or raise max_bytes if the machine has the memory."
        )
