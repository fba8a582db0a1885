"""Speed of the networks on one 1024 map: full precision, and on a GPU half precision and CUDA graphs as well."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from importlib.util import find_spec

import torch
from torch import Tensor, nn

from splathead.benchmarks.raster import SpeedRow, best_seconds
from splathead.config import ModelConfig
from splathead.guides import guide_channels
from splathead.models import architecture_for, create_network, network_guides
from splathead.models.interpolation import compiled

SIZE, SCALE = 1024, 4
NETWORKS = {
    "UNet base 32": ModelConfig(base_ch=32),
    "UNet base 8": ModelConfig(base_ch=8),
    "SplatHead": ModelConfig(name="splathead", base="limited", range_mm=140.0),
}
"""The published UNet, the quick run's, and ours as it is shipped (its time is the same with guides and with zeros in their
place)"""
WARM_UP = 3
COMPILED = "inference fp16, compiled, CUDA graph"


@torch.no_grad()
def inference_rows(budget: float, device: torch.device) -> list[SpeedRow]:
    """One row per network and way of running it; ratios are to the published UNet run the same way."""
    rows: list[SpeedRow] = []
    for name, settings in NETWORKS.items():
        torch.manual_seed(0)
        network = create_network(settings.name, architecture_for(settings, scale=SCALE, target="surface")).to(device).eval()
        inputs = [torch.rand(1, 1, SIZE // SCALE, SIZE // SCALE, device=device)]
        if network_guides(settings):
            inputs.append(torch.rand(1, guide_channels(network_guides(settings)), SIZE, SIZE, device=device))
        measured = {"inference": best_seconds(partial(_run, network, inputs), budget)}
        if device.type == "cuda":
            measured |= _half_seconds(network, inputs, budget)
        rows += [_row(name, phase, seconds, rows) for phase, seconds in measured.items()]
    return rows


def _row(name: str, phase: str, seconds: float | None, before: Sequence[SpeedRow]) -> SpeedRow:
    """The row of one measurement, with its ratio to the first of the same phase in the rows ``before`` it."""
    workload = f"{SIZE // SCALE} to {SIZE}, a map"
    if seconds is None:
        return SpeedRow(workload, name, phase, None, note="needs the package triton")
    first = next((row for row in before if row.phase == phase and row.seconds), None)
    ratio = {} if first is None else {"ratio": first.seconds / seconds, "ratio_to": first.method}
    return SpeedRow(workload, name, phase, seconds, **ratio)


def _half_seconds(network: nn.Module, inputs: list[Tensor], budget: float) -> dict[str, float | None]:
    """Seconds of a map for each way of running a network in half precision on a GPU; None for one that lacks a package.

    A network with an ``in_half`` of its own runs as that copy, and compiled as well; any other under autocast.
    """
    own = getattr(network, "in_half", None)
    half = own() if own else network
    found: dict[str, float | None] = {}
    # one context around all runs: autocast casts a network's weights in the first and keeps them until the context ends
    with torch.autocast(inputs[0].device.type, torch.float16, enabled=own is None):
        found["inference fp16"] = best_seconds(partial(_run, half, inputs), budget)
        found["inference fp16, CUDA graph"] = best_seconds(_in_graph(half, inputs), budget)
        if own and find_spec("triton"):  # compiling takes a minute
            found[COMPILED] = best_seconds(_in_graph(compiled(half, fullgraph=True), inputs), budget)
        elif own:
            found[COMPILED] = None
    return found


def _run(network: nn.Module, inputs: list[Tensor]) -> None:
    """One run, waited for."""
    network(*inputs)
    if inputs[0].is_cuda:
        torch.cuda.synchronize()


def _in_graph(network: nn.Module, inputs: list[Tensor]) -> Callable[[], None]:
    """The network's run captured in a CUDA graph."""
    graph, side = torch.cuda.CUDAGraph(), torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):  # what is set up at the first run must not be captured
        for _ in range(WARM_UP):
            network(*inputs)
    torch.cuda.current_stream().wait_stream(side)
    with torch.cuda.graph(graph):
        network(*inputs)

    def replay() -> None:
        graph.replay()
        torch.cuda.synchronize()

    return replay
