"""What makes the search of a run: one search, a random one, or one at every size of a grid."""

from typing import Protocol

from gradnas.config import GridConf, SearchConf
from gradnas.finalizers import Finalizers
from gradnas.pipeline.arch_trainer import ArchTrainer
from gradnas.pipeline.context import RunContext
from gradnas.pipeline.random_searcher import RandomSearcher
from gradnas.pipeline.search_combinations import SearchCombinations
from gradnas.pipeline.searcher import Searcher, SearchResult
from gradnas.spaces import ModelDescBuilder
from gradnas.strategies import RandomSearch, Strategy


class Searching(Protocol):
    """Finds an architecture and saves it as ``arch.json``."""

    def search(
        self,
        conf_search: SearchConf,
        model_desc_builder: ModelDescBuilder,
        trainer_class: type[ArchTrainer] | None,
        finalizers: Finalizers,
    ) -> SearchResult:
        """Search.

        Args:
            conf_search: Settings of the search.
            model_desc_builder: The space.
            trainer_class: Trains supergraphs; None where there is nothing to train.
            finalizers: Makes the discrete description.
        """
        ...


def searcher_for(context: RunContext, strategy: Strategy, grid: GridConf) -> Searching:
    """The search of a strategy, at the size of the space or at those of a grid."""
    if grid.enabled:
        return SearchCombinations(context, strategy, grid)
    if isinstance(strategy, RandomSearch):
        return RandomSearcher(context, strategy)
    return Searcher(context, strategy)
