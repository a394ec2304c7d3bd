"""What the tables of accuracies share: runs side by side, mean and spread over seeds, the error of a test set."""

import math
import multiprocessing
import os
import statistics
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from typing import Any

Z_95 = 1.959964


def side_by_side(run: Callable[..., Any], calls: Sequence[tuple[Any, ...]], jobs: int) -> Iterator[Any]:
    """What each call gives, in order; so many at a time, each in a process of its own with one thread."""
    os.environ["OMP_NUM_THREADS"] = "1"  # read by the processes that are started below
    fresh = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(jobs, mp_context=fresh, max_tasks_per_child=1) as pool:
        futures = [pool.submit(run, *call) for call in calls]
        for future in futures:
            yield future.result()


def mean_and_deviation(values: Sequence[float]) -> str:
    """Mean ± standard deviation, two decimals; of one value the value."""
    deviation = f" ± {statistics.stdev(values):.2f}" if len(values) > 1 else ""
    return f"{statistics.mean(values):.2f}{deviation}"


def each(values: Iterable[float]) -> str:
    """Values in a row, one decimal."""
    return ", ".join(f"{value:.1f}" for value in values)


def sampling_error(accuracies: Iterable[float], n_test: int) -> float:
    """Half of the 95 % interval of one accuracy in percent on so many test images, mean over the accuracies."""
    shares = [accuracy / 100 for accuracy in accuracies]
    return 100 * Z_95 * statistics.mean(math.sqrt(p * (1 - p) / n_test) for p in shares)
