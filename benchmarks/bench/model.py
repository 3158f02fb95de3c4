"""The model level: images a second of each network, by engine and batch, and how near that comes to the cores' best."""

import statistics
from collections import defaultdict
from contextlib import ExitStack
from typing import Any

from benchmarks.bench.contender import contending
from benchmarks.bench.effort import Effort, progress
from benchmarks.bench.networks import NETWORKS, TFLITE, card_of
from training.bars import Bar

ENGINES = {"onnx": "ONNX Runtime", "onnx-int8": "ONNX Runtime, int8", "torch": "torch, eager", "litert": "LiteRT"}


def measure(effort: Effort) -> tuple[dict[str, Any], list[Bar]]:
    """The record and its bars: what is compared runs in turn, and ratios are within a round."""
    rates: dict[tuple[str, int, str], list[float]] = defaultdict(list)
    peaks: list[float] = []
    with ExitStack() as stack:
        engines = {name: stack.enter_context(contending(name)) for name in ENGINES}
        gflop = {network: engines["torch"].ask("gflop", network=network) for network in NETWORKS}
        for number in range(effort.rounds):
            progress(f"model level, round {number + 1} of {effort.rounds}")
            peaks.append(max(engines[name].ask("peak", seconds=effort.seconds) for name in ("onnx", "torch")))
            for network in NETWORKS:
                for batch in effort.batches:
                    for name, engine in engines.items():
                        if has(name, network):
                            asked = {"network": network, "batch": batch, "seconds": effort.seconds}
                            rates[network, batch, name].append(engine.ask("rate", **asked))
    rows = [
        {
            "network": network,
            "batch": batch,
            "engine": ENGINES[name],
            "images_per_second": statistics.median(found),
            "of_peak": statistics.median(found) * gflop[network] / max(peaks),
        }
        for (network, batch, name), found in rates.items()
    ]
    bars = [
        Bar(f"{network.replace('-', '_')}_over_litert", _over_litert(rates, network, effort), 0.9, aim=1.2)
        for network in TFLITE
    ]
    return {"sgemm_gflops": max(peaks), "gflop_per_image": gflop, "rows": rows}, bars


def has(engine: str, network: str) -> bool:
    """Whether there is a file of this network for this engine."""
    return {"litert": network in TFLITE, "onnx-int8": "onnx-int8" in card_of(network).files}.get(engine, True)


def _over_litert(rates: dict[tuple[str, int, str], list[float]], network: str, effort: Effort) -> float:
    """ONNX Runtime at its best batch over LiteRT at its best batch: the median over the rounds."""
    best = {
        name: [max(rates[network, batch, name][number] for batch in effort.batches) for number in range(effort.rounds)]
        for name in ("onnx", "litert")
    }
    return statistics.median(ours / theirs for ours, theirs in zip(best["onnx"], best["litert"], strict=True))
