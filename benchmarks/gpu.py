"""The model and the pipeline level on a GPU: `python -m benchmarks.gpu` prints the tables of `make bench` for it.

For each number type the torch engine's images a second, by network and batch, with the share of the product of two
large matrices on the same device in float32; then the whole scanner on the photos of `make bench`. It needs the
dependency groups `runtime` and `gpu`. Without a CUDA device it says so and ends with 2; `--device cpu` shows that it
runs.
"""

import argparse
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.bench import table
from benchmarks.bench.effort import FULL, TINY, Effort, progress
from benchmarks.bench.networks import NETWORKS, SQUARE, card_of, images_per_second, random_pixels
from benchmarks.bench.photos import NoDataError, photos_of
from pipeline.engine import Engine, NoDeviceError
from pipeline.scan import Scanner, ScannerSettings
from pipeline.tuning import tuned

if TYPE_CHECKING:
    import torch

DTYPES = ("float32", "float16", "bfloat16")
TUNING = Path("var/bench/tuning.json")


def device_of(name: str) -> "torch.device":
    """The device of this name. Raises NoDeviceError without torch, or where there is no such device."""
    try:
        from pipeline.torch_engine import find_device
    except ModuleNotFoundError as error:
        raise NoDeviceError(f"{error.name} is not installed: add pyproject.toml's dependency group `gpu`") from error
    return find_device(name)


def peak(device: "torch.device", seconds: float) -> float:
    """GFLOP a second of a product of square matrices in single precision."""
    import torch

    left, right = torch.rand(2, SQUARE, SQUARE, device=device)

    def product() -> float:
        return float((left @ right)[0, 0])  # which is waited for

    return images_per_second(product, 1, seconds) * 2 * SQUARE**3 / 1e9


def networks(device: "torch.device", effort: Effort, dtypes: tuple[str, ...]) -> dict[str, Any]:
    """The record of the model level."""
    from benchmarks.bench.networks import Torch
    from pipeline.torch_engine import TorchEngine

    gflops = peak(device, effort.seconds)
    per_image = {network: Torch().gflop(network) for network in NETWORKS}
    rows = []
    for network in NETWORKS:
        progress(f"model level, {network}")
        engines: dict[str, Engine] = {d: TorchEngine(card_of(network), str(device), d) for d in dtypes}
        for batch in effort.batches:
            pixels = random_pixels(card_of(network), batch)
            for dtype, engine in engines.items():
                engine.images = batch
                rate = images_per_second(lambda run=engine.run, p=pixels: run(p), batch, effort.seconds)  # type: ignore[misc]
                share = rate * per_image[network] / gflops
                facts = {"network": network, "batch": batch, "engine": f"torch, {dtype}"}
                rows.append({**facts, "images_per_second": rate, "of_peak": share})
    return {"sgemm_gflops": gflops, "gflop_per_image": per_image, "rows": rows}


def scanner(device: "torch.device", effort: Effort, dtypes: tuple[str, ...]) -> table.Table:
    """The pipeline level: the best of the rounds for each kind of photo. Raises NoDataError."""
    rows = []
    for dtype in dtypes:
        settings = tuned(ScannerSettings(engine="torch", device=str(device), dtype=dtype), TUNING)
        with Scanner(settings) as scanner:
            for kind in effort.kinds:
                progress(f"pipeline level, {dtype}, {kind.name}")
                photos = [path.read_bytes() for path in photos_of(kind)[: effort.photos]]
                faces = sum(len(scan.faces) for scan in scanner.scan(photos)) / len(photos)  # warms up
                rates = [images_per_second_of(scanner, photos) for _ in range(effort.rounds)]
                rows.append((f"{kind.name}, {dtype}", f"{faces:.2f}", f"{max(rates):.1f}"))
    note = "Images a second of the scanner, decoding on the CPU and the networks on the device."
    return table.Table("The pipeline", note, ("photos", "faces found", "scanner"), rows)


def images_per_second_of(scanner: Scanner, photos: list[bytes]) -> float:
    """How many images a second one scan of these takes in."""
    began = time.perf_counter()
    return len(list(scanner.scan(photos))) / (time.perf_counter() - began)


def main() -> int:
    """Run the command; 2 where there is no device, no torch or no data."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gpu", description=__doc__)
    parser.add_argument("--device", default="cuda", help="as torch names it")
    parser.add_argument("--dtypes", nargs="+", choices=DTYPES, default=DTYPES)
    parser.add_argument("--tiny", action="store_true", help="show that it runs; no figure means anything")
    args = parser.parse_args()
    effort, dtypes = TINY if args.tiny else FULL, tuple(args.dtypes)
    try:
        device = device_of(args.device)
        found = [*table.tables({"model": networks(device, effort, dtypes)}), scanner(device, effort, dtypes)]
    except (NoDeviceError, NoDataError) as error:
        print(f"benchmarks.gpu: nothing was measured: {error}", file=sys.stderr)
        return 2
    print("\n\n".join(one.text() for one in found))
    return 0


if __name__ == "__main__":
    sys.exit(main())
