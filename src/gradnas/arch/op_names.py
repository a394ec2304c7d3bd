"""The operation names a genotype may put on the edge of a cell.

Names only, so that descriptions and genotypes can be read without importing torch. What each name computes, and from
which paper it comes, stands with the operation itself.

Source of the names: Liu et al., DARTS (ICLR 2019) and its repository quark0/darts; ``conv_3x1_1x3`` is the name of
D-X-Y/AutoDL-Projects. Order: ours, ``none`` last. Other libraries list the same names in another order, so convert an
alpha table by name, never by position.
"""

DARTS_PRIMITIVES: tuple[str, ...] = (
    "max_pool_3x3",
    "avg_pool_3x3",
    "skip_connect",
    "sep_conv_3x3",
    "sep_conv_5x5",
    "dil_conv_3x3",
    "dil_conv_5x5",
    "none",
)
"""The eight candidates of the DARTS cell space, in the order of every table of gradnas."""

CELL_OPS: tuple[str, ...] = (
    *DARTS_PRIMITIVES,
    "sep_conv_7x7",
    "conv_7x1_1x7",
    "conv_3x1_1x3",
    "identity",
    "convbnrelu_3x3",
    "convbnrelu_1x1",
)
"""Every operation name that may stand on a cell edge: the candidates above and those of the older published cells."""
