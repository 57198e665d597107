"""A machine with GPUs, as far as libraries can tell: the NVIDIA driver stubs and what PyTorch answers beside them.

The stubs make vLLM's CUDA build choose its CUDA platform, load its extensions and build its configs. They cannot run a
kernel; `stub_worker` therefore replaces the worker that holds the model.
"""

import ctypes
import os
import shutil
import subprocess
from pathlib import Path
from types import SimpleNamespace

LIBRARIES = {"libcuda.so.1": "libcuda.c", "libnvidia-ml.so.1": "libnvidia_ml.c"}
"""Name under which each library is loaded, and its source in `driver_stubs/`."""

BUILD_TOOLS = ("nvcc", "ninja")
"""What vLLM and FlashInfer compile kernels with while an engine starts. GPU nodes rarely have them."""

_SOURCES = Path(__file__).resolve().parent / "driver_stubs"


def build_driver_stubs(folder: Path) -> None:
    """Compile the stubs into `folder`. The sonames make a library already loaded satisfy later loads by name."""
    compiler = shutil.which("cc") or shutil.which("gcc")
    assert compiler, "the driver stubs need a C compiler (cc or gcc)"
    for name, source in LIBRARIES.items():
        command = [
            compiler,
            "-shared",
            "-fPIC",
            f"-Wl,-soname,{name}",
            "-o",
            str(folder / name),
            str(_SOURCES / source),
        ]
        subprocess.run(command, check=True)


def load_driver_stubs(folder: Path) -> None:
    """Use the stubs in this process, and in every process that it starts later."""
    for name in LIBRARIES:
        ctypes.CDLL(str(folder / name), mode=ctypes.RTLD_GLOBAL)  # the loader read LD_LIBRARY_PATH before main()
    os.environ["LD_LIBRARY_PATH"] = f"{folder}:{os.environ.get('LD_LIBRARY_PATH', '')}"


def hide_build_tools(folder: Path) -> None:
    """Hide the CUDA toolkit and ninja from this process, if the machine has them.

    Directories of PATH that hold a build tool are replaced by copies without it (links, in `folder`), because Triton
    and torch.compile need the C compiler that may lie beside it.
    """
    for variable in ("CUDA_HOME", "CUDA_PATH", "CUDACXX"):
        os.environ.pop(variable, None)
    entries = []
    for number, entry in enumerate(os.environ["PATH"].split(os.pathsep)):
        if any((Path(entry) / tool).exists() for tool in BUILD_TOOLS):
            copy = folder / str(number)
            copy.mkdir(parents=True)
            for program in Path(entry).iterdir():
                if program.name not in BUILD_TOOLS:
                    (copy / program.name).symlink_to(program)
            entries.append(str(copy))
        else:
            entries.append(entry)
    os.environ["PATH"] = os.pathsep.join(entries)


def patch_torch() -> None:
    """Answer queries about the CUDA device that need no CUDA context on a real GPU node either.

    vLLM reads the current device and its capability while it builds a config and chooses kernels. The CUDA runtime,
    which PyTorch asks, speaks to the driver through undocumented tables that a stub cannot offer.
    """
    import torch
    from vllm.platforms import current_platform

    def capability(device: object = None) -> tuple[int, int]:
        major_minor = current_platform.get_device_capability()
        return major_minor.major, major_minor.minor

    properties = SimpleNamespace(multi_processor_count=132, is_integrated=False)  # of an H100
    torch.cuda.current_device = lambda: 0
    torch.cuda.set_device = lambda device: None
    torch.cuda.get_device_capability = capability
    torch.cuda.get_device_properties = lambda device=None: properties
