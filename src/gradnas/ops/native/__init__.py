"""Operations in C, compiled once for the processor they run on; without a compiler everything works without them."""

from gradnas.ops.native.library import NoLibraryError as NoLibraryError
from gradnas.ops.native.library import find_library as find_library
from gradnas.ops.native.library import is_usable as is_usable
from gradnas.ops.native.normalize import Normalizing as Normalizing
from gradnas.ops.native.normalize import native_normalize as native_normalize
from gradnas.ops.native.normalize import native_normalize_gradients as native_normalize_gradients
from gradnas.ops.native.separable import native_separable as native_separable
from gradnas.ops.native.separable import native_separable_gradients as native_separable_gradients
