"""Drawings of architectures and the report of a run. Drawing libraries are imported when they are used."""

from gradnas.report.comparison.compare import Comparison as Comparison
from gradnas.report.comparison.compare import compare as compare
from gradnas.report.drawing.cell_drawing import draw_cell as draw_cell
from gradnas.report.drawing.graph_text import to_dot as to_dot
from gradnas.report.drawing.graph_text import to_mermaid as to_mermaid
from gradnas.report.drawing.network_drawing import draw_network as draw_network
from gradnas.report.drawing.picture import draw as draw
from gradnas.report.run_page.card import result_card as result_card
from gradnas.report.run_page.grid_chart import draw_grid as draw_grid
from gradnas.report.run_page.page import write_report as write_report
