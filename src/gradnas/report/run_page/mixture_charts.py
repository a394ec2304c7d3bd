"""What was recorded of the mixing weights as a whole, over the epochs."""

import math

from gradnas.report.drawing.line_chart import Series, line_chart
from gradnas.report.drawing.scene import Scene
from gradnas.report.records.run_log import MixtureRecord


def entropy_chart(mixtures: tuple[MixtureRecord, ...]) -> Scene | None:
    """Mean entropy over the epochs under its bound, ln(number of candidates)."""
    by_epoch = {record.epoch: record.entropy for record in mixtures}
    n_ops = max((len(cell.ops) for record in mixtures for cell in record.cells.values()), default=0)
    bound = (math.log(n_ops), f"undecided: ln {n_ops} = {math.log(n_ops):.2f}") if n_ops > 1 else None
    points = tuple(sorted(by_epoch.items()))
    series = Series(name="mean entropy", color="first", points=points)
    return line_chart([series], title="Entropy of the mixing weights", unit=" nats", bound=bound, zero=True)


def skips_chart(mixtures: tuple[MixtureRecord, ...]) -> Scene | None:
    """Skip connections that the regular cell would hold if the search ended after each epoch."""
    points = tuple(sorted({record.epoch: record.skips for record in mixtures}.items()))
    series = Series(name="skips", color="third", points=points)
    return line_chart([series], title="Skip connections in the would-be regular cell", zero=True, whole=True)


def drop_chart(mixtures: tuple[MixtureRecord, ...]) -> Scene | None:
    """What discretization would cost after each epoch, in points of validation accuracy."""
    points = tuple(sorted({record.epoch: record.drop for record in mixtures}.items()))
    series = Series(name="loss", color="second", points=points)
    return line_chart([series], title="Accuracy lost by discretization", unit=" points", zero=True)


def eigenvalue_chart(mixtures: tuple[MixtureRecord, ...]) -> Scene | None:
    """The dominant Hessian eigenvalue over the epochs."""
    points = tuple(sorted({record.epoch: record.eigenvalue for record in mixtures}.items()))
    series = Series(name="eigenvalue", color="first", points=points)
    return line_chart([series], title="Dominant Hessian eigenvalue of the validation loss", zero=True)
