"""The experts in plain words: how many are left, and whether the bound of the rewards was a good one."""

from gradnas.report.records.expert_history import ExpertHistory
from gradnas.report.records.run_log import Forecast, MixtureRecord

BOUND_HITS_WARNING = 0.1
"""Share of rewards at their bound above which the page doubts the bound."""

LATE = 0.9
"""Share of the epochs after which a first fall comes too late to matter."""

_FEWEST_EPOCHS = 10  # below, the last epoch is too large a part of the search to call a fall in it late


def expert_story(mixtures: tuple[MixtureRecord, ...], histories: tuple[ExpertHistory, ...]) -> tuple[str, ...]:
    """A paragraph per cell type: one sentence, and remarks where the bound seems too small or too loose."""
    forecasts = mixtures[-1].forecasts if mixtures else {}
    told = ((history, forecasts.get(history.kind)) for history in histories)
    return tuple(" ".join([f"{_course(*both)}.", *_remarks(*both)]) for both in told)


def _course(history: ExpertHistory, forecast: Forecast | None) -> str:
    counts = [history.count(-1, edge) for edge in range(len(history.edges))]
    alone = sum(count == 1 for count in counts)
    words = f"In the {history.kind} cell {sum(counts)} of {len(history.ops) * len(counts)} experts are left"
    if alone:
        words += f", a single one on {alone} of {len(counts)} edges" if alone < len(counts) else ", one on every edge"
    if forecast is None:
        return words
    if forecast.rounds is not None:
        played, total = (f"{n:,.0f}" if n < 1e12 else f"{n:.3g}" for n in forecast.rounds)
        words += f", after round {played} of {total}"
        words += f" at η = {forecast.eta:.3g}" if forecast.eta is not None else ""
    if forecast.bound_hits is not None:
        words += f"; {_share(forecast.bound_hits)} hit the bound"
    return words


def _remarks(history: ExpertHistory, forecast: Forecast | None) -> list[str]:
    if forecast is None:
        return []
    remarks = []
    if forecast.bound_hits is not None and forecast.bound_hits > BOUND_HITS_WARNING:
        remarks.append(
            f"That is more than {100 * BOUND_HITS_WARNING:.0f} %: the bound is too small for these rewards, what "
            "exceeds it is not counted, and the best expert may have been hurt."
        )
    if forecast.rounds is not None and forecast.rounds[0] >= forecast.rounds[1]:
        fall = history.first_fall()
        if fall is None:
            remarks.append(
                "None of them has fallen although all rounds were played: the bound is too loose, and the wipe-out was "
                "inert, unless it was switched off."
            )
        elif len(history.epochs) >= _FEWEST_EPOCHS and fall >= LATE * len(history.epochs):
            remarks.append(
                f"None of them fell before epoch {history.epochs[fall]}: the bound is loose compared with the "
                "differences between the experts, and the wipe-out hardly mattered."
            )
    return remarks


def _share(share: float) -> str:
    if share == 0:
        return "none of the rewards"
    return f"{'less than 0.1' if share < 0.0005 else f'{100 * share:.1f}'} % of the rewards"
