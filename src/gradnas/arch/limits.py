"""How large the parts of a description may be: far beyond any network, far below what would exhaust a machine.

They are checked where a description or its settings are made, before anything of that size is.
"""

MAX_CHANNELS = 2**20
"""Channels of a feature map, classes included."""

MAX_SIDE = 2**16
"""Height and width of a feature map in pixels."""

MAX_CELLS = 1000
"""Cells of a network."""

MAX_NODES = 100
"""Nodes of a cell."""

MAX_NODES_OF_ALL_CELLS = 10_000
"""Nodes of all cells together: their edges grow with the square of the nodes of a cell."""

MAX_INPUTS = 1000
"""Tensors that one op reads."""

MAX_INTEGER = 2**63 - 1
"""Any whole number among the parameters of an op."""
