"""Tests of ``src/gradnas/pipeline/context.py``."""

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from gradnas.data import Augmentation, BatchLoader, DataSource, ImageSet, Normalization
from gradnas.pipeline import Searcher
from gradnas.supergraph import Model
from gradnas.training import EpochRecord, Metrics, Silence


def rows(images: ImageSet) -> set[bytes]:
    return {image.numpy().tobytes() for image in images.images}


def samples(loader: BatchLoader | None, tools: Any) -> list[Tensor]:
    """Images of one pass with the normalization undone."""
    assert loader is not None
    normalization = tools.source.normalization
    return [image * normalization.std[0] + normalization.mean[0] for x, _ in loader.batches(0) for image in x]


def nearest(image: Tensor, images: Tensor) -> tuple[int, float]:
    distance = (images - image).abs().flatten(1).amax(1)
    return int(distance.argmin()), float(distance.min())


def test_halves_of_a_search_are_disjoint_and_complete(tools: Any) -> None:
    loaders = tools.context().loaders(tools.search_conf(), "search", test=False)
    assert loaders.train.plan.n_samples == loaders.alpha.plan.n_samples == loaders.val.plan.n_samples == 40
    held_out = {nearest(image, tools.source.train.images)[0] for image in samples(loaders.val, tools)}
    alpha = {nearest(image, tools.source.train.images)[0] for image in samples(loaders.alpha, tools)}
    assert held_out == alpha
    kept = set(range(80)) - held_out
    labels = sorted(y for _, ys in loaders.train.batches(0) for y in ys.tolist())
    assert labels == sorted(tools.source.train.labels[i].item() for i in kept)


def test_split_depends_on_the_seed_of_the_run(tools: Any) -> None:
    def held_out(seed: int, phase: str = "search") -> Tensor:
        loaders = tools.context(seed=seed).loaders(tools.search_conf(), phase, test=False)
        return torch.cat([x for x, _ in loaders.val])

    assert torch.equal(held_out(0), held_out(0))
    assert torch.equal(held_out(0), held_out(0, "another"))
    assert not torch.equal(held_out(0), held_out(1))


def test_training_batches_are_augmented_and_those_of_validation_and_test_are_not(tools: Any) -> None:
    conf = tools.retrain_conf(val_ratio=0.5, cutout=3)
    loaders = tools.context().loaders(conf, "retrain", test=True)
    whole, test = tools.source.train.images, tools.source.test.images
    assert max(nearest(image, whole)[1] for image in samples(loaders.val, tools)) < 1e-5
    assert max(nearest(image, test)[1] for image in samples(loaders.test, tools)) < 1e-5
    assert sum(nearest(image, whole)[1] < 1e-5 for image in samples(loaders.train, tools)) < 10


def test_cutout_of_the_settings_makes_holes(tools: Any) -> None:
    loaders = tools.context().loaders(tools.retrain_conf(cutout=4), "retrain", test=False)
    x, _ = loaders.train.batch(0, 0)
    assert all(int((image == 0).sum()) >= 4 for image in x)


@pytest.mark.parametrize(("augmented", "low", "high"), [(False, 40, 40), (True, 0, 10)])
def test_architecture_batches_are_augmented_only_when_asked(tools: Any, augmented: bool, low: int, high: int) -> None:
    conf = tools.search_conf(augment_val_batches=augmented)
    loaders = tools.context().loaders(conf, "search", test=False)
    exact = sum(nearest(image, tools.source.train.images)[1] < 1e-5 for image in samples(loaders.alpha, tools))
    assert low <= exact <= high
    assert max(nearest(image, tools.source.train.images)[1] for image in samples(loaders.val, tools)) < 1e-5


@pytest.fixture
def rgb() -> DataSource:
    """40 equal images, neither cropped nor mirrored: only a policy can change them."""
    image = torch.randint(0, 256, (1, 3, 8, 8), generator=torch.Generator().manual_seed(0)).to(torch.uint8)
    train = ImageSet(images=image.repeat(40, 1, 1, 1), labels=torch.arange(40) % 2, classes=("a", "b"))
    return DataSource(
        name="rgb", train=train, test=train, augmentation=Augmentation(), normalization=Normalization.of(train)
    )


def changed(loader: BatchLoader | None, data: DataSource) -> bool:
    """Whether some image of one pass is not that of the set, normalized."""
    assert loader is not None
    plain, _ = BatchLoader(
        data.train, batch_size=1, normalization=data.normalization, shuffle=False, seed=0, purpose="plain"
    ).batch(0, 0)
    return any(not torch.equal(image, plain[0]) for x, _ in loader.batches(0) for image in x)


@pytest.mark.parametrize("policy", ["none", "autoaugment"])
@pytest.mark.parametrize("augmented", [False, True])
def test_policy_of_the_settings_is_for_training_and_for_architecture_batches_only_when_asked(
    tools: Any, rgb: DataSource, policy: str, augmented: bool
) -> None:
    context, on = tools.context(data=rgb), policy == "autoaugment"
    loaders = context.loaders(tools.search_conf(policy=policy, augment_val_batches=augmented), "search", test=True)
    assert changed(loaders.train, rgb) == on
    assert changed(loaders.alpha, rgb) == (on and augmented)
    assert not changed(loaders.val, rgb)
    assert not changed(loaders.test, rgb)


def test_policy_is_refused_for_other_than_rgb_images(tools: Any) -> None:
    with pytest.raises(ValueError, match=r"RGB images.* got 1 of torch.float32.*policy='none'"):
        tools.context().loaders(tools.retrain_conf(policy="autoaugment"), "retrain", test=False)


def test_own_validation_set_leaves_the_training_set_whole(tools: Any) -> None:
    context = tools.context(val_set=tools.source.test)
    loaders = context.loaders(tools.search_conf(), "search", test=False)
    assert loaders.train.plan.n_samples == 80
    assert loaders.val.plan.n_samples == loaders.alpha.plan.n_samples == 20
    assert max(nearest(image, tools.source.test.images)[1] for image in samples(loaders.alpha, tools)) < 1e-5


def test_without_a_share_there_is_no_validation(tools: Any) -> None:
    loaders = tools.context().loaders(tools.search_conf(val_ratio=0.0), "search", test=False)
    assert loaders.val is None
    assert loaders.alpha is None


def test_test_set_comes_only_when_allowed(tools: Any) -> None:
    assert tools.context().loaders(tools.search_conf(), "search", test=False).test is None
    assert tools.context().loaders(tools.retrain_conf(), "retrain", test=True).test.plan.n_samples == 20


def test_phases_have_random_streams_of_their_own(tools: Any) -> None:
    first, second = (tools.context().loaders(tools.retrain_conf(), phase, test=False) for phase in ("a", "b"))
    assert not torch.equal(first.train.batch(0, 0)[1], second.train.batch(0, 0)[1])


def test_evaluation_batches_have_their_own_size(tools: Any) -> None:
    conf = tools.search_conf(eval_batch_size=16)
    loaders = tools.context().loaders(conf, "search", test=False)
    assert [len(y) for _, y in loaders.val] == [16, 16, 8]
    assert len(loaders.train.batch(0, 0)[1]) == 8


def test_batch_larger_than_the_half_is_refused(tools: Any) -> None:
    with pytest.raises(ValueError, match="fewer samples than the batch: 40 samples, batch_size 64"):
        tools.context().loaders(tools.search_conf(batch_size=64), "search", test=False)


def test_initial_weights_follow_from_the_seed_and_leave_the_global_generator_alone(tools: Any) -> None:
    def build(seed: int) -> Model:
        return tools.context(seed=seed).model(lambda: Model(tools.space.build(), affine=False), "w")

    before = torch.get_rng_state()
    first, again, other = build(0).state_dict(), build(0).state_dict(), build(1).state_dict()
    assert torch.equal(torch.get_rng_state(), before)
    assert all(torch.equal(first[k], again[k]) for k in first)
    assert any(not torch.equal(first[k], other[k]) for k in first if k.endswith("weight"))
    assert any(not torch.equal(first[k], other[k]) for k in first if "alphas" in k)


def test_log_is_cut_back_to_where_the_phase_goes_on(tools: Any) -> None:
    folder = tools.folder()
    for phase in ("search", "retrain"):
        for epoch in range(3):
            folder.append("metrics.jsonl", EpochRecord(phase, epoch).to_dict())
    tools.context(folder).log_to("retrain").on_start("retrain", Metrics([EpochRecord("retrain", 0)]))
    assert [r.epoch for r in folder.metrics("retrain")] == [0]
    assert [r.epoch for r in folder.metrics("search")] == [0, 1, 2]


def test_log_and_listener_are_both_told(tools: Any) -> None:
    told: list[EpochRecord] = []

    class Noting(Silence):
        def on_epoch(self, record: EpochRecord) -> None:
            told.append(record)

    folder = tools.folder()
    record = EpochRecord("search", 0, lr=0.1)
    tools.context(folder, listener=Noting()).log_to("search").on_epoch(record)
    assert told == [record]
    assert folder.metrics("search") == [record]


def test_without_a_folder_nothing_is_saved(tools: Any) -> None:
    context = tools.context()
    assert context.checkpoint("search", tools.search_conf()) is None
    assert context.log_to("search") is context.listener


def test_same_settings_by_value_give_the_same_loaders(tools: Any) -> None:
    searcher = Searcher(tools.context())
    conf = tools.search_conf()
    assert searcher.get_data(conf) is searcher.get_data(replace(conf))
    assert searcher.get_data(conf) is not searcher.get_data(replace(conf, batch_size=4))


def test_a_part_of_an_evaluated_set_is_a_sample_of_all_classes(tools: Any) -> None:
    test = tools.source.test
    order = test.labels.argsort(stable=True)  # as a folder of images would give them
    context = tools.context(data=replace(tools.source, test=test.subset(order)))
    conf = tools.retrain_conf(eval_batch_size=8, max_steps_per_epoch=1)
    loaders = [context.loaders(conf, "retrain", test=True).test for _ in range(2)]
    assert loaders[0] is not None
    assert loaders[1] is not None
    (x, y), (again, _) = loaders[0].batch(0, 0), loaders[1].batch(0, 0)
    assert len(y.unique()) > 2  # the first eight of the sorted set are of two classes
    assert torch.equal(x, again)
    whole = context.loaders(replace(conf, max_steps_per_epoch=None), "retrain", test=True).test
    assert whole is not None
    assert torch.equal(whole.batch(0, 0)[1], test.labels[order][:8])  # nothing to sample: the order of the set
