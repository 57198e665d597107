"""What the check runs on: the GPU, its driver, and the versions of the packages that matter."""

import importlib.metadata
import platform
import subprocess

PACKAGES = ("vllm", "torch", "transformers", "triton", "ray")

_SMI = ("nvidia-smi", "--query-gpu=name,memory.total,driver_version", "--format=csv,noheader")


def gpus() -> list[str]:
    """One line for each GPU: name, memory, driver; or why nvidia-smi cannot be run."""
    try:
        shown = subprocess.run(_SMI, capture_output=True, text=True, timeout=30, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        return [f"nvidia-smi does not run: {error}"]
    if shown.returncode:
        return [f"nvidia-smi failed: {(shown.stdout + shown.stderr).strip()}"]
    return shown.stdout.strip().splitlines()


def versions() -> str:
    """Python and the packages, on one line."""
    found = [f"Python {platform.python_version()}"]
    for package in PACKAGES:
        try:
            found.append(f"{package} {importlib.metadata.version(package)}")
        except importlib.metadata.PackageNotFoundError:
            found.append(f"no {package}")
    return ", ".join(found)
