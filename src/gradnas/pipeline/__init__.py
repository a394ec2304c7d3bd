"""Phases strung together: the run folder, the search, the retraining, the whole run."""

from gradnas.pipeline.arch_trainer import ArchTrainer as ArchTrainer
from gradnas.pipeline.context import RunContext as RunContext
from gradnas.pipeline.darts_optimizer import DARTSOptimizer as DARTSOptimizer
from gradnas.pipeline.evaluater import EvalResult as EvalResult
from gradnas.pipeline.evaluater import Evaluater as Evaluater
from gradnas.pipeline.evaluater import load_weights as load_weights
from gradnas.pipeline.experiment import Experiment as Experiment
from gradnas.pipeline.experiment import dataset_conf as dataset_conf
from gradnas.pipeline.experiment import load_source as load_source
from gradnas.pipeline.experiment import prepare as prepare
from gradnas.pipeline.experiment import resolve_device as resolve_device
from gradnas.pipeline.experiment import with_augmentation as with_augmentation
from gradnas.pipeline.experiment_runner import ExperimentRunner as ExperimentRunner
from gradnas.pipeline.named import BilevelArchTrainer as BilevelArchTrainer
from gradnas.pipeline.named import DartsExperimentRunner as DartsExperimentRunner
from gradnas.pipeline.named import DidartsArchTrainer as DidartsArchTrainer
from gradnas.pipeline.named import DidartsExperimentRunner as DidartsExperimentRunner
from gradnas.pipeline.progress import progress_listener as progress_listener
from gradnas.pipeline.random_searcher import RandomSearcher as RandomSearcher
from gradnas.pipeline.refusals import refuse_early as refuse_early
from gradnas.pipeline.run_folder import RunFolder as RunFolder
from gradnas.pipeline.searcher import Searcher as Searcher
from gradnas.pipeline.searcher import SearchResult as SearchResult
from gradnas.pipeline.xnas import XnasArchTrainer as XnasArchTrainer
from gradnas.pipeline.xnas import XnasExperimentRunner as XnasExperimentRunner
from gradnas.pipeline.xnas import XnasModelDescBuilder as XnasModelDescBuilder
