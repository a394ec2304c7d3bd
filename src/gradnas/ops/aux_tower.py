"""The auxiliary classifier that helps a deep evaluation network to train."""

from torch import Tensor, nn

from gradnas.arch import AuxTowerDesc
from gradnas.ops.conv import batch_norm


class AuxTower(nn.Module):
    """Auxiliary head of the DARTS evaluation network: ``(B, C, H, W) -> (B, n_classes)``.

    ReLU, 5×5 average pooling of the given stride, 1×1 convolution to 128, 2×2 convolution to 768, linear. The pooled
    map must be 2×2, else ValueError. The paper's ImageNet tower lacks the second norm, as the description says.
    """

    def __init__(self, aux_tower_desc: AuxTowerDesc) -> None:
        super().__init__()
        self.stride = aux_tower_desc.stride
        # not in place: the cell output goes on to the next cells
        self.pool = nn.Sequential(nn.ReLU(), nn.AvgPool2d(5, aux_tower_desc.stride))
        self.features = nn.Sequential(
            nn.Conv2d(aux_tower_desc.ch_in, 128, 1, bias=False),
            batch_norm(128, affine=True),
            nn.ReLU(),
            nn.Conv2d(128, 768, 2, bias=False),
            batch_norm(768, affine=True) if aux_tower_desc.second_norm else nn.Identity(),
            nn.ReLU(),
        )
        self.classifier = nn.Linear(768, aux_tower_desc.n_classes)

    def forward(self, x: Tensor) -> Tensor:
        pooled = tuple(max(0, (side - 5) // self.stride + 1) for side in x.shape[2:])
        if pooled != (2, 2):
            raise ValueError(
                f"the auxiliary tower needs a pooled map of 2×2, the map {tuple(x.shape[2:])} gives {pooled}; set "
                "aux_tower_stride to side - 5, for a side of at least 6."
            )
        out: Tensor = self.classifier(self.features(self.pool(x)).flatten(1))
        return out
