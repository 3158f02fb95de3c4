"""Ask pip-audit whether anything in a lock has a known hole: `python scripts/audit.py requirements/runtime.txt`.

Exit code 1 for a hole that is known. What could not be asked about, for want of a network or of an advisory service, is
counted and named: it is no proof of anything.
"""

import json
import subprocess
import sys
from pathlib import Path

NAMED = 5  # packages that are named; the others are counted


def main(lock: Path) -> int:
    """Audit one lock."""
    line = (
        str(Path(sys.executable).with_name("pip-audit")),
        "-r",
        str(lock),
        "--disable-pip",
        "--require-hashes",
        "-f",
        "json",
    )
    done = subprocess.run(line, capture_output=True, text=True, check=False)
    if not done.stdout.startswith("{"):
        print(f"{lock}: pip-audit could not be run: {done.stderr.strip().splitlines()[-1:]}", file=sys.stderr)
        return 0 if "ConnectionError" in done.stderr or "ServiceError" in done.stderr else 1
    packages = json.loads(done.stdout)["dependencies"]
    unasked = [package["name"] for package in packages if "skip_reason" in package]
    holes = [(package, hole) for package in packages for hole in package.get("vulns", ())]
    for package, hole in holes:
        fixed = ", ".join(hole["fix_versions"]) or "no release yet"
        print(f"{package['name']} {package['version']}: {hole['id']}, mended in {fixed}")
    print(f"{lock}: {len(packages)} packages, {len(packages) - len(unasked)} asked about, {len(holes)} known holes")
    if unasked:
        more = f" and {len(unasked) - NAMED} more" if len(unasked) > NAMED else ""
        print(f"not asked about, the advisory service does not answer: {', '.join(unasked[:NAMED])}{more}")
    return 1 if holes else 0


if __name__ == "__main__":
    sys.exit(max(main(Path(name)) for name in sys.argv[1:]))
