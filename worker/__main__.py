"""`python -m worker scan` scans; `python -m worker house` relays and sweeps. SIGTERM stops either cleanly.

`python -m worker scan --share 1/2` scans on the first half of the cores alone.
"""

import argparse
import logging
import os
import sys

from shield import logs
from shield.errors import SettingsError, ShieldError
from shield.settings import Settings, settings

log = logging.getLogger(__name__)

GROUP_SECONDS = 0.1  # that whoever waits for one image waits for the group of a bulk job in hand, and seldom more
VIEW_SIDE = 1024  # pixels; enough to judge a face by eye, and about 100 kB


def main() -> int:
    """Run one worker; its exit code."""
    parser = argparse.ArgumentParser(prog="python -m worker", description=__doc__)
    parser.add_argument("program", choices=("scan", "house"))
    parser.add_argument("--share", type=_share, default=(1, 1), metavar="N/OF", help="of the cores, for `scan`")
    args = parser.parse_args()
    try:
        config = settings()
        logs.set_up(config.log_format, config.log_level)
        if config.egress_allow_loopback:
            log.warning(
                "SHIELD_EGRESS_ALLOW_LOOPBACK IS ON: ANY ACCOUNT CAN REACH THE PORTS OF THIS MACHINE; never in use"
            )
        return scan(config, *args.share) if args.program == "scan" else house(config)
    except ShieldError as error:
        print(f"worker {args.program}: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 0


def scan(config: Settings, number: int = 1, of: int = 1) -> int:
    """Load the networks, then scan until told to stop, on the cores of this share alone."""
    from pipeline.engine import NoDeviceError
    from pipeline.images import DecodeLimits
    from pipeline.scan import Scanner, ScannerSettings
    from pipeline.tuning import tuned
    from worker import app

    share = _take_share(number, of)
    chosen = ScannerSettings(
        engine=config.engine if config.device == "cpu" else "torch",
        device=config.device,
        dtype=config.dtype,
        threads=config.threads or share,
        view_side=VIEW_SIDE,
        group_seconds=GROUP_SECONDS,
        limits=DecodeLimits(max_bytes=config.max_image_bytes, max_pixels=config.max_image_pixels),
    )
    try:
        scanner = Scanner(tuned(chosen, config.home / "tuning.json"))
    except ModuleNotFoundError as error:
        if chosen.engine != "torch":
            raise
        raise SettingsError(
            f"the torch engine needs torch: {error.name} is not installed. Install pyproject.toml's dependency group"
            " `gpu`, or set SHIELD_ENGINE=onnx and SHIELD_DEVICE=cpu"
        ) from error
    except NoDeviceError as error:
        raise SettingsError(f"SHIELD_DEVICE={config.device}: {error}") from error
    with scanner:
        return app.run(scanner, scanner.card, config)


def house(config: Settings) -> int:
    """Relay and sweep until told to stop; the networks are not loaded."""
    from worker.house import run

    run(config)
    return 0


def _share(text: str) -> tuple[int, int]:
    """Of "2/3" the two numbers. Raises ValueError."""
    number, of = map(int, text.split("/"))
    if not 1 <= number <= of:
        raise ValueError(text)
    return number, of


def _take_share(number: int, of: int) -> int:
    """Keep this process to its share of the cores that it may use; how many threads suit it, 0 for one a core.

    Where there are fewer cores than shares, or processes cannot be pinned, it is kept to nothing.
    """
    if of == 1:
        return 0
    if not hasattr(os, "sched_setaffinity"):
        return max(1, (os.cpu_count() or 1) // of)
    cores = sorted(os.sched_getaffinity(0))
    if len(cores) < of:
        return 1
    os.sched_setaffinity(0, cores[(number - 1) * len(cores) // of : number * len(cores) // of])
    return 0


if __name__ == "__main__":
    sys.exit(main())
