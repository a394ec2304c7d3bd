"""Genotypes published for image classification, under the names of their repositories.

Source: beside each constant the paper and the repository in which the pairs were read. Deviations: none; PNASNet's one
cell is written out for both types. Reference test: ``tests/arch/test_published.py::test_constant_is_unchanged``.

Pairs are written as in the sources, one node per line: (operation, source), (operation, source).
"""

from collections.abc import Mapping
from types import MappingProxyType

from gradnas.arch.genotype import Genotype
from gradnas.foundation.names import did_you_mean

# The formatter would put every pair on a line of its own; one node per line is what one compares with a paper.
# fmt: off

# Liu et al., DARTS (ICLR 2019), first order; read in quark0/darts, the same in NivNayman/XNAS and
# D-X-Y/AutoDL-Projects.
DARTS_V1 = Genotype(
    normal=[
        ("sep_conv_3x3", 1), ("sep_conv_3x3", 0),
        ("skip_connect", 0), ("sep_conv_3x3", 1),
        ("skip_connect", 0), ("sep_conv_3x3", 1),
        ("sep_conv_3x3", 0), ("skip_connect", 2),
    ],
    normal_concat=range(2, 6),
    reduce=[
        ("max_pool_3x3", 0), ("max_pool_3x3", 1),
        ("skip_connect", 2), ("max_pool_3x3", 0),
        ("max_pool_3x3", 0), ("skip_connect", 2),
        ("skip_connect", 2), ("avg_pool_3x3", 0),
    ],
    reduce_concat=range(2, 6),
)

# Liu et al., DARTS (ICLR 2019), second order; the same three repositories; NNI calls it darts-v2.
DARTS_V2 = Genotype(
    normal=[
        ("sep_conv_3x3", 0), ("sep_conv_3x3", 1),
        ("sep_conv_3x3", 0), ("sep_conv_3x3", 1),
        ("sep_conv_3x3", 1), ("skip_connect", 0),
        ("skip_connect", 0), ("dil_conv_3x3", 2),
    ],
    normal_concat=range(2, 6),
    reduce=[
        ("max_pool_3x3", 0), ("max_pool_3x3", 1),
        ("skip_connect", 2), ("max_pool_3x3", 1),
        ("max_pool_3x3", 0), ("skip_connect", 2),
        ("skip_connect", 2), ("max_pool_3x3", 1),
    ],
    reduce_concat=range(2, 6),
)

# Nayman et al., XNAS (NeurIPS 2019); read in NivNayman/XNAS.
XNAS = Genotype(
    normal=[
        ("sep_conv_3x3", 1), ("skip_connect", 0),
        ("sep_conv_3x3", 0), ("sep_conv_3x3", 2),
        ("sep_conv_3x3", 3), ("sep_conv_3x3", 1),
        ("dil_conv_5x5", 4), ("sep_conv_3x3", 0),
    ],
    normal_concat=range(2, 6),
    reduce=[
        ("max_pool_3x3", 0), ("avg_pool_3x3", 1),
        ("avg_pool_3x3", 0), ("skip_connect", 2),
        ("dil_conv_3x3", 3), ("max_pool_3x3", 0),
        ("dil_conv_5x5", 4), ("avg_pool_3x3", 0),
    ],
    reduce_concat=range(2, 6),
)

# Xu et al., PC-DARTS (ICLR 2020), searched on CIFAR-10; identical in several public repositories.
PC_DARTS_cifar = Genotype(
    normal=[
        ("sep_conv_3x3", 1), ("skip_connect", 0),
        ("sep_conv_3x3", 0), ("dil_conv_3x3", 1),
        ("sep_conv_5x5", 0), ("sep_conv_3x3", 1),
        ("avg_pool_3x3", 0), ("dil_conv_3x3", 1),
    ],
    normal_concat=range(2, 6),
    reduce=[
        ("sep_conv_5x5", 1), ("max_pool_3x3", 0),
        ("sep_conv_5x5", 1), ("sep_conv_5x5", 2),
        ("sep_conv_3x3", 0), ("sep_conv_3x3", 3),
        ("sep_conv_3x3", 1), ("sep_conv_3x3", 2),
    ],
    reduce_concat=range(2, 6),
)

# Xu et al., PC-DARTS (ICLR 2020), searched on ImageNet; identical in several public repositories.
PC_DARTS_image = Genotype(
    normal=[
        ("skip_connect", 1), ("sep_conv_3x3", 0),
        ("sep_conv_3x3", 0), ("skip_connect", 1),
        ("sep_conv_3x3", 1), ("sep_conv_3x3", 3),
        ("sep_conv_3x3", 1), ("dil_conv_5x5", 4),
    ],
    normal_concat=range(2, 6),
    reduce=[
        ("sep_conv_3x3", 0), ("skip_connect", 1),
        ("dil_conv_5x5", 2), ("max_pool_3x3", 1),
        ("sep_conv_3x3", 2), ("sep_conv_3x3", 1),
        ("sep_conv_5x5", 0), ("sep_conv_3x3", 3),
    ],
    reduce_concat=range(2, 6),
)

# Chen et al., P-DARTS (ICCV 2019); identical in several public repositories.
P_DARTS = Genotype(
    normal=[
        ("skip_connect", 0), ("dil_conv_3x3", 1),
        ("skip_connect", 0), ("sep_conv_3x3", 1),
        ("sep_conv_3x3", 1), ("sep_conv_3x3", 3),
        ("sep_conv_3x3", 0), ("dil_conv_5x5", 4),
    ],
    normal_concat=range(2, 6),
    reduce=[
        ("avg_pool_3x3", 0), ("sep_conv_5x5", 1),
        ("sep_conv_3x3", 0), ("dil_conv_5x5", 2),
        ("max_pool_3x3", 0), ("dil_conv_3x3", 1),
        ("dil_conv_3x3", 1), ("dil_conv_5x5", 3),
    ],
    reduce_concat=range(2, 6),
)

# Chen et al., DrNAS (ICLR 2021), searched on CIFAR-10; identical in several public repositories.
DrNAS_cifar10 = Genotype(
    normal=[
        ("sep_conv_3x3", 0), ("sep_conv_5x5", 1),
        ("sep_conv_3x3", 1), ("sep_conv_3x3", 2),
        ("skip_connect", 0), ("sep_conv_3x3", 1),
        ("sep_conv_3x3", 2), ("dil_conv_5x5", 3),
    ],
    normal_concat=range(2, 6),
    reduce=[
        ("max_pool_3x3", 0), ("sep_conv_5x5", 1),
        ("dil_conv_5x5", 2), ("sep_conv_5x5", 1),
        ("sep_conv_5x5", 1), ("dil_conv_5x5", 3),
        ("skip_connect", 4), ("sep_conv_5x5", 1),
    ],
    reduce_concat=range(2, 6),
)

# Dong and Yang, GDAS (CVPR 2019); read in D-X-Y/AutoDL-Projects.
GDAS_V1 = Genotype(
    normal=[
        ("skip_connect", 0), ("skip_connect", 1),
        ("skip_connect", 0), ("sep_conv_5x5", 2),
        ("sep_conv_3x3", 3), ("skip_connect", 0),
        ("sep_conv_5x5", 4), ("sep_conv_3x3", 3),
    ],
    normal_concat=range(2, 6),
    reduce=[
        ("sep_conv_5x5", 0), ("sep_conv_3x3", 1),
        ("sep_conv_5x5", 2), ("sep_conv_5x5", 1),
        ("dil_conv_5x5", 2), ("sep_conv_3x3", 1),
        ("sep_conv_5x5", 0), ("sep_conv_5x5", 1),
    ],
    reduce_concat=range(2, 6),
)

# Dong and Yang, SETN (ICCV 2019); read in D-X-Y/AutoDL-Projects, whose candidates include conv_3x1_1x3.
SETN = Genotype(
    normal=[
        ("skip_connect", 0), ("sep_conv_5x5", 1),
        ("sep_conv_5x5", 0), ("sep_conv_3x3", 1),
        ("sep_conv_5x5", 1), ("sep_conv_5x5", 3),
        ("max_pool_3x3", 1), ("conv_3x1_1x3", 4),
    ],
    normal_concat=range(2, 6),
    reduce=[
        ("sep_conv_3x3", 0), ("sep_conv_5x5", 1),
        ("avg_pool_3x3", 0), ("sep_conv_5x5", 1),
        ("avg_pool_3x3", 0), ("sep_conv_5x5", 1),
        ("avg_pool_3x3", 0), ("skip_connect", 1),
    ],
    reduce_concat=range(2, 6),
)

# Zoph et al., NASNet (CVPR 2018), five nodes per cell; read in quark0/darts.
NASNet_A = Genotype(
    normal=[
        ("sep_conv_5x5", 1), ("sep_conv_3x3", 0),
        ("sep_conv_5x5", 0), ("sep_conv_3x3", 0),
        ("avg_pool_3x3", 1), ("skip_connect", 0),
        ("avg_pool_3x3", 0), ("avg_pool_3x3", 0),
        ("sep_conv_3x3", 1), ("skip_connect", 1),
    ],
    normal_concat=range(2, 7),
    reduce=[
        ("sep_conv_5x5", 1), ("sep_conv_7x7", 0),
        ("max_pool_3x3", 1), ("sep_conv_7x7", 0),
        ("avg_pool_3x3", 1), ("sep_conv_5x5", 0),
        ("skip_connect", 3), ("avg_pool_3x3", 2),
        ("sep_conv_3x3", 2), ("max_pool_3x3", 1),
    ],
    reduce_concat=range(4, 7),
)

# Real et al., AmoebaNet (AAAI 2019), five nodes per cell; read in quark0/darts.
AmoebaNet_A = Genotype(
    normal=[
        ("avg_pool_3x3", 0), ("max_pool_3x3", 1),
        ("sep_conv_3x3", 0), ("sep_conv_5x5", 2),
        ("sep_conv_3x3", 0), ("avg_pool_3x3", 3),
        ("sep_conv_3x3", 1), ("skip_connect", 1),
        ("skip_connect", 0), ("avg_pool_3x3", 1),
    ],
    normal_concat=range(4, 7),
    reduce=[
        ("avg_pool_3x3", 0), ("sep_conv_3x3", 1),
        ("max_pool_3x3", 0), ("sep_conv_7x7", 2),
        ("sep_conv_7x7", 0), ("avg_pool_3x3", 1),
        ("max_pool_3x3", 0), ("max_pool_3x3", 1),
        ("conv_7x1_1x7", 0), ("sep_conv_3x3", 5),
    ],
    reduce_concat=[3, 4, 6],
)

# Liu et al., PNAS (ECCV 2018), five nodes, one cell for both types; read in D-X-Y/AutoDL-Projects.
PNASNet = Genotype(
    normal=[
        ("sep_conv_5x5", 0), ("max_pool_3x3", 0),
        ("sep_conv_7x7", 1), ("max_pool_3x3", 1),
        ("sep_conv_5x5", 1), ("sep_conv_3x3", 1),
        ("sep_conv_3x3", 4), ("max_pool_3x3", 1),
        ("sep_conv_3x3", 0), ("skip_connect", 1),
    ],
    normal_concat=range(2, 7),
    reduce=[
        ("sep_conv_5x5", 0), ("max_pool_3x3", 0),
        ("sep_conv_7x7", 1), ("max_pool_3x3", 1),
        ("sep_conv_5x5", 1), ("sep_conv_3x3", 1),
        ("sep_conv_3x3", 4), ("max_pool_3x3", 1),
        ("sep_conv_3x3", 0), ("skip_connect", 1),
    ],
    reduce_concat=range(2, 7),
)

# khanrc/pt.darts, README: searched on CIFAR-10.
PT_DARTS_cifar10 = Genotype(
    normal=[
        ("sep_conv_3x3", 0), ("dil_conv_5x5", 1),
        ("skip_connect", 0), ("dil_conv_3x3", 2),
        ("sep_conv_3x3", 1), ("skip_connect", 0),
        ("sep_conv_3x3", 1), ("skip_connect", 0),
    ],
    normal_concat=range(2, 6),
    reduce=[
        ("max_pool_3x3", 0), ("max_pool_3x3", 1),
        ("max_pool_3x3", 0), ("skip_connect", 2),
        ("skip_connect", 3), ("max_pool_3x3", 0),
        ("skip_connect", 2), ("max_pool_3x3", 0),
    ],
    reduce_concat=range(2, 6),
)

# khanrc/pt.darts, README: searched on Fashion-MNIST.
PT_DARTS_fashion_mnist = Genotype(
    normal=[
        ("max_pool_3x3", 0), ("dil_conv_5x5", 1),
        ("max_pool_3x3", 0), ("sep_conv_3x3", 1),
        ("sep_conv_5x5", 1), ("sep_conv_3x3", 3),
        ("sep_conv_5x5", 4), ("dil_conv_5x5", 3),
    ],
    normal_concat=range(2, 6),
    reduce=[
        ("sep_conv_3x3", 1), ("avg_pool_3x3", 0),
        ("avg_pool_3x3", 0), ("skip_connect", 2),
        ("skip_connect", 3), ("avg_pool_3x3", 0),
        ("sep_conv_3x3", 2), ("skip_connect", 3),
    ],
    reduce_concat=range(2, 6),
)

# khanrc/pt.darts, README: searched on MNIST.
PT_DARTS_mnist = Genotype(
    normal=[
        ("sep_conv_3x3", 0), ("dil_conv_5x5", 1),
        ("sep_conv_3x3", 2), ("sep_conv_3x3", 1),
        ("dil_conv_5x5", 3), ("sep_conv_3x3", 1),
        ("sep_conv_5x5", 4), ("dil_conv_5x5", 3),
    ],
    normal_concat=range(2, 6),
    reduce=[
        ("dil_conv_3x3", 0), ("sep_conv_3x3", 1),
        ("avg_pool_3x3", 0), ("skip_connect", 2),
        ("dil_conv_5x5", 3), ("avg_pool_3x3", 0),
        ("dil_conv_3x3", 1), ("max_pool_3x3", 0),
    ],
    reduce_concat=range(2, 6),
)

# Tutorial of microsoft/nni: first-order search of 50 epochs.
NNI_first_order = Genotype(
    normal=[
        ("sep_conv_3x3", 0), ("sep_conv_3x3", 1),
        ("sep_conv_3x3", 1), ("skip_connect", 0),
        ("sep_conv_3x3", 0), ("max_pool_3x3", 1),
        ("sep_conv_3x3", 0), ("sep_conv_3x3", 1),
    ],
    normal_concat=range(2, 6),
    reduce=[
        ("max_pool_3x3", 0), ("sep_conv_5x5", 1),
        ("dil_conv_5x5", 2), ("max_pool_3x3", 0),
        ("max_pool_3x3", 0), ("sep_conv_3x3", 2),
        ("max_pool_3x3", 0), ("skip_connect", 2),
    ],
    reduce_concat=range(2, 6),
)

# Tutorial of microsoft/nni: search of 10 epochs.
NNI_short = Genotype(
    normal=[
        ("sep_conv_3x3", 1), ("sep_conv_3x3", 0),
        ("sep_conv_3x3", 1), ("sep_conv_3x3", 2),
        ("sep_conv_3x3", 1), ("sep_conv_3x3", 0),
        ("sep_conv_3x3", 1), ("max_pool_3x3", 0),
    ],
    normal_concat=range(2, 6),
    reduce=[
        ("sep_conv_3x3", 0), ("sep_conv_3x3", 1),
        ("dil_conv_5x5", 2), ("sep_conv_3x3", 0),
        ("dil_conv_5x5", 2), ("sep_conv_5x5", 1),
        ("sep_conv_5x5", 4), ("dil_conv_5x5", 2),
    ],
    reduce_concat=range(2, 6),
)

# fmt: on

PUBLISHED: Mapping[str, Genotype] = MappingProxyType(
    {
        "DARTS_V1": DARTS_V1,
        "DARTS_V2": DARTS_V2,
        "XNAS": XNAS,
        "PC_DARTS_cifar": PC_DARTS_cifar,
        "PC_DARTS_image": PC_DARTS_image,
        "P_DARTS": P_DARTS,
        "DrNAS_cifar10": DrNAS_cifar10,
        "GDAS_V1": GDAS_V1,
        "SETN": SETN,
        "NASNet_A": NASNet_A,
        "AmoebaNet_A": AmoebaNet_A,
        "PNASNet": PNASNet,
        "PT_DARTS_cifar10": PT_DARTS_cifar10,
        "PT_DARTS_fashion_mnist": PT_DARTS_fashion_mnist,
        "PT_DARTS_mnist": PT_DARTS_mnist,
        "NNI_first_order": NNI_first_order,
        "NNI_short": NNI_short,
    }
)
"""Every genotype of this file by its name."""


def genotype_of(text: str) -> Genotype:
    """The published genotype of a name, or the one that a text prints, as ``Genotype(normal=[…], …)``.

    Raises:
        ValueError: For a name that nothing published has, naming the nearest, or a text that is no genotype.
    """
    if "(" in text:
        return Genotype.from_string(text)
    if text not in PUBLISHED:
        raise ValueError(f"no published architecture is called {text!r}. {did_you_mean(text, PUBLISHED)}")
    return PUBLISHED[text]
