"""Drawings of architectures and the report of a run. Drawing libraries are imported when they are used."""

from gradnas.report.card import result_card as result_card
from gradnas.report.cell_drawing import draw_cell as draw_cell
from gradnas.report.network_drawing import draw_network as draw_network
from gradnas.report.page import write_report as write_report
from gradnas.report.picture import draw as draw
