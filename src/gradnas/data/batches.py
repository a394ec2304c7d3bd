"""Batches as a pure function of (seed, purpose, epoch, index).

A batch is a few tensor operations on the device: gather, crop, flip, policy, normalize, hole. Sets in memory lie there
as a whole; of streamed ones the files of the next batch are decoded meanwhile, which is all in which the two differ.
Nothing has to be saved to continue an interrupted run.
Shape suffixes: B batch, H height, W width, C channels (last, which is torch's ``channels_last`` memory format).
"""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from gradnas.foundation.seeds import generator

from .augmentation import Augmentation, crop_and_flip, cut_hole
from .labeled_images import LabeledImages
from .normalization import Normalization
from .pixels import Wanted
from .policies import apply_policy
from .resized_crop import RandomWindows


@dataclass(frozen=True)
class BatchPlan:
    """How the samples of an epoch fall into batches.

    Attributes:
        n_samples: Samples per epoch, without the dropped ones.
        batch_size: Samples in a full batch; the last one may have fewer.
    """

    n_samples: int
    batch_size: int

    @staticmethod
    def of(n: int, batch_size: int, *, shuffle: bool, drop_last: bool = False) -> "BatchPlan":
        """The plan for a set of ``n`` samples, see :class:`BatchLoader`."""
        trailing = n % batch_size
        return BatchPlan(n - (trailing if drop_last or (shuffle and trailing == 1) else 0), batch_size)

    def __len__(self) -> int:
        """Batches per epoch."""
        return -(-self.n_samples // self.batch_size)

    def samples_in(self, batches: int) -> int:
        """Samples in the first batches, over as many epochs as they take, shorter last ones included."""
        epochs, rest = divmod(batches, len(self))
        return epochs * self.n_samples + min(rest * self.batch_size, self.n_samples)


class BatchLoader:
    """Batches of :class:`LabeledImages`, normalized and optionally augmented.

    With ``shuffle`` every epoch is a permutation of the samples. The last, shorter batch is kept unless ``drop_last``
    is set, with one exception: with ``shuffle``, a trailing batch of a single sample is dropped, because batch
    normalization cannot train on one value per channel. Another sample is left out in every epoch.

    Attributes:
        plan: How many samples an epoch has, and how they fall into batches.
    """

    def __init__(
        self,
        data: LabeledImages,
        *,
        batch_size: int,
        normalization: Normalization,
        shuffle: bool,
        seed: int,
        purpose: str,
        augmentation: Augmentation | None = None,
        device: torch.device | str = "cpu",
        drop_last: bool = False,
        numbers: Tensor | None = None,
    ) -> None:
        """Move a set in memory to the device; uint8 images stay uint8 there.

        Args:
            data: The samples, ``N`` images of shape ``(C, H, W)``.
            batch_size: Samples in a full batch, at least 1.
            normalization: Measured on the training set, one value per channel.
            shuffle: A new order in every epoch; False keeps the order of the set.
            seed: Seed of the run.
            purpose: Keeps the random streams of several loaders apart, e.g. ``"train"``.
            augmentation: None for validation and test: these get the normalization only.
            device: Where images in memory are kept and the batches appear.
            drop_last: Leave out the last batch if it is not full.
            numbers: Where each sample stands in the set that ``data`` was taken from, shape ``(N,)``, int64, for
                messages; None counts from 0.

        Raises:
            ValueError: If the set has fewer samples than one batch (with ``shuffle`` or ``drop_last``; otherwise one
                short batch is right), or the normalization or augmentation does not fit the images.
        """
        channels, height, width = data.shape
        _check_batch_size(batch_size, len(data), full_batch_needed=shuffle or drop_last)
        if len(normalization.mean) != channels:
            raise ValueError(
                f"normalization has {len(normalization.mean)} values but the images have {channels} channels. "
                "Measure it on the training images: Normalization.of(images)."
            )
        self.plan = BatchPlan.of(len(data), batch_size, shuffle=shuffle, drop_last=drop_last)
        self._augmentation = augmentation or Augmentation()
        self._augmentation.check_fits(height, width)
        self._augmentation.check_pixels(channels, data.dtype)
        self._seed, self._purpose, self._shuffle = seed, purpose, shuffle
        self._device = torch.device(device)
        self._pixels = data.pixels(self._device)
        self._labels_N = data.labels.to(self._device)
        # Repeated along a row of pixels, the vectors let the multiply-add run over W * C values at a stretch.
        scale_C, shift_C = normalization.scale_and_shift(data.dtype)
        self._scale_WC, self._shift_WC = scale_C.repeat(width).to(self._device), shift_C.repeat(width).to(self._device)
        self._numbers = numbers
        self._order: tuple[int, Tensor] | None = None

    def __len__(self) -> int:
        """Batches per epoch."""
        return len(self.plan)

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        """The batches of epoch 0."""
        return self.batches(0)

    def batches(self, epoch: int, start: int = 0) -> Iterator[tuple[Tensor, Tensor]]:
        """The batches of an epoch from position ``start`` on, see :meth:`batch`."""
        for index in range(start, len(self)):
            yield self.batch(epoch, index)

    def batch(self, epoch: int, index: int) -> tuple[Tensor, Tensor]:
        """One batch; the same arguments give the same batch, whatever was drawn before.

        Args:
            epoch: At least 0.
            index: Position in the epoch, ``0..len-1``.

        Returns:
            ``x``, float32 of shape ``(B, C, H, W)`` in channels_last memory format, and ``y``, int64 of shape
            ``(B,)``, on the device. ``B`` is smaller than ``batch_size`` for a kept last batch only. The tensors are
            new, the caller may change them.

        Raises:
            IndexError: If there is no such batch.
        """
        if epoch < 0 or not 0 <= index < len(self):
            raise IndexError(f"epoch must be at least 0 and index in 0..{len(self) - 1}, got {epoch} and {index}.")
        wanted = self._wanted(epoch, index)
        following = (self._wanted(epoch, after) for after in range(index + 1, len(self)))
        x_BHWC, y_B = self._pixels.gather(wanted, following), wanted.take(self._labels_N)
        if wanted.positions is None:
            y_B = y_B.clone()
        numbers = generator(self._seed, f"{self._purpose}.augment", epoch, index, device=self._device)
        x_BHWC = crop_and_flip(x_BHWC, self._augmentation, numbers)
        policy = self._augmentation.policy
        if policy != "none":
            x_BHWC = apply_policy(policy, x_BHWC, generator(self._seed, f"{self._purpose}.policy", epoch, index))
        return cut_hole(self._normalize(x_BHWC), self._augmentation.cutout, numbers).permute(0, 3, 1, 2), y_B

    def sample_numbers(self, epoch: int, index: int) -> list[int]:
        """Which samples a batch has, as numbers in the set that its images were taken from."""
        wanted = self._wanted(epoch, index)
        numbers: list[int] = wanted.numbers() if self._numbers is None else wanted.take(self._numbers).tolist()
        return numbers

    @cached_property
    def fingerprint(self) -> str:
        """A checksum over images and labels in order, 32 hexadecimal digits: a run goes on with the same data only."""
        digest = hashlib.blake2b(digest_size=16)
        for part in self._pixels.identity():
            digest.update(part)
        digest.update(f"{tuple(self._labels_N.shape)} {self._labels_N.dtype}".encode())
        digest.update(self._labels_N.cpu().numpy().data)
        return digest.hexdigest()

    def _wanted(self, epoch: int, index: int) -> Wanted:
        start = index * self.plan.batch_size
        stop = min(start + self.plan.batch_size, self.plan.n_samples)
        share, windows = self._augmentation.resized_crop, None
        if share > 0:
            numbers = generator(self._seed, f"{self._purpose}.windows", epoch, index)
            windows = RandomWindows.draw(stop - start, share, numbers)
        positions = self._order_of(epoch)[start:stop] if self._shuffle else None
        return Wanted(key=(epoch, index), start=start, stop=stop, positions=positions, windows=windows)

    def _normalize(self, x_BHWC: Tensor) -> Tensor:
        """Float32 copy, ``x * scale + shift`` for each channel."""
        rows = x_BHWC.flatten(2).float()
        return torch.addcmul(self._shift_WC, rows, self._scale_WC).view(x_BHWC.shape)

    def _order_of(self, epoch: int) -> Tensor:
        """Permutation of the samples, drawn on the CPU so that it is the same on every device; kept for the epoch."""
        if self._order is None or self._order[0] != epoch:
            numbers = generator(self._seed, f"{self._purpose}.order", epoch)
            self._order = epoch, torch.randperm(len(self._labels_N), generator=numbers)
        return self._order[1]


def _check_batch_size(batch_size: int, n_samples: int, *, full_batch_needed: bool) -> None:
    if batch_size < 1:
        raise ValueError(f"batch_size must be at least 1, got {batch_size}.")
    if full_batch_needed and batch_size > n_samples:
        raise ValueError(
            f"fewer samples than the batch: {n_samples} samples, batch_size {batch_size}. "
            f"Lower batch_size to at most {n_samples}."
        )
