"""Packages that only some sources need: imported at the call, with an instruction when they are missing."""

import importlib
from types import ModuleType


def optional_import(module: str, *, package: str, needed_for: str) -> ModuleType:
    """Import a module that importing gradnas must not import.

    Args:
        module: Dotted name, e.g. ``"sklearn.datasets"``.
        package: What to install, e.g. ``"scikit-learn"``.
        needed_for: What the user asked for, as the subject of the error.

    Raises:
        ImportError: If it is not installed; the message names the command that installs it.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise ImportError(
            f"{needed_for} needs the package {package} ({error}). Install it with: pip install {package}"
        ) from error
