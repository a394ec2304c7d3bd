"""What fused is compared with: the DARTS supergraph as most libraries run it, in plain torch without gradnas.

Edge by edge, candidate by candidate, ``none`` included, contiguous memory. A first-order step takes every gradient in
both passes although half of them are thrown away; a second-order step is that of the released code of DARTS, with a
copy of the network. The network is the one of ``DartsSpace``: same cells, candidates and sizes.
"""

import copy

import torch
from torch import Tensor, nn
from torch.nn import functional as F


def norm(channels: int) -> nn.BatchNorm2d:
    return nn.BatchNorm2d(channels, affine=False)


def separable(c: int, kernel: int, stride: int, padding: int, dilation: int = 1) -> list[nn.Module]:
    depthwise = nn.Conv2d(c, c, kernel, stride, padding, dilation, groups=c, bias=False)
    return [nn.ReLU(), depthwise, nn.Conv2d(c, c, 1, bias=False), norm(c)]


class Reduce(nn.Module):
    def __init__(self, c_in: int, c_out: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(c_in, c_out // 2, 1, stride=2, bias=False)
        self.second = nn.Conv2d(c_in, c_out // 2, 1, stride=2, bias=False)
        self.norm = norm(c_out)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(x)
        out: Tensor = self.norm(torch.cat([self.first(x), self.second(x[:, :, 1:, 1:])], dim=1))
        return out


class Zero(nn.Module):
    def __init__(self, stride: int) -> None:
        super().__init__()
        self.stride = stride

    def forward(self, x: Tensor) -> Tensor:
        return x[:, :, :: self.stride, :: self.stride].mul(0.0)


class Mixed(nn.Module):
    def __init__(self, c: int, stride: int) -> None:
        super().__init__()
        self.candidates = nn.ModuleList(
            [
                nn.Sequential(nn.MaxPool2d(3, stride, 1), norm(c)),
                nn.Sequential(nn.AvgPool2d(3, stride, 1, count_include_pad=False), norm(c)),
                nn.Identity() if stride == 1 else Reduce(c, c),
                nn.Sequential(*separable(c, 3, stride, 1), *separable(c, 3, 1, 1)),
                nn.Sequential(*separable(c, 5, stride, 2), *separable(c, 5, 1, 2)),
                nn.Sequential(*separable(c, 3, stride, 2, dilation=2)),
                nn.Sequential(*separable(c, 5, stride, 4, dilation=2)),
                Zero(stride),
            ]
        )

    def forward(self, x: Tensor, weights: Tensor) -> Tensor:
        return sum(w * op(x) for w, op in zip(weights, self.candidates, strict=True))


class YardstickCell(nn.Module):
    def __init__(self, before: int, previous: int, c: int, nodes: int, reduces: bool, halve: bool) -> None:
        super().__init__()
        project = [nn.ReLU(), nn.Conv2d(before, c, 1, bias=False), norm(c)]
        self.first = Reduce(before, c) if halve else nn.Sequential(*project)
        self.second = nn.Sequential(nn.ReLU(), nn.Conv2d(previous, c, 1, bias=False), norm(c))
        self.edges = nn.ModuleList(
            Mixed(c, 2 if reduces and j < 2 else 1) for node in range(nodes) for j in range(2 + node)
        )
        self.nodes = nodes

    def forward(self, s0: Tensor, s1: Tensor, weights: Tensor) -> Tensor:
        states = [self.first(s0), self.second(s1)]
        edges = iter(zip(self.edges, weights, strict=True))
        for _ in range(self.nodes):
            total = 0
            for x in states:
                edge, w = next(edges)
                total = total + edge(x, w)
            states.append(total)
        return torch.cat(states[2:], dim=1)


class Yardstick(nn.Module):
    """Supergraph of regular and reduction cells; its steps are search steps without their optimizers."""

    def __init__(self, channels: int = 16, cells: int = 8, nodes: int = 4, classes: int = 10) -> None:
        super().__init__()
        c, width = channels, 3 * channels
        self.stem = nn.Sequential(nn.Conv2d(3, width, 3, padding=1, bias=False), nn.BatchNorm2d(width))
        self.cells = nn.ModuleList()
        before = previous = width
        self.reduces = [i in (cells // 3, 2 * cells // 3) for i in range(cells)]
        for i, reduces in enumerate(self.reduces):
            c *= 2 if reduces else 1
            self.cells.append(YardstickCell(before, previous, c, nodes, reduces, i > 0 and self.reduces[i - 1]))
            before, previous = previous, nodes * c
        self.classifier = nn.Linear(previous, classes)
        edges = sum(2 + n for n in range(nodes))
        self.alphas = nn.ParameterList(1e-3 * torch.randn(edges, 8) for _ in range(2))

    def forward(self, x: Tensor) -> Tensor:
        weights = [a.softmax(dim=1) for a in self.alphas]
        s0 = s1 = self.stem(x)
        for cell, reduces in zip(self.cells, self.reduces, strict=True):
            s0, s1 = s1, cell(s0, s1, weights[int(reduces)])
        logits: Tensor = self.classifier(s1.mean((2, 3)))
        return logits

    def step(self, train: tuple[Tensor, Tensor], val: tuple[Tensor, Tensor]) -> None:
        """The two passes of a first-order step, with every gradient in both."""
        for x, y in (val, train):
            for p in self.parameters():
                p.grad = None
            F.cross_entropy(self(x), y).backward()

    def unrolled_step(self, train: tuple[Tensor, Tensor], val: tuple[Tensor, Tensor], rate: float = 0.025) -> None:
        """The passes of a second-order step: DARTS, eq. 7 and 8."""
        weights = [p for name, p in self.named_parameters() if not name.startswith("alphas")]
        alphas = list(self.alphas)
        x, y = train
        gradients = torch.autograd.grad(F.cross_entropy(self(x), y), weights)
        unrolled = copy.deepcopy(self)
        with torch.no_grad():
            of_copy = [p for name, p in unrolled.named_parameters() if not name.startswith("alphas")]
            for p, g in zip(of_copy, gradients, strict=True):
                p -= rate * g
        F.cross_entropy(unrolled(val[0]), val[1]).backward()
        direction = [p.grad for p in of_copy]
        radius = 0.01 / torch.cat([v.flatten() for v in direction]).norm()
        for factor in (1, -2):
            with torch.no_grad():
                for p, v in zip(weights, direction, strict=True):
                    p += factor * radius * v
            torch.autograd.grad(F.cross_entropy(self(x), y), alphas)
        with torch.no_grad():
            for p, v in zip(weights, direction, strict=True):
                p += radius * v
        for p in self.parameters():
            p.grad = None
        F.cross_entropy(self(x), y).backward()
