"""Data: named sets and files become tensors in memory, tensors become batches that are pure functions of the seed."""

from .augmentation import Augmentation as Augmentation
from .batches import BatchLoader as BatchLoader
from .batches import BatchPlan as BatchPlan
from .endless import EndlessBatches as EndlessBatches
from .facts import DataFacts as DataFacts
from .facts import published_facts as published_facts
from .imageset import ImageSet as ImageSet
from .load import dataset_names as dataset_names
from .load import load_data as load_data
from .loaders import DataLoaders as DataLoaders
from .mapstyle import MapStyle as MapStyle
from .mapstyle import from_dataset as from_dataset
from .normalization import Normalization as Normalization
from .source import DataSource as DataSource
from .splits import stratified_split as stratified_split
