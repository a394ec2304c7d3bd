"""The most memory that a piece of work has held, measured while it runs."""

import os
from pathlib import Path

import torch

_KIB = 1024
_RESET_PEAK = "5"  # proc_pid_clear_refs(5): begin the peak of the resident memory anew


class PeakMemory:
    """From when it is made, the most memory in use at once.

    On a GPU it is that of torch's tensors, on a CPU the resident memory of the whole process, which Linux alone can
    measure from a moment on; elsewhere it is not known. Of two that overlap on one device only the later one is right.

    Args:
        device: The device that does the work.
        root: Where ``proc`` is found.
    """

    def __init__(self, device: torch.device | str, *, root: Path = Path("/")) -> None:
        self._device, self._process = torch.device(device), root / "proc/self"
        self._known = self._device.type in ("cuda", "cpu")
        if self._device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(self._device)
        elif self._known:
            self._known = self._reset()

    def _reset(self) -> bool:
        try:
            handle = os.open(self._process / "clear_refs", os.O_WRONLY)
        except OSError:  # another system, or a container that forbids it
            return False
        try:
            os.write(handle, _RESET_PEAK.encode())
        except OSError:
            return False
        finally:
            os.close(handle)
        return True

    def read_bytes(self) -> int | None:
        """The peak so far in bytes; None where it is not known."""
        if not self._known:
            return None
        if self._device.type == "cuda":
            return torch.cuda.max_memory_allocated(self._device)
        try:
            lines = (self._process / "status").read_text(encoding="utf-8", errors="replace").splitlines()
        except OSError:
            return None
        fields = [line.split() for line in lines if line.startswith("VmHWM:")]
        peak = fields[0][1] if fields and len(fields[0]) > 1 else ""
        return int(peak) * _KIB if peak.isdigit() else None
