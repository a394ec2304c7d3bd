"""Finalizers keep the winners of a search."""

from gradnas.finalizers.finalizers import Finalizers as Finalizers
from gradnas.finalizers.random_finalizers import RandomFinalizers as RandomFinalizers
