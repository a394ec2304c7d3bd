"""The points that no other one beats in both of two goals."""

import math
from collections.abc import Sequence


def pareto_front(points: Sequence[tuple[float | None, float | None]], *, duplicates: bool = True) -> tuple[int, ...]:
    """The indices of the points on the Pareto front, by rising cost and then in the order given.

    A point is beaten when another costs no more and gains no less, and one of the two is strictly better. Points that
    are equal do not beat each other: all of them are on the front, or none is, unless duplicates are left out.

    Args:
        points: (cost, gain) each: the cost should be small, the gain large. A point with a coordinate that is None or
            not finite is left out.
        duplicates: Whether all points that are equal to one on the front are on it; False leaves the first alone.
    """
    known = [
        (cost, gain, index)
        for index, (cost, gain) in enumerate(points)
        if cost is not None and gain is not None and math.isfinite(cost) and math.isfinite(gain)
    ]
    front: list[int] = []
    best, best_cost = -math.inf, math.nan
    for cost, gain, index in sorted(known, key=lambda point: (point[0], -point[1], point[2])):
        if gain > best or (duplicates and gain == best and cost == best_cost):
            best, best_cost = gain, cost
            front.append(index)
    return tuple(front)
