"""An architecture that is given, not found."""

from gradnas.arch import ModelDesc, genotype_of
from gradnas.spaces import ModelDescBuilder


def given_desc(arch: str, space: ModelDescBuilder) -> ModelDesc:
    """The description of a given architecture at the size of its space, as a search would have found it.

    Args:
        arch: The name of a published genotype, or a printed one; without a reduction cell the network has none.
        space: The space that it is of.

    Raises:
        ValueError: For an unknown name, or a genotype that the space cannot build.
    """
    genotype = genotype_of(arch)
    return space.from_genotype(genotype) if genotype.reduce else space.from_genotype(genotype, reductions=0)
