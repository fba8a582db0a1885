"""Speed of the networks on one 1024 map: full precision, and on a GPU half precision and CUDA graphs as well."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from importlib.util import find_spec

import torch
from torch import Tensor, nn

from splathead.benchmarks.raster import SpeedRow, best_seconds
from splathead.config import ModelConfig
from splathead.guides import guide_channels
from splathead.models import architecture_for, create_network, network_guides

SIZE, SCALE = 1024, 4
NETWORKS = {
    "UNet base 32": ModelConfig(base_ch=32),
    "UNet base 8": ModelConfig(base_ch=8),
    "SplatHead": ModelConfig(name="splathead", base="limited", range_mm=140.0),
}
"""The published UNet, the quick run's, and ours as it is shipped (its time is the same with guides and with zeros in their
place)"""
WARM_UP = 3


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
        for phase, run in _ways(network, inputs):
            first = next((row for row in rows if row.phase == phase), None)
            seconds = best_seconds(run, budget)
            ratio = {} if first is None else {"ratio": first.seconds / seconds, "ratio_to": first.method}
            rows.append(SpeedRow(f"{SIZE // SCALE} to {SIZE}, a map", name, phase, seconds, **ratio))
    return rows


def _ways(network: nn.Module, inputs: list[Tensor]) -> Iterator[tuple[str, Callable[[], None]]]:
    """How a network can be run, each as a function that waits for its result; to be called before the next one is asked for."""

    def eager() -> None:
        network(*inputs)
        if inputs[0].is_cuda:
            torch.cuda.synchronize()

    yield "inference", eager
    if not inputs[0].is_cuda:
        return
    own = getattr(network, "in_half", None)
    network = own() if own else network
    # one context around all runs: autocast casts a network's weights in the first and keeps them, as in_half does
    with torch.autocast("cuda", torch.float16, enabled=own is None):
        yield "inference fp16", eager
        yield "inference fp16, CUDA graph", _in_graph(network, inputs)
        if own and find_spec("triton"):  # compiling takes a minute
            yield "inference fp16, compiled, CUDA graph", _in_graph(torch.compile(network, fullgraph=True), inputs)


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
