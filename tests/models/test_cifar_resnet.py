import pytest
import torch

from gradnas.models import CifarResNet


@pytest.mark.parametrize(
    ("depth", "count", "printed"),
    [
        (20, 269_722, "0.27"),
        (32, 464_154, "0.46"),
        (44, 658_586, "0.66"),
        (56, 853_018, "0.85"),
        (110, 1_727_962, "1.7"),
    ],
)
def test_parameters_are_those_of_the_paper(depth: int, count: int, printed: str) -> None:
    with torch.device("meta"):
        model = CifarResNet(depth, 10)
    assert sum(p.numel() for p in model.parameters()) == count
    assert f"{count / 1e6:.{len(printed) - 2}f}" == printed


def test_shortcuts_take_every_second_pixel_and_zeros_for_new_channels() -> None:
    model = CifarResNet(8, 10, width=4).eval()
    block = model.blocks[1]
    for parameter in block.conv2.parameters():
        torch.nn.init.zeros_(parameter)
    torch.nn.init.zeros_(block.bn2.weight)  # the branch is zero
    x = torch.rand(2, 4, 7, 7)
    y = block(x)
    assert torch.equal(y[:, :4], x[:, :, ::2, ::2])
    assert torch.equal(y[:, 4:], torch.zeros(2, 4, 4, 4))


@pytest.mark.parametrize("size", [(4, 4), (8, 8), (32, 20)])
def test_images_become_logits(size: tuple[int, int]) -> None:
    model = CifarResNet(8, 6, in_channels=1, width=4)
    assert model(torch.randn(3, 1, *size)).shape == (3, 6)
    assert [tuple(m.out_ch for m in model.blocks)] == [(4, 8, 16)]


def test_what_cannot_be_built_is_refused() -> None:
    with pytest.raises(ValueError, match=r"depth must be 6 n \+ 2, as 20 or 26, got 21"):
        CifarResNet(21, 10)
    with pytest.raises(ValueError, match=r"got \(2, 3, 3, 8\)"):
        CifarResNet(8, 10)(torch.zeros(2, 3, 3, 8))
