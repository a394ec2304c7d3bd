"""Drawings of architectures and the report of a run. Drawing libraries are imported when they are used."""

from gradnas.report.card import result_card as result_card
from gradnas.report.cell_drawing import draw_cell as draw_cell
from gradnas.report.comparison import Comparison as Comparison
from gradnas.report.comparison import compare as compare
from gradnas.report.graph_text import to_dot as to_dot
from gradnas.report.graph_text import to_mermaid as to_mermaid
from gradnas.report.network_drawing import draw_network as draw_network
from gradnas.report.page import write_report as write_report
from gradnas.report.picture import draw as draw
