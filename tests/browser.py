"""A Chromium of this machine, to see pages as their readers do.

Tests get it as the fixture ``browser``, which skips them where there is none, and fails where the environment has
``GRADNAS_NEEDS_BROWSER``, as .ci/run sets it once it has found one:

    def test_page(browser, run):
        visit = browser.open(write_report(run), width=390, dark=True)
        assert visit.page.locator("h1").inner_text() == "…"
        visit.check_quiet()

``visit.page`` is a page of Playwright for Python; the visit also holds what the page did besides showing itself.

As a program it prints the path of that Chromium; the exit code is 1 where there is none.
"""

import os
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

REQUIRED = "GRADNAS_NEEDS_BROWSER"
"""Set in the environment where tests in a browser must not be skipped."""

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
_ARGUMENTS = ("--no-sandbox", "--disable-dev-shm-usage", "--disable-gpu", "--hide-scrollbars")


def find_chromium() -> str | None:
    """The program that ``CHROMIUM`` names, else the first known one on the path; None when there is none.

    Raises:
        FileNotFoundError: When ``CHROMIUM`` names something that is no program.
    """
    wanted = os.environ.get("CHROMIUM")
    if not wanted:
        return next((path for name in NAMES if (path := shutil.which(name))), None)
    found = shutil.which(wanted)
    if found is None:
        raise FileNotFoundError(f"CHROMIUM is {wanted!r}, which is no program. Name one, or leave it unset.")
    return found


def why_not() -> str | None:
    """Why no browser can be used here; None when one can.

    Raises:
        FileNotFoundError: When ``CHROMIUM`` names something that is no program.
        RuntimeError: When no browser can be used although ``GRADNAS_NEEDS_BROWSER`` is set.
    """
    reason = None
    try:
        import playwright  # noqa: F401 - only whether it is there
    except ImportError:
        reason = "Playwright for Python is missing: pip install playwright (no browser need be downloaded)"
    if find_chromium() is None:
        reason = f"no Chromium: set CHROMIUM to one, or install one of {', '.join(NAMES)}"
    if reason is not None and os.environ.get(REQUIRED):
        raise RuntimeError(f"{REQUIRED} is set, but {reason}")
    return reason


@dataclass
class Visit:
    """A page that is open, and what it has done so far.

    Args:
        page: The page of Playwright.
        width: Of its window, in CSS pixels.
        console: Messages on the console, with their kind.
        errors: Errors that no script caught.
        requests: Addresses that were asked for, but for the page itself.
        dialogs: Texts of dialogs; each is dismissed.
    """

    page: Any
    width: int
    console: list[str] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)
    dialogs: list[str] = field(default_factory=list)

    def check_quiet(self) -> None:
        """Fail when the page said, asked for or complained about anything."""
        assert self.console == []
        assert self.errors == []
        assert self.requests == []
        assert self.dialogs == []

    def check_fits(self) -> None:
        """Fail when the page is wider than its window, and say what sticks out."""
        # Not against innerWidth: a phone zooms out until a page that is too wide fits.
        wide = self.page.evaluate(
            """width => document.documentElement.scrollWidth <= width ? [] :
               [...document.querySelectorAll('body *')]
                 .filter(e => e.getBoundingClientRect().right > width + .5 && !e.closest('.scroll > *'))
                 .map(e => `${e.tagName}.${e.getAttribute('class')}`).slice(0, 9)""",
            self.width,
        )
        assert wide == []
        assert self.page.evaluate("document.documentElement.scrollWidth") <= self.width

    def contrast(self, selector: str) -> float:
        """Contrast of the text of the first such element against what is painted behind it, 1 to 21 (WCAG 2.2)."""
        front, behind = self.page.locator(selector).first.evaluate(
            """e => { let b = e;
                 const clear = e => /rgba\\(.*, 0\\)|transparent/.test(getComputedStyle(e).backgroundColor);
                 while (b && clear(b)) b = b.parentElement;
                 const numbers = text => text.match(/[\\d.]+/g).slice(0, 3).map(Number);
                 return [numbers(getComputedStyle(e).color),
                         b ? numbers(getComputedStyle(b).backgroundColor) : [255, 255, 255]]; }"""
        )
        high, low = sorted((_luminance(front), _luminance(behind)), reverse=True)
        return (high + 0.05) / (low + 0.05)


def _luminance(rgb: list[float]) -> float:
    linear = [c / 255 / 12.92 if c / 255 <= 0.04045 else ((c / 255 + 0.055) / 1.055) ** 2.4 for c in rgb]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


class Browser:
    """A running Chromium; :func:`running_browser` starts and ends it."""

    def __init__(self, chromium: Any) -> None:
        self._chromium = chromium
        self._contexts: list[Any] = []

    def open(
        self,
        path: str | os.PathLike[str],
        *,
        width: int = 1280,
        height: int = 900,
        dark: bool = False,
        media: Literal["screen", "print"] = "screen",
        javascript: bool = True,
        touch: bool = False,
        fragment: str = "",
    ) -> Visit:
        """Open a file in a window of its own.

        Args:
            path: The page.
            width: Of the window, in CSS pixels.
            height: Of the window, in CSS pixels.
            dark: The reader prefers dark screens.
            media: Shown on a screen, or as it is printed.
            javascript: Whether scripts may run.
            touch: The window is that of a phone: touch screen and mobile layout.
            fragment: Part of the page to jump to, without ``#``.
        """
        context = self._chromium.new_context(
            viewport={"width": width, "height": height},
            color_scheme="dark" if dark else "light",
            java_script_enabled=javascript,
            has_touch=touch,
            is_mobile=touch,
        )
        self._contexts.append(context)
        page = context.new_page()
        page.emulate_media(media=media, color_scheme="dark" if dark else "light")
        address = Path(path).resolve().as_uri()
        visit = Visit(page, width)
        page.on("console", lambda message: visit.console.append(f"{message.type}: {message.text}"))
        page.on("pageerror", lambda error: visit.errors.append(str(error)))
        page.on("dialog", lambda dialog: (visit.dialogs.append(dialog.message), dialog.dismiss()))
        page.on("request", lambda r: visit.requests.append(r.url) if r.url.partition("#")[0] != address else None)
        page.goto(f"{address}#{fragment}" if fragment else address)
        return visit

    def close_pages(self) -> None:
        """Close every window."""
        while self._contexts:
            self._contexts.pop().close()


@contextmanager
def running_browser() -> Iterator[Browser]:
    """A browser for the time of the block; call it only where :func:`why_not` finds no reason."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=find_chromium(), args=list(_ARGUMENTS))
        try:
            yield Browser(chromium)
        finally:
            chromium.close()


if __name__ == "__main__":
    try:
        path = find_chromium()
    except FileNotFoundError as error:
        sys.exit(str(error))
    if path is None:
        sys.exit(f"no Chromium: none of {', '.join(NAMES)}")
    sys.stdout.write(f"{path}\n")
