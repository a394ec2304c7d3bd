"""Architectures as plain, immutable data. Needs the standard library only."""

from gradnas.arch.cell_desc import AuxTowerDesc as AuxTowerDesc
from gradnas.arch.cell_desc import CellDesc as CellDesc
from gradnas.arch.cell_desc import CellType as CellType
from gradnas.arch.cell_desc import EdgeDesc as EdgeDesc
from gradnas.arch.cell_desc import NodeDesc as NodeDesc
from gradnas.arch.convert import concat_ids as concat_ids
from gradnas.arch.genotype import Genotype as Genotype
from gradnas.arch.model_desc import ModelDesc as ModelDesc
from gradnas.arch.op_desc import OpDesc as OpDesc
from gradnas.arch.op_names import CELL_OPS as CELL_OPS
from gradnas.arch.op_names import DARTS_PRIMITIVES as DARTS_PRIMITIVES
from gradnas.arch.params import ConvMacroParams as ConvMacroParams
from gradnas.arch.params import Params as Params
from gradnas.arch.published import PUBLISHED as PUBLISHED
from gradnas.arch.settings import CellConf as CellConf
from gradnas.arch.settings import DatasetConf as DatasetConf
from gradnas.arch.settings import ModelDescConf as ModelDescConf
from gradnas.arch.settings import StemsConf as StemsConf
from gradnas.arch.shapes import Shape as Shape
from gradnas.arch.text import candidates as candidates
from gradnas.arch.text import distinct_cells as distinct_cells
from gradnas.arch.text import op_call as op_call
from gradnas.arch.text import op_text as op_text
from gradnas.arch.text import size_text as size_text
from gradnas.arch.text import state_name as state_name
from gradnas.arch.text import wiring as wiring
