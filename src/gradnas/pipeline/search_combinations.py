"""The search of a macro grid: every combination searched, its finding briefly trained and measured, the best kept."""

import copy
import logging
from collections.abc import Sequence
from dataclasses import asdict, fields, replace
from typing import Any

from gradnas.arch import ModelDesc
from gradnas.config import GridConf, SearchConf, describe_strategy
from gradnas.costs import PeakMemory, count_macs, count_params
from gradnas.finalizers import Finalizers
from gradnas.foundation.files import write_atomic
from gradnas.pipeline.arch_trainer import ArchTrainer
from gradnas.pipeline.context import RunContext
from gradnas.pipeline.diagnostics import genotype_text
from gradnas.pipeline.grid_plan import plan_combinations
from gradnas.pipeline.grid_table import GridRow, best_row, front_rows, front_text, table_text
from gradnas.pipeline.random_searcher import RandomSearcher
from gradnas.pipeline.run_folder import METRICS, RunFolder
from gradnas.pipeline.searcher import ModelMetrics, Searcher, SearchResult
from gradnas.report.records.combination import GRID_FILE, Combination, combination_of_phase
from gradnas.spaces import ModelDescBuilder
from gradnas.strategies import MetaOptimizer, RandomSearch, Strategy
from gradnas.training import WATCHING, Metrics

_LOG = logging.getLogger(__name__)

TABLE, FRONT, PLOT = "grid.tsv", "pareto.tsv", "pareto.svg"
METRICS_FILE = "metrics.json"  # in the folder of a combination


class SearchCombinations:
    """Searches at every combination of reductions × cells × nodes, and keeps the best.

    For each in turn: the supergraph is built and searched, what was found is trained briefly with its weights of the
    search as initial ones, and measured. By the best validation accuracy of that training one is chosen, of equal ones
    the one with fewer multiply-adds. A row of ``grid.tsv`` and the files of its folder ``metrics/<reductions>/<cells>/
    <nodes>/`` tell of each; ``pareto.tsv`` and ``pareto.svg`` have those that no other one beats in error and
    multiply-adds. An interrupted grid goes on within the combination that it was at.

    Args:
        context: Data, seed, device, folder, listener.
        strategy: Of each search, each time as if it were the first; a random search draws its members at each size.
            None leaves it to the trainer class.
        grid: The largest numbers, and the epochs of the brief trainings. Without a largest number there is one
            combination, that of the space.
    """

    def __init__(self, context: RunContext, strategy: Strategy | None, grid: GridConf) -> None:
        self.context, self.strategy, self.grid = context, strategy, grid
        self.rows: list[GridRow] = []
        """Those of the complete combinations, in order."""
        self._combinations: tuple[Combination, ...] = ()
        self._skipped: tuple[dict[str, Any], ...] = ()
        self._settings: dict[str, str] = {}

    def search(
        self,
        conf_search: SearchConf,
        model_desc_builder: ModelDescBuilder,
        trainer_class: type[ArchTrainer] | None,
        finalizers: Finalizers,
    ) -> SearchResult:
        """Search every combination, or go on with those that are left, and save the best as ``arch.json``.

        When time is up before a combination is complete, the best of the complete ones is the result; the first one
        gives what it has reached.

        Args:
            conf_search: Settings of each search, and but for the epochs of each brief training.
            model_desc_builder: The space; its own sizes are the smallest.
            trainer_class: Trains the supergraphs; None where there is nothing to train.
            finalizers: Makes the discrete descriptions.

        Returns:
            The best description, and the metrics of its search and of its brief training.

        Raises:
            ValueError: When no combination can be built, there are no validation data to compare by, or another grid
                was begun in the folder.
        """
        combinations = self._plan(conf_search, model_desc_builder)
        begin, best = self.restore_checkpoint(conf_search, combinations)
        for i in range(begin, len(combinations)):
            if best is not None and not self.context.may_begin(combinations[i].phase):
                break
            result, complete = self._search_one(
                *(conf_search, model_desc_builder, combinations[i], trainer_class, finalizers), first=best is None
            )
            if not complete:
                best = result if best is None else best
                break
            best = result if best is None or best_row(self.rows) == i else best
            self.record_checkpoint(i, best)
        assert best is not None
        self._write_front()
        return Searcher(self.context).clean_log_result(conf_search, best)

    def _plan(self, conf_search: SearchConf, builder: ModelDescBuilder) -> tuple[Combination, ...]:
        """The combinations that can be built. ValueError for none, and without validation data."""
        planned = plan_combinations(builder, self.grid, conf_search, self.strategy)
        if self.context.val_set is None and conf_search.val_ratio == 0:
            raise ValueError(
                "combinations are compared on validation data, but there is none. Set val_ratio above 0 or give a "
                "validation set."
            )
        skipped = [each for each in planned if each.reason is not None]
        for each in skipped:
            _LOG.info("skipped %s: %s.", each.combination, each.reason)  # the result says it too
        self._skipped = tuple({**asdict(each.combination), "reason": each.reason} for each in skipped)
        return tuple(each.combination for each in planned if each.reason is None)

    def _search_one(
        self,
        conf_search: SearchConf,
        builder: ModelDescBuilder,
        combination: Combination,
        trainer_class: type[ArchTrainer] | None,
        finalizers: Finalizers,
        *,
        first: bool,
    ) -> tuple[SearchResult, bool]:
        """What a combination gives, and whether it is complete, which time may have prevented; then its row is written.

        What is found in a search that was cut short is not trained: more time would find another network, which could
        not go on with that training.
        """
        peak = PeakMemory(self.context.device)
        found = self._find(conf_search, builder, combination, trainer_class, finalizers)
        assert found.model_desc is not None
        if self._cut_short(combination) or not (first or self.context.may_begin(combination.train_phase)):
            return replace(found, model_desc=found.model_desc.clear_trainables(), train_metrics=None), False
        trainer = Searcher(self.context, phase=combination.train_phase)
        trainer.registry = builder.registry
        trained = trainer.train_model_desc(found.model_desc, conf_search.for_epochs(self.grid.epochs))
        assert trained is not None
        result = SearchResult(found.model_desc.clear_trainables(), found.search_metrics, trained.metrics)
        if self._cut_short(combination):
            return result, False
        self.save_trained(
            conf_search,
            combination.reductions,
            combination.cells,
            combination.nodes,
            trained,
            search_metrics=found.search_metrics,
            peak_memory_bytes=peak.read_bytes(),
        )
        return result, True

    def _find(
        self,
        conf_search: SearchConf,
        builder: ModelDescBuilder,
        combination: Combination,
        trainer_class: type[ArchTrainer] | None,
        finalizers: Finalizers,
    ) -> SearchResult:
        """What the search of a combination finds; its description may hold weights."""
        # a strategy is bound to the one supergraph that it has learnt on
        strategy = copy.deepcopy(self.strategy) if isinstance(self.strategy, MetaOptimizer) else None
        searcher = Searcher(self.context, strategy, phase=combination.phase, alphas=combination.alphas)
        searcher.registry = builder.registry
        desc = searcher.build_model_desc(
            builder, builder.settings, combination.reductions, combination.cells, combination.nodes
        )
        if isinstance(self.strategy, RandomSearch):
            return RandomSearcher(self.context, self.strategy, phase=combination.phase).find(conf_search, builder, desc)
        return SearchResult(*searcher.search_model_desc(conf_search, desc, trainer_class, finalizers), None)

    def _cut_short(self, combination: Combination) -> bool:
        """Whether the limit of time has ended a phase of a combination, or has kept it from beginning."""
        phases = [phase for phase, cut in self.context.stop.cut_short.items() if cut]
        return any(part is not None and part[0] == combination for part in map(combination_of_phase, phases))

    def restore_checkpoint(
        self, conf_search: SearchConf, macro_combinations: Sequence[Combination]
    ) -> tuple[int, SearchResult | None]:
        """Go on where the run folder stands.

        The table and the log of metrics are made to say what the checkpoint knows of the complete combinations.

        Args:
            conf_search: Settings of each search.
            macro_combinations: All combinations that can be built, in order.

        Returns:
            The first combination that is not complete, and the best result so far; 0 and None for a fresh start.

        Raises:
            ValueError: When the folder has another grid, or other settings of its searches, showing both; or when its
                checkpoint is damaged.
        """
        self._combinations = tuple(macro_combinations)
        self._settings = self._shaping(conf_search)
        self.rows = []
        folder = self.context.folder
        stored = folder.read_json(GRID_FILE) if folder is not None and self.context.resume else None
        if stored is None:
            self._write_table()
            self._store(0, None)
            return 0, None
        assert folder is not None
        theirs, ours = stored["combinations"], [asdict(each) for each in self._combinations]
        if theirs != ours:
            raise ValueError(
                f"{folder / GRID_FILE} is of another grid: {_listed(theirs)}, now {_listed(ours)}. Go on with that "
                "grid, or choose another folder."
            )
        different = [
            f"{name}: {stored['settings'].get(name)}, now {self._settings.get(name)}"
            for name in {**stored["settings"], **self._settings}
            if stored["settings"].get(name) != self._settings.get(name)
        ]
        if different:
            raise ValueError(
                f"{folder / GRID_FILE} is of searches with other settings ({'; '.join(different)}). Go on with those, "
                "or choose another folder."
            )
        self.rows = [GridRow.from_dict(row) for row in stored["rows"]]
        self._write_table()
        for combination in self._combinations[: stored["next"]]:
            self._restore_log(combination)
        self.context.stop.account_for(sum(row.seconds for row in self.rows))
        best = stored["best"]
        if best is None:
            return stored["next"], None
        search, train = best["search_metrics"], best["train_metrics"]
        result = SearchResult(
            ModelDesc.from_json(best["model_desc"]),
            None if search is None else Metrics.from_list(search),
            Metrics.from_list(train),
        )
        return stored["next"], result

    def record_checkpoint(self, macro_comb_i: int, best_result: SearchResult) -> None:
        """Store that a combination is complete, with the best result so far, in one step.

        Args:
            macro_comb_i: The number of the combination.
            best_result: Its description is stored without weights.
        """
        assert best_result.model_desc is not None and best_result.train_metrics is not None
        search = best_result.search_metrics
        best = {
            "row": best_row(self.rows),
            "model_desc": best_result.model_desc.clear_trainables().to_json(),
            "search_metrics": None if search is None else search.to_list(),
            "train_metrics": best_result.train_metrics.to_list(),
        }
        self._store(macro_comb_i + 1, best)

    def _store(self, following: int, best: dict[str, Any] | None) -> None:
        """Write how far the grid is: which combination comes next, and the best so far if there is one."""
        folder = self.context.folder
        if folder is None:
            return
        folder.write_json(
            GRID_FILE,
            {
                "combinations": [asdict(each) for each in self._combinations],
                "skipped": list(self._skipped),
                "settings": self._settings,
                "next": following,
                "rows": [row.to_dict() for row in self.rows],
                "front": list(front_rows(self.rows)),
                "best": best,
            },
        )

    def save_trained(
        self,
        conf_search: SearchConf,
        reductions: int,
        cells: int,
        nodes: int,
        model_metrics: ModelMetrics,
        *,
        search_metrics: Metrics | None = None,
        peak_memory_bytes: int | None = None,
    ) -> None:
        """Measure what a combination has given, write it into its folder, and add its row to the table.

        Args:
            conf_search: Settings of its search.
            reductions: Its cells that halve the map.
            cells: Its cells.
            nodes: Nodes of a cell.
            model_metrics: The trained network and the metrics of its training.
            search_metrics: Those of its search, whose time counts.
            peak_memory_bytes: The most memory that both have held, if known.
        """
        model, trained = model_metrics.model, model_metrics.metrics
        combination = Combination(reductions, cells, nodes)
        row = GridRow.of(
            combination,
            trained,
            macs=count_macs(model, self.context.data.train.shape),
            params=count_params(model),
            peak_memory_bytes=peak_memory_bytes,
            seconds=trained.seconds() + (0.0 if search_metrics is None else search_metrics.seconds()),
        )
        self.rows.append(row)
        folder = self.context.folder
        if folder is None:
            return
        own = folder / combination.folder
        own.mkdir(parents=True, exist_ok=True)
        desc = model.desc.clear_trainables()
        desc.save(own / "arch.json")
        statistics = {
            **row.to_dict(),
            "genotype": genotype_text(desc),
            "arch_hash": desc.hash(),
            "search_epochs": conf_search.epochs,
            "search": None if search_metrics is None else search_metrics.to_list(),
            "train": trained.to_list(),
        }
        folder.write_json(f"{combination.folder}/{METRICS_FILE}", statistics)
        self._write_table()

    def _shaping(self, conf_search: SearchConf) -> dict[str, str]:
        """What the rows of one table have in common, as texts."""
        shaping = {f.name: getattr(conf_search, f.name) for f in fields(conf_search) if f.name not in WATCHING}
        strategy = None if self.strategy is None else describe_strategy(self.strategy)
        more = {"strategy": strategy, "seed": self.context.seed, "grid.epochs": self.grid.epochs}
        return {name: repr(value) for name, value in {**shaping, **more}.items()}

    def _restore_log(self, combination: Combination) -> None:
        """Make ``metrics.jsonl`` say of a complete combination what its own file says; where that is lost, nothing."""
        folder = self.context.folder
        assert folder is not None
        try:
            stored = folder.read_json(f"{combination.folder}/{METRICS_FILE}")
        except ValueError:  # nothing depends on it
            return
        records = [] if stored is None else [*(stored["search"] or []), *stored["train"]]
        for phase in dict.fromkeys(record["phase"] for record in records):
            folder.restore(METRICS, phase, [record for record in records if record["phase"] == phase])

    def _write_table(self) -> None:
        if self.context.folder is not None:
            write_atomic(self.context.folder / TABLE, table_text(self.rows))

    def _write_front(self) -> None:
        folder = self.context.folder
        if folder is None or not self.rows:
            return
        from gradnas.report import draw_grid  # a search alone should not pay for importing it

        write_atomic(folder / FRONT, front_text(self.rows))
        draw_grid(folder.path, folder / PLOT)


def grid_facts(folder: RunFolder) -> dict[str, Any]:
    """What the summary of a run says of its grid.

    Returns:
        ``search_seconds``, the time of all phases of the grid, and ``grid``: how many ``combinations`` can be built,
        the ``rows`` of the complete ones, those that were ``skipped``, and the numbers of the rows on the ``front`` and
        of the ``best`` one, None before the first is complete.
    """
    stored = folder.read_json(GRID_FILE) or {}
    taken = (r["seconds"] for r in folder.read_lines(METRICS) if combination_of_phase(r["phase"]) is not None)
    grid = {
        "combinations": len(stored.get("combinations", [])),
        "rows": stored.get("rows", []),
        "skipped": stored.get("skipped", []),
        "front": stored.get("front", []),
        "best": (stored.get("best") or {}).get("row"),
    }
    return {"search_seconds": sum(taken), "grid": grid}


def _listed(combinations: Sequence[dict[str, int]]) -> str:
    """Combinations as ``reductions × cells × nodes``."""
    return ", ".join("×".join(str(number) for number in each.values()) for each in combinations)
