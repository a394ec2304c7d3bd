"""Curves over epochs as a scene."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from gradnas.report.drawing.scene import Box, Command, Group, Item, Label, Path, Scene, line, text_width

_WIDTH, _HEIGHT = 460.0, 262.0
_LEFT, _RIGHT, _TOP, _BOTTOM = 52.0, 14.0, 58.0, 34.0
_MOST_DOTS = 40  # points up to which each one is marked

Scale = Callable[[float], float]


@dataclass(frozen=True, kw_only=True)
class Series:
    """One curve: name, color role and (epoch, value) in order; None and what is not finite leave a gap."""

    name: str
    color: str
    points: tuple[tuple[float, float | None], ...]

    def finite(self) -> list[tuple[float, float]]:
        """The points that can be drawn."""
        return [(x, y) for x, y in self.points if y is not None and math.isfinite(y)]


def line_chart(
    series: Sequence[Series],
    *,
    title: str,
    unit: str = "",
    bound: tuple[float, str] | None = None,
    zero: bool = False,
    whole: bool = False,
) -> Scene | None:
    """The curves with their last values in the legend; None when no point can be drawn.

    Args:
        series: Curves over the same epochs.
        title: Heading.
        unit: Unit of the values, written after each.
        bound: A value to mark by a dashed line, and its words.
        zero: The axis starts at zero.
        whole: The values are counts.
    """
    drawn = [curve for curve in series if curve.finite()]
    if not drawn:
        return None
    xs = [x for curve in drawn for x, _ in curve.finite()]
    ys = [y for curve in drawn for _, y in curve.finite()]
    ys += ([bound[0]] if bound else []) + ([0.0] if zero else [])
    y_ticks = ticks(min(ys), max(ys), 5, whole=whole)
    x_low, x_high = min(xs), max(xs)
    x_ticks = [t for t in ticks(x_low, x_high, 6, whole=True) if x_low <= t <= x_high]
    y_low, y_high = y_ticks[0], y_ticks[-1]

    def px(x: float) -> float:
        share = (x - x_low) / (x_high - x_low) if x_high > x_low else 0.5
        return _LEFT + share * (_WIDTH - _LEFT - _RIGHT)

    def py(y: float) -> float:
        return _HEIGHT - _BOTTOM - (y - y_low) / (y_high - y_low) * (_HEIGHT - _TOP - _BOTTOM)

    items: list[Item] = [Box(x=0, y=0, width=_WIDTH, height=_HEIGHT, fill="paper")]
    items.append(Label(x=12, y=16, text=title, size=13, bold=True))
    for tick in y_ticks:
        items.append(line((_LEFT, py(tick)), (_WIDTH - _RIGHT, py(tick)), stroke="faint", width=1))
        items.append(Label(x=_LEFT - 7, y=py(tick), text=tick_text(tick, y_ticks), size=11, fill="muted", anchor="end"))
    for tick in x_ticks:
        items.append(line((px(tick), py(y_low)), (px(tick), py(y_low) + 4), stroke="wire", width=1))
        items.append(Label(x=px(tick), y=py(y_low) + 13, text=f"{tick:g}", size=11, fill="muted", anchor="middle"))
    items.append(Label(x=_WIDTH - _RIGHT, y=_HEIGHT - 7, text="epoch", size=11, fill="muted", anchor="end"))
    if bound is not None:
        items.append(
            line((_LEFT, py(bound[0])), (_WIDTH - _RIGHT, py(bound[0])), stroke="muted", width=1.2, dashed=True)
        )
        items.append(Label(x=_WIDTH - _RIGHT, y=py(bound[0]) + 10, text=bound[1], size=11, fill="muted", anchor="end"))
    x = 12.0
    for curve in drawn:
        last = f"{curve.name} {value_text(curve.finite()[-1][1])}{unit}"
        items.append(line((x, 37), (x + 16, 37), stroke=curve.color, width=2.5))
        items.append(Label(x=x + 22, y=37, text=last, size=11.5))
        x += 22 + text_width(last, 11.5) + 14
        items.append(_curve(curve, px, py, unit))
    names = ", ".join(f"{c.name} ends at {value_text(c.finite()[-1][1])}{unit}" for c in drawn)
    return Scene(width=max(_WIDTH, x), height=_HEIGHT, items=tuple(items), title=f"{title}: {names}")


def _curve(curve: Series, px: Scale, py: Scale, unit: str) -> Group:
    commands: list[Command] = []
    dots: list[Item] = []
    pen_down = False
    few = len(curve.points) <= _MOST_DOTS
    for x, y in curve.points:
        if y is None or not math.isfinite(y):
            pen_down = False
            continue
        commands.append(("L" if pen_down else "M", (px(x), py(y))))
        pen_down = True
        if few:
            dot = Box(x=px(x) - 2.2, y=py(y) - 2.2, width=4.4, height=4.4, radius=2.2, fill=curve.color)
            words = f"{curve.name}, epoch {x:g}: {value_text(y)}{unit}"
            dots.append(Group(items=(dot,), kind="dot", title=words))
    path = Path(commands=tuple(commands), stroke=curve.color, line=2)
    return Group(items=(path, *dots), kind="curve", data=(("name", curve.name), ("points", str(len(commands)))))


def ticks(low: float, high: float, count: int, *, whole: bool = False) -> list[float]:
    """About ``count`` round numbers whose first is at most ``low`` and whose last is at least ``high``."""
    if high <= low:
        pad = abs(low) * 0.05 or 1.0
        low, high = (low - pad, high + pad) if not whole else (low, low + 1)
    rough = (high - low) / max(1, count - 1)
    size = 10.0 ** math.floor(math.log10(rough))
    step = next(size * factor for factor in (1, 2, 2.5, 5, 10) if size * factor >= rough * 0.9)
    step = max(1.0, float(math.ceil(step))) if whole else step
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [i * step for i in range(first, last + 1)]


def value_text(value: float) -> str:
    """A value with about four digits."""
    if abs(value) < 1000 and value == round(value):
        return f"{value:.0f}"
    return f"{value:.2f}" if 10 <= abs(value) < 1000 else f"{value:.3f}" if 0.01 <= abs(value) < 10 else f"{value:.3g}"


def tick_text(tick: float, all_ticks: Sequence[float]) -> str:
    """A tick with the decimals that the step between the ticks needs."""
    step = all_ticks[1] - all_ticks[0]
    if max(map(abs, all_ticks)) >= 1e6 or step < 1e-4:
        return f"{tick:.2g}"
    decimals = max(0, -math.floor(math.log10(step) + 1e-9))
    if step * 10**decimals % 1 > 1e-6:  # a step of 0.25 needs one digit more
        decimals += 1
    return f"{tick:.{decimals}f}"
