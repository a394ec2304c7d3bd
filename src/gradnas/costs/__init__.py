"""What a network costs."""

from gradnas.costs.counts import count_macs as count_macs
from gradnas.costs.counts import count_params as count_params
