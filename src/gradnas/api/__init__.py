"""The ten-line path: search, retrain, load; and train, for what was designed by hand."""

from gradnas.api.folders import free_folder as free_folder
from gradnas.api.inputs import Data as Data
from gradnas.api.resuming import resume as resume
from gradnas.api.retraining import given_architecture as given_architecture
from gradnas.api.retraining import retrain as retrain
from gradnas.api.running import load as load
from gradnas.api.running import run as run
from gradnas.api.searching import search as search
from gradnas.api.training import train as train
