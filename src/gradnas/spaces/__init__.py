"""Spaces say which descriptions exist."""

from gradnas.spaces.builder import ModelDescBuilder as ModelDescBuilder
from gradnas.spaces.builder import with_changes as with_changes
from gradnas.spaces.darts import DartsSpace as DartsSpace
from gradnas.spaces.genotype_builder import GenotypeBuilder as GenotypeBuilder
