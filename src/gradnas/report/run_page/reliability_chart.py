"""The reliability of a network: its accuracy where it is so sure, and how often it is so sure.

Source: Guo et al., On Calibration of Modern Neural Networks (ICML 2017), figure 1.
"""

from gradnas.report.drawing.scene import Box, Group, Item, Label, Scene, line, text_width
from gradnas.report.records.calibration import Calibration, ConfidenceBin
from gradnas.report.records.quantities import percent

_WIDTH, _HEIGHT = 460.0, 400.0
_LEFT, _RIGHT, _TOP, _BOTTOM = 52.0, 14.0, 62.0, 40.0
_COUNTS = 46.0  # height of the bars of counts
_GAP = 24.0  # between both
_TICKS = (0, 20, 40, 60, 80, 100)
_MARGIN = 1.5  # of a bar, at each side


def reliability_chart(calibration: Calibration) -> Scene | None:
    """Accuracy by confidence above, counts below; None where no bin has an image.

    Each bin is a group of class ``bin`` with ``data-low``.
    """
    largest = max((each.count for each in calibration.bins), default=0.0)
    if not largest:
        return None
    items: list[Item] = [Box(x=0, y=0, width=_WIDTH, height=_HEIGHT, fill="paper")]
    items += _frame()
    items += [_group(each, largest) for each in calibration.bins if each.count]
    items.append(line((_x(0), _y(0)), (_x(100), _y(100)), stroke="muted", width=1.2, dashed=True))
    error = "" if calibration.error is None else f": calibration error {calibration.error:.2f} points"
    return Scene(width=_WIDTH, height=_HEIGHT, items=tuple(items), title=f"Accuracy against confidence{error}")


def _x(confidence: float) -> float:
    return _LEFT + confidence / 100 * (_WIDTH - _LEFT - _RIGHT)


def _floor() -> float:
    """Where accuracy is 0."""
    return _HEIGHT - _BOTTOM - _COUNTS - _GAP


def _y(accuracy: float) -> float:
    return _floor() - accuracy / 100 * (_floor() - _TOP)


def _frame() -> list[Item]:
    items: list[Item] = [Label(x=12, y=16, text="Accuracy against confidence", size=13, bold=True)]
    x = 12.0
    for color, words in (("first", "accuracy, %"), ("mark", "mean confidence, where accuracy should be")):
        items.append(line((x, 40), (x + 16, 40), stroke=color, width=3))
        items.append(Label(x=x + 22, y=40, text=words, size=11, fill="muted"))
        x += 22 + text_width(words, 11) + 16
    for tick in _TICKS:
        y = _y(tick)
        items.append(line((_LEFT, y), (_WIDTH - _RIGHT, y), stroke="faint", width=1))
        items.append(Label(x=_LEFT - 7, y=y, text=str(tick), size=11, fill="muted", anchor="end"))
        bottom = _HEIGHT - _BOTTOM
        items.append(Label(x=_x(tick), y=bottom + 13, text=str(tick), size=11, fill="muted", anchor="middle"))
    bottom = _HEIGHT - _BOTTOM
    items.append(line((_LEFT, bottom), (_WIDTH - _RIGHT, bottom), stroke="wire", width=1))
    items.append(Label(x=_LEFT, y=bottom - _COUNTS - 8, text="how many images", size=11, fill="muted"))
    words = "probability that the network gives its answer, %"
    items.append(Label(x=_WIDTH - _RIGHT, y=_HEIGHT - 9, text=words, size=11, fill="muted", anchor="end"))
    return items


def _group(found: ConfidenceBin, largest: float) -> Group:
    left, width = _x(found.low) + _MARGIN, _x(found.high) - _x(found.low) - 2 * _MARGIN
    bottom = _HEIGHT - _BOTTOM
    tall = max(1.0, found.count / largest * _COUNTS)
    items: list[Item] = [Box(x=left, y=bottom - tall, width=width, height=tall, fill="wire")]
    said = f"{found.count:,.0f} image{'' if found.count == 1 else 's'} between {found.low:.0f} and {found.high:.0f} %"
    if found.accuracy is not None:
        y = _y(found.accuracy)
        items.append(Box(x=left, y=y, width=width, height=_floor() - y, fill="first", opacity=0.75))
        said += f", {percent(found.accuracy)} right"
    if found.confidence is not None:
        y = _y(found.confidence)
        items.append(line((left, y), (left + width, y), stroke="mark", width=3))
        said += f", mean confidence {percent(found.confidence)}"
    return Group(items=tuple(items), kind="bin", data=(("low", f"{found.low:g}"),), title=said)
