"""Operations in C, compiled once for the processor they run on; without a compiler everything works without them."""

from gradnas.ops.native.chains import Chains as Chains
from gradnas.ops.native.chains import ChainStage as ChainStage
from gradnas.ops.native.chains import StageWeights as StageWeights
from gradnas.ops.native.chains import native_chains as native_chains
from gradnas.ops.native.chains import native_chains_gradients as native_chains_gradients
from gradnas.ops.native.columns import NormWeights as NormWeights
from gradnas.ops.native.library import NoLibraryError as NoLibraryError
from gradnas.ops.native.library import find_library as find_library
from gradnas.ops.native.library import is_usable as is_usable
from gradnas.ops.native.pools import Pool as Pool
from gradnas.ops.native.pools import PoolKind as PoolKind
from gradnas.ops.native.pools import native_pool as native_pool
from gradnas.ops.native.pools import native_pool_gradients as native_pool_gradients
