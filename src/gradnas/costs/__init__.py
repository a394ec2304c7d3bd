"""What a network costs."""

from gradnas.costs.available import AvailableMemory as AvailableMemory
from gradnas.costs.available import available_memory as available_memory
from gradnas.costs.counts import count_macs as count_macs
from gradnas.costs.counts import count_params as count_params
from gradnas.costs.latency import Latency as Latency
from gradnas.costs.latency import Throughput as Throughput
from gradnas.costs.latency import measure_latency as measure_latency
from gradnas.costs.latency import measure_throughput as measure_throughput
from gradnas.costs.memory import MemoryModel as MemoryModel
from gradnas.costs.memory import MemoryTracer as MemoryTracer
from gradnas.costs.pareto import pareto_front as pareto_front
from gradnas.costs.peak_memory import PeakMemory as PeakMemory
