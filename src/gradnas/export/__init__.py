"""A network as files that need no gradnas."""

from gradnas.export.exporter import FORMATS as FORMATS
from gradnas.export.exporter import Exported as Exported
from gradnas.export.exporter import check_format as check_format
from gradnas.export.exporter import export as export
from gradnas.export.facts import NetworkFacts as NetworkFacts
from gradnas.export.form import GivenNetwork as GivenNetwork
from gradnas.export.samples import Samples as Samples
