"""The strategy of ``docs/extending.md`` under the suite, as the page says it is."""

import importlib.util
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

from gradnas.strategies import MetaOptimizer
from gradnas.testing import StrategyTests

PAGE = Path(__file__).parents[2] / "docs" / "extending.md"


@pytest.fixture(scope="module", autouse=True)
def page(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ModuleType]:
    """The first block of the page as a module that can be imported."""
    blocks = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    path = tmp_path_factory.mktemp("page") / "page_extending.py"
    path.write_text(blocks[0], encoding="utf-8")
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[path.stem] = module
    spec.loader.exec_module(module)
    yield module
    del sys.modules[path.stem]


class TestAnnealed(StrategyTests):
    def strategy(self) -> MetaOptimizer:
        strategy: MetaOptimizer = sys.modules["page_extending"].Annealed()
        return strategy

    def quick_strategy(self) -> MetaOptimizer:
        strategy: MetaOptimizer = sys.modules["page_extending"].Annealed(lr=0.1)
        return strategy
