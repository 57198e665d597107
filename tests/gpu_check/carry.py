"""Pack the GPU check for a machine without a network, as files of at most --part-mib MiB.

    PYTHONPATH=tests python -m gpu_check.carry out/gpu-carry          # here: needs a network and about 2 GB of disk
    python3 out/gpu-carry/run_carried.py [options of gpu_check]       # there: needs Python 3.12 and torch 2.11 alone

The machine is expected to have Python 3.12, torch 2.11 (CUDA 13.0), transformers 5.17, a C compiler and the common
scientific packages. vLLM's wheel holds kernels for every model and every GPU; a Qwen2 model on Hopper (compute
capability 9.0) needs a tenth of it. Ray is not packed: the step that runs the whole job reports that it is missing.
"""

import argparse
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from collections.abc import Iterable
from pathlib import Path

from gpu_check.fat_binaries import keep_architecture

VLLM = "vllm==0.26.0"
"""The newest vLLM for torch 2.11."""

KERNELS = frozenset(
    {
        "vllm/_C_stable_libtorch.abi3.so",
        "vllm/spinloop.abi3.so",
        "vllm/vllm_flash_attn/_vllm_fa3_C.abi3.so",
    }
)
"""vLLM's own operations, its spin lock, and FlashAttention 3, which it uses on Hopper."""

UNNEEDED = (".so", ".js", ".css", ".jpg", ".h", ".hpp", ".cuh", ".cu", "vllm-rs")
"""Endings of files in vLLM's wheel that an engine without an HTTP server does not read, unless listed in KERNELS."""

PACKAGES = (
    "annotated-doc==0.0.7",
    "annotated-types==0.8.0",
    "apache-tvm-ffi==0.1.10",
    "blake3==1.0.11",
    "cachetools==8.0.2",
    "cbor2==6.3.0",
    "compressed-tensors==0.17.0",
    "fastapi==0.136.3",
    "httpcore2==2.16.2",
    "httpx2==2.16.2",
    "jiter==0.19.0",
    "jsonschema==4.26.0",
    "jsonschema-specifications==2025.9.1",
    "llguidance==1.7.6",
    "loguru==0.7.3",
    "msgspec==0.22.0",
    "openai==3.57.0",
    "openai-harmony==0.0.8",
    "pybase64==1.5.1",
    "pydantic==2.14.4",
    "pydantic-core==2.50.5",
    "pyzmq==27.3.0",
    "referencing==0.37.0",
    "rpds-py==2026.9.1",
    "sniffio==1.3.1",
    "starlette==1.10.0",
    "truststore==0.10.5",
    "typing-inspection==0.4.5",
    "xgrammar==0.2.7",
)
"""What vLLM imports to start an engine and what the machine does not have."""

GLIBC_MINORS = range(39, 4, -1)
"""The machine's glibc is 2.39 or newer (Ubuntu 24.04); pip must be told each older one that wheels may name."""

TARGET = (
    "--only-binary=:all:",
    "--no-deps",
    "--implementation=cp",
    "--python-version=3.12",
    *(f"--platform=manylinux_2_{minor}_x86_64" for minor in GLIBC_MINORS),
    *(f"--platform=manylinux{year}_x86_64" for year in (2014, 2010, 1)),
)
"""Options with which pip chooses wheels for the machine, whatever Python runs this script."""

ARCHITECTURE = 90
"""Compute capability 9.0: H100, H200."""

REPOSITORY = Path(__file__).resolve().parents[2]


def is_needed(name: str) -> bool:
    """Whether a file of vLLM's wheel is packed."""
    return name in KERNELS or not (name.endswith(UNNEEDED) or "/include/" in name or name.endswith("/"))


def download(site: Path, all_gpus: bool) -> None:
    """Put vLLM without its unneeded files and kernels, and its missing packages, into `site`."""
    with tempfile.TemporaryDirectory() as folder:
        _pip("download", "--dest", folder, VLLM)
        (wheel,) = Path(folder).glob("vllm-*.whl")
        with zipfile.ZipFile(wheel) as archive:
            archive.extractall(site, [name for name in archive.namelist() if is_needed(name)])
    for name in () if all_gpus else KERNELS:
        library = site / name
        library.write_bytes(keep_architecture(library.read_bytes(), ARCHITECTURE))
    _pip("install", "--no-compile", "--target", str(site), "--upgrade", *PACKAGES)


def copy_project(site: Path) -> None:
    """Put the package, the check and the stubs for a dry run into `site`."""
    ignored = shutil.ignore_patterns("__pycache__", "test_*.py")
    for folder in ("pipeline/corpus_reranker", "tests/gpu_check", "tests/gpu_build"):
        shutil.copytree(REPOSITORY / folder, site / Path(folder).name, ignore=ignored, dirs_exist_ok=True)


def split(file: Path, part_bytes: int) -> list[Path]:
    """Cut `file` into FILE.00, FILE.01, ... of at most `part_bytes` bytes each, and delete it."""
    parts: list[Path] = []
    with file.open("rb") as source:
        while content := source.read(part_bytes):
            parts.append(file.with_name(f"{file.name}.{len(parts):02}"))
            parts[-1].write_bytes(content)
    file.unlink()
    return parts


def pack(site: Path, output: Path, part_bytes: int) -> list[Path]:
    """Compress `site` into `output`/carry.tar.xz.NN and put the script that unpacks it beside them."""
    output.mkdir(parents=True, exist_ok=True)
    for old in output.glob("carry.tar.xz*"):
        old.unlink()
    archive = output / "carry.tar.xz"
    with tarfile.open(archive, "w:xz") as tar:
        for path in sorted(site.iterdir()):
            tar.add(path, path.name)
    runner = shutil.copy(Path(__file__).with_name("run_carried.py"), output)
    return [*split(archive, part_bytes), Path(runner)]


def _pip(command: str, *arguments: str) -> None:
    subprocess.run([sys.executable, "-m", "pip", command, "--quiet", *TARGET, *arguments], check=True, timeout=1800)


def main(arguments: Iterable[str] | None = None) -> None:
    """Download, reduce, pack, and print each file's size."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("output", type=Path, help="folder of the packed files; files of an earlier pack are replaced")
    parser.add_argument("--part-mib", type=int, default=60, help="size of the largest file (default: %(default)s)")
    parser.add_argument("--all-gpus", action="store_true", help="keep kernels for GPUs other than Hopper's")
    options = parser.parse_args(None if arguments is None else list(arguments))
    with tempfile.TemporaryDirectory() as folder:
        site = Path(folder)
        download(site, options.all_gpus)
        copy_project(site)
        for file in pack(site, options.output, options.part_mib * 2**20):
            print(f"{file}: {file.stat().st_size / 2**20:.1f} MiB")


if __name__ == "__main__":
    main()
