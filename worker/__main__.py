"""`python -m worker scan` scans; `python -m worker house` relays and sweeps. SIGTERM stops either cleanly."""

import argparse
import logging
import sys

from shield import logs
from shield.errors import SettingsError, ShieldError
from shield.settings import Settings, settings

log = logging.getLogger(__name__)

VIEW_SIDE = 1024  # pixels; enough to judge a face by eye, and about 100 kB


def main() -> int:
    """Run one worker; its exit code."""
    parser = argparse.ArgumentParser(prog="python -m worker", description=__doc__)
    parser.add_argument("program", choices=("scan", "house"))
    program = parser.parse_args().program
    try:
        config = settings()
        logs.set_up(config.log_format, config.log_level)
        if config.egress_allow_loopback:
            log.warning(
                "SHIELD_EGRESS_ALLOW_LOOPBACK IS ON: ANY ACCOUNT CAN REACH THE PORTS OF THIS MACHINE; never in use"
            )
        return scan(config) if program == "scan" else house(config)
    except ShieldError as error:
        print(f"worker {program}: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 0


def scan(config: Settings) -> int:
    """Load the networks, then scan until told to stop."""
    from pipeline.images import DecodeLimits
    from pipeline.scan import Scanner, ScannerSettings
    from worker import app

    chosen = ScannerSettings(
        engine="torch" if config.engine == "torch" else "onnx",
        device=config.device,
        dtype=config.dtype,
        threads=config.threads,
        view_side=VIEW_SIDE,
        limits=DecodeLimits(max_bytes=config.max_image_bytes, max_pixels=config.max_image_pixels),
    )
    try:
        scanner = Scanner(chosen)
    except ModuleNotFoundError as error:
        if config.engine != "torch":
            raise
        raise SettingsError(
            f"the torch engine needs torch: {error.name} is not installed. Install pyproject.toml's dependency group"
            " `gpu`, or set SHIELD_ENGINE=onnx"
        ) from error
    with scanner:
        return app.run(scanner, scanner.card, config)


def house(config: Settings) -> int:
    """Relay and sweep until told to stop; the networks are not loaded."""
    from worker.house import run

    run(config)
    return 0


if __name__ == "__main__":
    sys.exit(main())
