"""What a run would take, known before it runs: weights, multiply-adds, steps, memory, the largest batch that fits."""

import os
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from fractions import Fraction
from functools import cached_property
from pathlib import Path

import torch
from torch import nn

from gradnas.arch import ModelDesc, Shape
from gradnas.config import PhaseConf, RetrainConf, RunConf, SearchConf, build_model, build_strategy
from gradnas.costs import AvailableMemory, MemoryTracer, available_memory, count_macs, count_params
from gradnas.data import BatchPlan, DataFacts, DataSource, ImageSet, Normalization, published_facts
from gradnas.data.source import default_augmentation
from gradnas.foundation.seeds import seeded_initialization
from gradnas.pipeline.arch_trainer import ArchTrainer
from gradnas.pipeline.context import Network, RunContext
from gradnas.pipeline.evaluater import retrained_desc
from gradnas.pipeline.experiment import (
    Experiment,
    dataset_conf,
    load_source,
    make_finalizers,
    resolve_device,
    with_augmentation,
)
from gradnas.pipeline.given_architecture import given_desc
from gradnas.pipeline.grid_plan import plan_combinations
from gradnas.pipeline.manual_experiment import AnyExperiment, ManualExperiment, prepare_run
from gradnas.pipeline.memory_trial import CreateTrainer, PhaseMemory, measure_phase
from gradnas.pipeline.random_searcher import RandomSearcher
from gradnas.pipeline.refusals import refuse_early
from gradnas.pipeline.run_folder import RunFolder
from gradnas.spaces import with_changes
from gradnas.strategies import MetaOptimizer, RandomSearch
from gradnas.supergraph import Model
from gradnas.training import Trainer, steps_per_epoch

_CANDIDATES = 4  # random members looked at where the run draws none
# Bytes that must be there for each predicted one. On a CPU, malloc of glibc keeps up to four fifths more than it has
# given out (benchmarks/memory.py); on a GPU workspaces and fragmentation may take a fifth.
_HEADROOM, _HEADROOM_CPU = 1.2, 1.9

SUPERGRAPH, FOUND, GIVEN, MEMBER = "supergraph", "found network", "given network", "random member"


@dataclass(frozen=True, kw_only=True)
class PhasePlan:
    """What one phase takes.

    Args:
        phase: ``search``, ``retrain`` or ``baseline``.
        network: What was looked at: ``supergraph``, ``found network``, ``given network`` where the architecture is
            given, or, as a stand-in, ``random member``; the name of a model designed by hand.
        model: The same without memory, for counting.
        image_shape: (channels, height, width).
        epochs: Epochs of the phase; None where they follow from a search that has not run.
        steps_per_epoch: Training steps in each.
        batch_size: Samples per training batch.
        eval_batch_size: Samples per evaluation batch, of those there are; 0 where nothing is evaluated.
        n_train: Samples that train.
        memory: Its memory as a function of the batch sizes, data apart.
        data_bytes: Images that it holds where the run's memory is counted.
        available_bytes: Memory that it may take; None where unknown.
        options: The settings of the phase.
        device: Type of the device, such as ``cpu``.
    """

    phase: str
    network: str
    model: nn.Module
    image_shape: Shape
    epochs: int | None
    steps_per_epoch: int
    batch_size: int
    eval_batch_size: int
    n_train: int
    memory: PhaseMemory
    data_bytes: int
    available_bytes: int | None
    options: PhaseConf
    device: str

    @cached_property
    def params(self) -> int:
        """Parameters of the network."""
        return count_params(self.model)

    @cached_property
    def macs(self) -> int:
        """Its multiply-adds for one image."""
        return count_macs(self.model, self.image_shape)

    @cached_property
    def train_bytes(self) -> int:
        """Peak of a training step."""
        return self.memory.train_bytes(self.batch_size)

    @cached_property
    def eval_bytes(self) -> int:
        """Peak of an evaluation; 0 where nothing is evaluated."""
        return self.memory.evaluation.peak_bytes(self.eval_batch_size) if self.eval_batch_size else 0

    @property
    def checkpoint_bytes(self) -> int:
        """Peak while a checkpoint is made: on a CPU its bytes lie beside what they are of, up to twice."""
        return 3 * self.memory.held_bytes if self.device == "cpu" else 0

    @property
    def peak_bytes(self) -> int:
        """The most that the phase holds at once, its data included."""
        return self.data_bytes + max(self.train_bytes, self.eval_bytes, self.checkpoint_bytes)

    @property
    def headroom(self) -> float:
        """Bytes that must be there for each predicted one, for what is not predicted: workspaces, slack of malloc."""
        return _HEADROOM_CPU if self.device == "cpu" else _HEADROOM

    @property
    def fits(self) -> bool | None:
        """Whether that is available, with some room for what no prediction counts; None where nobody knows."""
        too_large = self.too_large(self.peak_bytes - self.data_bytes)
        return None if too_large is None else not too_large

    def too_large(self, n_bytes: int) -> bool | None:
        """Whether so many predicted bytes, beside the data, are more than available; None where nobody knows."""
        room = self._room()
        return None if room is None else n_bytes > room

    @property
    def largest_batch(self) -> int | None:
        """The largest ``batch_size`` whose training step fits, at most all samples; 0 when none does."""
        room = self._room()
        return None if room is None else min(self.memory.largest_batch(room), self.n_train)

    @property
    def largest_eval_batch(self) -> int | None:
        """The largest ``eval_batch_size`` that fits, at most all samples; 0 when none does."""
        room = self._room()
        return None if room is None else min(self.memory.evaluation.largest_batch(room), self.eval_batch_size)

    @property
    def fewest_chunks(self) -> int | None:
        """The fewest ``batch_chunks``, more than there are, with which the batch fits; None when there are none."""
        room = self._room()
        if room is None:
            return None
        counts = range(self.memory.chunks + 1, self.batch_size // 2 + 1)  # batch norm needs two samples
        return next((k for k in counts if self.memory.train_bytes(self.batch_size, k) <= room), None)

    def _room(self) -> int | None:
        """Bytes that a prediction may have."""
        return None if self.available_bytes is None else int((self.available_bytes - self.data_bytes) / self.headroom)


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What a run takes.

    Args:
        conf: Its configuration.
        facts: Sizes of its data.
        device: Where it computes.
        available: Memory there, when the plan was made.
        phases: What each phase takes, in order.
    """

    conf: RunConf
    facts: DataFacts
    device: torch.device
    available: AvailableMemory
    phases: tuple[PhasePlan, ...]

    @property
    def fits(self) -> bool | None:
        """Whether every phase fits into the memory available; None where nobody knows what is."""
        answers = [phase.fits for phase in self.phases]
        return None if None in answers else all(answers)


def plan(run: RunConf | str | os.PathLike[str], *, found: ModelDesc | None = None) -> Plan:
    """What a run would take. Nothing is written or downloaded, and nothing trains but for a few tiny steps on noise.

    Memory is predicted from those steps, see :mod:`gradnas.costs.memory` for what is counted. Of a named data set only
    its sizes are used, so it need not be on this machine; any other one is read.

    Args:
        run: A configuration, or a run folder, whose found architecture is then the one that is retrained.
        found: The architecture to retrain; None takes that of the run folder, or else, of a few random members, the
            one that keeps the most.

    Raises:
        FileNotFoundError: When there is no such run folder or data set.
        ValueError: For data or settings that the run would refuse.
    """
    conf, stored = (run, None) if isinstance(run, RunConf) else _stored(run)
    device = resolve_device(conf.device)
    available = available_memory(device)  # before data is read, which counts among what the run takes
    source, size = conf.data.source, conf.data.image_size
    facts = None if source is None else published_facts(source, size, conf.data.load_options)
    if facts is None:
        facts = DataFacts.of(load_source(conf, download=False))
    context = RunContext(data=with_augmentation(_blank(facts), conf), seed=conf.seed, device=device)
    experiment = prepare_run(conf, context)
    refuse_early(experiment)
    phases = tuple(plan_phases(experiment, facts, available, found or stored))
    return Plan(conf=conf, facts=facts, device=device, available=available, phases=phases)


def plan_phases(
    experiment: AnyExperiment,
    facts: DataFacts,
    available: AvailableMemory,
    found: ModelDesc | None = None,
    only: str | None = None,
) -> Iterator[PhasePlan]:
    """What each phase that a run asks for takes, one after the other.

    Args:
        experiment: The run. Its space is used, its strategy is made anew, its data is not looked at.
        facts: Sizes of its data.
        available: Memory, before the data is in it.
        found: The architecture to retrain; None takes, of a few random members, the one that keeps the most.
        only: The one phase that is wanted; None for all.
    """
    conf = experiment.conf
    if isinstance(experiment, ManualExperiment):
        yield _Phases(experiment, facts, available).given_network()
        return
    planner = _Planner(experiment, facts, available)
    if conf.arch is not None:
        found = given_desc(conf.arch, experiment.space)
    elif only in (None, "search"):
        yield planner.search()
    if conf.retrain.epochs > 0 and only in (None, "retrain"):
        yield planner.retrain(found)
    if conf.baseline.samples > 0 and only in (None, "baseline"):
        yield planner.baseline()


class _Phases:
    """Looks at phases of one run."""

    def __init__(self, experiment: AnyExperiment, facts: DataFacts, available: AvailableMemory) -> None:
        self._conf = experiment.conf
        self._facts, self._available = facts, available
        self._context = experiment.context
        self._seed, self._device = experiment.context.seed, experiment.context.device

    def given_network(self) -> PhasePlan:
        """The training of the model that the configuration names."""
        conf, model, data = self._conf.retrain, self._conf.model, dataset_conf(self._context.data)

        def build() -> nn.Module:
            return build_model(model, data)

        return self._phase("retrain", str(model.name), _weightless(build), _trainer_of(build), conf, conf.epochs)

    def _phase(
        self,
        phase: str,
        network: str,
        model: nn.Module,
        create: CreateTrainer,
        conf: PhaseConf,
        epochs: int | None,
        *,
        random_steps: bool = False,
    ) -> PhasePlan:
        memory = measure_phase(
            *(create, conf, self._facts),
            phase=phase,
            device=self._device,
            seed=self._seed,
            random_steps=random_steps,
        )
        n_train, n_val, n_test = self._sizes(conf)
        steps = steps_per_epoch(conf, BatchPlan.of(n_train, conf.batch_size, shuffle=True))
        twice = 2 if isinstance(conf, SearchConf) else 1  # validation in order, and shuffled for architecture steps
        held = n_train + twice * n_val + n_test
        if self._device.type == "cpu":  # where the set itself lies too
            held += self._facts.n_train + (self._facts.n_test or 0)
        return PhasePlan(
            phase=phase,
            network=network,
            model=model,
            image_shape=self._facts.shape,
            epochs=epochs,
            steps_per_epoch=steps,
            batch_size=conf.batch_size,
            eval_batch_size=min(conf.eval_batch_size, max(n_val, n_test)),
            n_train=n_train,
            memory=memory,
            data_bytes=self._facts.bytes_of(held),
            available_bytes=self._available.n_bytes,
            options=conf,
            device=self._device.type,
        )

    def _sizes(self, conf: PhaseConf) -> tuple[int, int, int]:
        """Samples that train, that validate, and that test."""
        facts = self._facts
        tested = (facts.n_test or 0) if isinstance(conf, RetrainConf) else 0
        if facts.n_val is not None:
            return facts.n_train, facts.n_val, tested
        kept = int(facts.n_train * (1 - Fraction(repr(float(conf.val_ratio)))))  # as stratified_split divides
        return kept, facts.n_train - kept, tested


class _Planner(_Phases):
    """Looks at the phases of a run that searches."""

    def __init__(self, experiment: Experiment, facts: DataFacts, available: AvailableMemory) -> None:
        super().__init__(experiment, facts, available)
        self._space = experiment.space

    def search(self) -> PhasePlan:
        strategy, conf = build_strategy(self._conf.strategy), self._conf.search
        if isinstance(strategy, RandomSearch):
            return self._brief(conf, self._heaviest_member, strategy.epochs_each(conf.epochs), "search")
        return self._phase(
            *("search", SUPERGRAPH, self._plain_supergraph, self._search_trainer, conf, conf.epochs),
            random_steps=strategy.mixing_rule.sparse,
        )

    def retrain(self, found: ModelDesc | None) -> PhasePlan:
        conf = self._conf.retrain
        member = found if found is not None else self._heaviest_member
        desc = retrained_desc(self._space, member, conf)

        def build() -> Model:
            return Model(desc, droppath=True, affine=True, registry=self._space.registry)

        network = MEMBER if found is None else FOUND if self._conf.arch is None else GIVEN
        return self._phase("retrain", network, _weightless(build), _trainer_of(build), conf, conf.epochs)

    def baseline(self) -> PhasePlan:
        return self._brief(self._conf.search, self._heaviest_member, None, "baseline")

    def _brief(self, conf: SearchConf, member: ModelDesc, epochs: int | None, phase: str) -> PhasePlan:
        """The brief training of a random member."""

        def build() -> Model:
            return Model(member, droppath=conf.drop_path > 0, affine=True, registry=self._space.registry)

        return self._phase(phase, MEMBER, _weightless(build), _trainer_of(build), conf, epochs)

    def _search_trainer(self, context: RunContext, conf: PhaseConf) -> Trainer:
        strategy = build_strategy(self._conf.strategy)
        assert isinstance(strategy, MetaOptimizer) and isinstance(conf, SearchConf)
        desc, fused, registry = strategy.supergraph(self._desc), conf.fused, self._space.registry
        model = context.model(
            lambda: Model(desc, droppath=False, affine=False, fused=fused, registry=registry), "search.weights"
        )
        return ArchTrainer(
            conf,
            model,
            strategy=strategy,
            finalizers=make_finalizers(conf.finalizers, self._seed),
            seed=self._seed,
            listener=context.listener,
        )

    @cached_property
    def _desc(self) -> ModelDesc:
        """The supergraph; of a grid the largest one, which keeps the most activations."""
        conf, space = self._conf, self._space
        if not conf.grid.enabled:
            return space.build()
        planned = plan_combinations(space, conf.grid, conf.search, build_strategy(conf.strategy))
        sizes = [each.combination for each in planned if each.reason is None]
        largest = max(sizes, key=lambda size: (size.cells * size.nodes, -size.reductions))
        return space.build(with_changes(space.settings, **asdict(largest)))

    @cached_property
    def _plain_supergraph(self) -> Model:
        strategy = build_strategy(self._conf.strategy)
        desc = strategy.supergraph(self._desc) if isinstance(strategy, MetaOptimizer) else self._desc
        return _weightless(lambda: Model(desc, droppath=False, affine=False, registry=self._space.registry))

    @cached_property
    def _heaviest_member(self) -> ModelDesc:
        """Of the random members that the run draws, or of a few, the one whose activations take the most."""
        strategy = build_strategy(self._conf.strategy)
        drawn = strategy.samples if isinstance(strategy, RandomSearch) else self._conf.baseline.samples
        searcher = RandomSearcher(self._context, RandomSearch(samples=drawn or _CANDIDATES))
        with seeded_initialization(self._seed, "plan"):  # builds a network that is thrown away
            members = searcher.members(self._space, self._desc)
        return max(members, key=self._kept_bytes)

    def _kept_bytes(self, desc: ModelDesc) -> int:
        """Bytes that autograd keeps of a forward pass, without computing anything."""
        model = _weightless(lambda: Model(desc, droppath=False, affine=True, registry=self._space.registry))
        with MemoryTracer("meta") as tracer:
            logits = model(torch.empty(2, *self._facts.shape, device="meta"))
            kept = tracer.live_bytes
        del logits
        return kept


def _weightless(build: Callable[[], Network]) -> Network:
    """A network on the meta device: made at once, without memory or random numbers, good for counting."""
    with torch.device("meta"):
        return build()


def _trainer_of(build: Callable[[], nn.Module]) -> CreateTrainer:
    def create(context: RunContext, conf: PhaseConf) -> Trainer:
        return Trainer(conf, context.model(build, "weights"), seed=context.seed, listener=context.listener)

    return create


def _blank(facts: DataFacts) -> DataSource:
    """A data set of these sizes whose pixels are all one pixel: it takes no memory."""

    def images(n: int) -> ImageSet:
        return ImageSet(
            images=torch.zeros((), dtype=facts.dtype).expand(n, *facts.shape),
            labels=torch.arange(n) % facts.n_classes,
            classes=tuple(str(number) for number in range(facts.n_classes)),
        )

    train, channels = images(facts.n_train), facts.shape[0]
    return DataSource(
        name="blank",
        train=train,
        test=None if facts.n_test is None else images(facts.n_test),
        augmentation=default_augmentation(train),
        normalization=Normalization(mean=(0.0,) * channels, std=(1.0,) * channels),
    )


def _stored(path: str | os.PathLike[str]) -> tuple[RunConf, ModelDesc | None]:
    folder = RunFolder.open(path)
    arch = folder / "arch.json"
    return folder.read_config(), ModelDesc.load(arch) if Path(arch).is_file() else None
