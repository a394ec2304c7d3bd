"""Data: named sets and files become tensors in memory or streams, and these batches that are functions of the seed."""

from .augmentation import Augmentation as Augmentation
from .batches import BatchLoader as BatchLoader
from .batches import BatchPlan as BatchPlan
from .class_balance import ClassBalance as ClassBalance
from .class_balance import class_balance as class_balance
from .endless import EndlessBatches as EndlessBatches
from .facts import DataFacts as DataFacts
from .facts import published_facts as published_facts
from .imageset import ImageSet as ImageSet
from .labeled_images import LabeledImages as LabeledImages
from .load import dataset_names as dataset_names
from .load import load_data as load_data
from .load import load_with as load_with
from .loaders import DataLoaders as DataLoaders
from .mapstyle import MapStyle as MapStyle
from .mapstyle import from_dataset as from_dataset
from .normalization import Normalization as Normalization
from .options import LoadOptions as LoadOptions
from .source import DataSource as DataSource
from .splits import stratified_split as stratified_split
from .streamed import StreamedSet as StreamedSet
