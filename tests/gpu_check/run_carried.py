"""Unpack what gpu_check.carry packed, beside this file, and run the GPU check on it. Standard library alone.

python3 run_carried.py [--site FOLDER] [options of gpu_check]
"""

import argparse
import io
import lzma
import os
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Sequence
from pathlib import Path

OFFLINE = {
    "HF_HUB_OFFLINE": "1",  # nothing can be fetched there; without it Transformers waits for time-outs
    "VLLM_NO_USAGE_STATS": "1",
    "VLLM_USE_FLASHINFER_SAMPLER": "0",  # FlashInfer is not packed
}


class _Parts(io.RawIOBase):
    """The parts read as one file."""

    def __init__(self, parts: Sequence[Path]) -> None:
        self._files = [part.open("rb") for part in parts]

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        while self._files:
            if count := self._files[0].readinto(buffer):
                return count
            self._files.pop(0).close()
        return 0


def unpack(folder: Path, site: Path) -> None:
    """Extract `folder`/carry.tar.xz.NN into `site`. Raises FileNotFoundError if there are none."""
    parts = sorted(folder.glob("carry.tar.xz.*"))
    if not parts:
        raise FileNotFoundError(f"no carry.tar.xz.NN in {folder}; pack them with gpu_check.carry")
    with lzma.open(io.BufferedReader(_Parts(parts))) as stream, tarfile.open(fileobj=stream, mode="r|") as tar:
        tar.extractall(site, filter="data")


def main() -> int:
    """Exit code of the check."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    default = Path(tempfile.gettempdir()) / "gpu-check-site"
    parser.add_argument("--site", type=Path, default=default, help="where to unpack (default: %(default)s)")
    options, arguments = parser.parse_known_args()
    if not (options.site / "gpu_check").is_dir():
        unpack(Path(__file__).resolve().parent, options.site)
    path = os.pathsep.join(filter(None, [str(options.site), os.environ.get("PYTHONPATH")]))
    environment = {**OFFLINE, **os.environ, "PYTHONPATH": path}
    return subprocess.run([sys.executable, "-m", "gpu_check", *arguments], env=environment, check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
