"""Tests of ``src/gradnas/data/batches.py``."""

from dataclasses import replace

import pytest
import torch

from gradnas.data import Augmentation, BatchLoader, BatchPlan, EndlessBatches, ImageSet, Normalization
from gradnas.data.augmentation import crop_and_flip, cut_hole
from gradnas.data.auto_augment import auto_augment
from gradnas.data.resized_crop import RandomWindows, resize_windows
from gradnas.foundation.seeds import generator

UNIT = Normalization(mean=(0.0,), std=(1.0,))
ALL = Augmentation(crop_padding=2, flip=True, cutout=3)
WITH_POLICY = replace(ALL, policy="autoaugment")


def numbered(n: int) -> ImageSet:
    """One float pixel per image, showing its position in the set."""
    return ImageSet(images=torch.arange(n).float().view(n, 1, 1, 1), labels=torch.arange(n) % 2, classes=("a", "b"))


def loader(data: ImageSet, **changes) -> BatchLoader:
    arguments = {"batch_size": 4, "normalization": UNIT, "shuffle": True, "seed": 0, "purpose": "train"}
    if data.shape[0] == 3:
        arguments["normalization"] = Normalization(mean=(0.5, 0.4, 0.3), std=(0.2, 0.3, 0.4))
    return BatchLoader(data, **(arguments | changes))


@pytest.mark.parametrize("dtype", ["uint8", "float32"])
def test_evaluation_batches_are_the_images_normalized(make_set, dtype: str) -> None:
    data = make_set(n=10, height=4, width=5, dtype=dtype)
    batches = list(loader(data, shuffle=False))
    x, y = torch.cat([x for x, _ in batches]), torch.cat([y for _, y in batches])
    mean, std = torch.tensor([0.5, 0.4, 0.3]).double(), torch.tensor([0.2, 0.3, 0.4]).double()
    expected = data.images.double() / (255 if dtype == "uint8" else 1)
    expected = (expected - mean[:, None, None]) / std[:, None, None]
    assert [len(x) for x, _ in batches] == [4, 4, 2]
    assert x.dtype == torch.float32
    torch.testing.assert_close(x.double(), expected, rtol=1e-5, atol=1e-5)
    assert torch.equal(y, data.labels)


def test_training_batch_is_gather_crop_flip_normalize_hole_in_this_order(make_set) -> None:
    data = make_set(n=12, height=6, width=5)
    x, y = loader(data, augmentation=ALL, seed=5).batch(3, 1)
    positions = torch.randperm(12, generator=generator(5, "train.order", 3))[4:8]
    numbers = generator(5, "train.augment", 3, 1)
    expected = crop_and_flip(data.images[positions].permute(0, 2, 3, 1), ALL, numbers).double() / 255
    expected = (expected - torch.tensor([0.5, 0.4, 0.3])) / torch.tensor([0.2, 0.3, 0.4])
    expected = cut_hole(expected.contiguous(), 3, numbers).permute(0, 3, 1, 2)
    torch.testing.assert_close(x.double(), expected, rtol=1e-5, atol=1e-5)
    assert torch.equal(y, data.labels[positions])


def test_policy_comes_between_flip_and_normalization_and_has_numbers_of_its_own(make_set) -> None:
    data = make_set(n=12, height=6, width=5)
    x, y = loader(data, augmentation=WITH_POLICY, seed=5).batch(3, 1)
    positions = torch.randperm(12, generator=generator(5, "train.order", 3))[4:8]
    numbers = generator(5, "train.augment", 3, 1)
    expected = crop_and_flip(data.images[positions].permute(0, 2, 3, 1), ALL, numbers)
    expected = auto_augment(expected, generator(5, "train.policy", 3, 1)).double() / 255
    expected = (expected - torch.tensor([0.5, 0.4, 0.3])) / torch.tensor([0.2, 0.3, 0.4])
    expected = cut_hole(expected.contiguous(), 3, numbers).permute(0, 3, 1, 2)
    torch.testing.assert_close(x.double(), expected, rtol=1e-5, atol=1e-5)
    assert torch.equal(y, data.labels[positions])
    without, _ = loader(data, augmentation=ALL, seed=5).batch(3, 1)
    assert torch.equal(x == 0, without == 0)  # the holes are where they are without the policy
    assert not torch.equal(x, without)


def test_random_windows_come_first_and_have_numbers_of_their_own(make_set) -> None:
    data = make_set(n=12, height=6, width=5)
    windowed = Augmentation(resized_crop=0.3, flip=True, cutout=3)
    x, y = loader(data, augmentation=windowed, seed=5).batch(3, 1)
    positions = torch.randperm(12, generator=generator(5, "train.order", 3))[4:8]
    windows = RandomWindows.draw(4, 0.3, generator(5, "train.windows", 3, 1)).in_image(6, 5)
    numbers = generator(5, "train.augment", 3, 1)
    cut = resize_windows(data.images[positions].permute(0, 2, 3, 1).contiguous(), windows)
    expected = crop_and_flip(cut, windowed, numbers).double() / 255
    expected = (expected - torch.tensor([0.5, 0.4, 0.3])) / torch.tensor([0.2, 0.3, 0.4])
    expected = cut_hole(expected.contiguous(), 3, numbers).permute(0, 3, 1, 2)
    torch.testing.assert_close(x.double(), expected, rtol=1e-5, atol=1e-5)
    assert torch.equal(y, data.labels[positions])
    again, same = loader(data, augmentation=windowed, seed=5), loader(data, augmentation=windowed, seed=5)
    assert torch.equal(again.batch(3, 1)[0], x)
    assert not torch.equal(again.batch(3, 2)[0], same.batch(4, 2)[0])


def test_policy_leaves_the_kept_images_alone(make_set) -> None:
    data = make_set()
    before = data.images.clone()
    batches = loader(data, shuffle=False, augmentation=Augmentation(policy="autoaugment"))
    x, _ = batches.batch(0, 0)
    assert x.is_contiguous(memory_format=torch.channels_last)
    assert not torch.equal(x, loader(data, shuffle=False).batch(0, 0)[0])
    assert torch.equal(batches.batch(0, 0)[0], x)
    assert torch.equal(data.images, before)


def test_batches_are_float32_channels_last_and_int64(make_set) -> None:
    x, y = loader(make_set(), augmentation=ALL).batch(0, 0)
    assert (x.shape, x.dtype, y.shape, y.dtype) == ((4, 3, 6, 6), torch.float32, (4,), torch.int64)
    assert x.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("augmentation", [ALL, WITH_POLICY])
def test_same_epoch_and_index_same_batch_whatever_came_before(make_set, augmentation: Augmentation) -> None:
    data = make_set(n=12)
    first = loader(data, augmentation=augmentation)
    wanted = first.batch(2, 1)
    for epoch in (0, 2, 1):
        list(first.batches(epoch))
    for again in (first.batch(2, 1), loader(data, augmentation=augmentation).batch(2, 1)):
        assert torch.equal(again[0], wanted[0])
        assert torch.equal(again[1], wanted[1])


@pytest.mark.parametrize("other", [{"seed": 1}, {"purpose": "val"}])
def test_other_seed_purpose_or_epoch_give_other_batches(make_set, other: dict) -> None:
    data = make_set(n=12)
    wanted = loader(data, augmentation=ALL).batch(0, 0)[0]
    assert not torch.equal(loader(data, augmentation=ALL, **other).batch(0, 0)[0], wanted)
    assert not torch.equal(loader(data, augmentation=ALL).batch(1, 0)[0], wanted)


@pytest.mark.parametrize(
    ("seed", "purpose", "epoch", "index"), [(1, "train", 0, 0), (0, "a", 0, 0), (0, "train", 1, 0), (0, "train", 0, 1)]
)
def test_policy_depends_on_seed_purpose_epoch_and_index(seed: int, purpose: str, epoch: int, index: int) -> None:
    # Batches of equal images, so that nothing but the policy can differ.
    images = torch.randint(0, 256, (1, 3, 6, 6), generator=torch.Generator().manual_seed(0)).to(torch.uint8)
    data = ImageSet(images=images.repeat(64, 1, 1, 1), labels=torch.arange(64) % 2, classes=("a", "b"))
    policy = Augmentation(policy="autoaugment")
    wanted = loader(data, augmentation=policy, batch_size=32).batch(0, 0)[0]
    other = loader(data, augmentation=policy, batch_size=32, seed=seed, purpose=purpose).batch(epoch, index)[0]
    assert not torch.equal(other, wanted)


def test_augmentation_differs_between_epochs_for_the_same_samples(make_set) -> None:
    batches = loader(make_set(n=4), shuffle=False, augmentation=ALL)
    assert not torch.equal(batches.batch(0, 0)[0], batches.batch(1, 0)[0])


@pytest.mark.parametrize("epoch", [0, 7])
def test_an_epoch_is_a_permutation(epoch: int) -> None:
    seen = torch.cat([x.flatten() for x, _ in loader(numbered(14)).batches(epoch)]).tolist()
    assert sorted(seen) == list(range(14))
    assert seen != sorted(seen)


def test_one_loader_for_several_epochs_equals_a_fresh_one_for_each(make_set) -> None:
    data = make_set(n=12)
    lasting = loader(data, augmentation=ALL)
    for epoch in (0, 1, 0, 3):
        for (x, _), (fresh, _) in zip(
            lasting.batches(epoch), loader(data, augmentation=ALL).batches(epoch), strict=True
        ):
            assert torch.equal(x, fresh)


def test_batches_continue_from_a_position(make_set) -> None:
    batches = loader(make_set(n=12), augmentation=ALL)
    rest = list(batches.batches(1, start=1))
    assert len(rest) == 2
    assert torch.equal(rest[0][0], batches.batch(1, 1)[0])


@pytest.mark.parametrize(
    ("n", "changes", "sizes"),
    [
        (10, {}, [4, 4, 2]),
        (10, {"drop_last": True}, [4, 4]),
        (9, {}, [4, 4]),  # a trailing single sample would break batch normalization
        (9, {"shuffle": False}, [4, 4, 1]),
        (8, {}, [4, 4]),
        (3, {"batch_size": 1}, [1, 1, 1]),
        (3, {"shuffle": False}, [3]),
    ],
)
def test_lengths(n: int, changes: dict, sizes: list[int]) -> None:
    batches = loader(numbered(n), **changes)
    assert [len(x) for x, _ in batches] == sizes
    assert (len(batches), batches.plan.n_samples) == (len(sizes), sum(sizes))


def test_batches_may_be_changed_by_the_caller(make_set) -> None:
    for data in (make_set(dtype="float32"), make_set()):
        batches = loader(data, shuffle=False)
        x, y = batches.batch(0, 0)
        kept = x.clone(), y.clone()
        x.zero_()
        y.zero_()
        assert torch.equal(batches.batch(0, 0)[0], kept[0])
        assert torch.equal(batches.batch(0, 0)[1], kept[1])


def test_global_random_state_is_neither_used_nor_changed(make_set) -> None:
    torch.manual_seed(0)
    state = torch.get_rng_state()
    first = loader(make_set(), augmentation=ALL).batch(0, 0)[0]
    assert torch.equal(torch.get_rng_state(), state)
    torch.manual_seed(1)
    assert torch.equal(loader(make_set(), augmentation=ALL).batch(0, 0)[0], first)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"batch_size": 13}, "fewer samples than the batch: 12 samples, batch_size 13. Lower batch_size to at most 12"),
        ({"batch_size": 13, "shuffle": False, "drop_last": True}, "fewer samples than the batch"),
        ({"batch_size": 0}, "batch_size must be at least 1, got 0"),
        ({"normalization": UNIT}, "normalization has 1 values but the images have 3 channels"),
        ({"augmentation": Augmentation(cutout=16)}, "cutout=16 is larger than the image of 6x6 pixels"),
    ],
)
def test_arguments_that_do_not_fit_are_refused(make_set, changes: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        loader(make_set(n=12), **changes)


@pytest.mark.parametrize(("channels", "dtype"), [(1, "uint8"), (4, "uint8"), (3, "float32")])
def test_policy_is_refused_for_other_images(make_set, channels: int, dtype: str) -> None:
    normalization = Normalization(mean=(0.0,) * channels, std=(1.0,) * channels)
    with pytest.raises(ValueError, match=rf"RGB images.* got {channels} of torch.{dtype}.*policy='none'"):
        loader(make_set(channels=channels, dtype=dtype), normalization=normalization, augmentation=WITH_POLICY)


def test_the_fingerprint_is_that_of_every_pixel_and_label_in_order(make_set) -> None:
    data = make_set(n=12)
    fingerprint = loader(data).fingerprint
    assert fingerprint == loader(make_set(n=12), seed=3, batch_size=2).fingerprint
    pixel, label = data.images.clone(), data.labels.clone()
    pixel[7, 2, 1, 3] += 1
    label[7] = (label[7] + 1) % 3
    others = (replace(data, images=pixel), replace(data, labels=label), data.subset(torch.arange(12).flip(0)))
    assert len({fingerprint, *(loader(other).fingerprint for other in others)}) == 4


@pytest.mark.parametrize(("epoch", "index"), [(0, 3), (0, -1), (-1, 0)])
def test_there_is_no_batch_outside_the_epoch(make_set, epoch: int, index: int) -> None:
    with pytest.raises(IndexError, match=r"index in 0\.\.2"):
        loader(make_set(n=12)).batch(epoch, index)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device on this machine")
def test_on_the_accelerator_the_order_is_that_of_the_cpu_and_nothing_waits(make_set) -> None:
    data = make_set(n=12)
    batches = loader(data, device="cuda", augmentation=ALL)
    y = batches.batch(0, 0)[1]
    torch.cuda.set_sync_debug_mode("error")
    try:
        x = batches.batch(0, 1)[0]
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert x.device.type == "cuda"
    assert torch.equal(y.cpu(), loader(data).batch(0, 0)[1])


@pytest.mark.parametrize("n", [6, 7, 9, 10])
@pytest.mark.parametrize("shuffle", [True, False])
@pytest.mark.parametrize("drop_last", [True, False])
def test_the_plan_counts_the_samples_that_are_drawn(n: int, shuffle: bool, drop_last: bool) -> None:
    batches = loader(numbered(n), batch_size=3, shuffle=shuffle, drop_last=drop_last)
    assert batches.plan == BatchPlan.of(n, 3, shuffle=shuffle, drop_last=drop_last)
    endless, drawn = EndlessBatches(batches), 0
    for k in range(2 * len(batches) + 2):
        assert batches.plan.samples_in(k) == drawn
        drawn += len(endless.next()[1])
