"""Training and testing of networks."""

from gradnas.training.checkpoint import CheckPoint as CheckPoint
from gradnas.training.checkpoint import checkpoint_empty as checkpoint_empty
from gradnas.training.checkpoint import create_checkpoint as create_checkpoint
from gradnas.training.deterministic import deterministic_algorithms as deterministic_algorithms
from gradnas.training.finite import NotFiniteError as NotFiniteError
from gradnas.training.listener import Listener as Listener
from gradnas.training.listener import Progress as Progress
from gradnas.training.listener import Silence as Silence
from gradnas.training.metrics import EpochRecord as EpochRecord
from gradnas.training.metrics import Metrics as Metrics
from gradnas.training.metrics import Score as Score
from gradnas.training.metrics import ScoreSums as ScoreSums
from gradnas.training.multi_optim import MultiOptim as MultiOptim
from gradnas.training.multi_optim import OptimSched as OptimSched
from gradnas.training.multi_optim import create_optimizer as create_optimizer
from gradnas.training.multi_optim import create_scheduler as create_scheduler
from gradnas.training.settings import WATCHING as WATCHING
from gradnas.training.settings import OptimConf as OptimConf
from gradnas.training.settings import TrainConf as TrainConf
from gradnas.training.step_graph import StepGraph as StepGraph
from gradnas.training.stopping import Interrupted as Interrupted
from gradnas.training.stopping import Stop as Stop
from gradnas.training.stopping import Terminated as Terminated
from gradnas.training.tester import Tester as Tester
from gradnas.training.trainer import Trainer as Trainer
from gradnas.training.trainer import steps_per_epoch as steps_per_epoch
