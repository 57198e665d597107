"""What the extra `gpu` installs: a CUDA build whose parts fit each other, on a node without build tools."""

import importlib
import os
import shutil
import sysconfig
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.version import Version

from gpu_build.stub_driver import BUILD_TOOLS

CONSTRAINTS = Path(__file__).resolve().parents[2] / "constraints-gpu.txt"


def test_the_node_has_no_build_tools() -> None:
    assert [tool for tool in BUILD_TOOLS if shutil.which(tool)] == []
    assert "CUDA_HOME" not in os.environ


def test_vllm_takes_its_cuda_platform() -> None:
    import torch
    from vllm.platforms import current_platform

    assert torch.version.cuda is not None
    assert current_platform.is_cuda()
    assert current_platform.get_device_name() == "NVIDIA H100 80GB HBM3"
    assert torch.cuda.device_count() == 8


@pytest.mark.parametrize(
    "module",
    [
        "cuda.bindings.runtime",
        "flashinfer.sampling",
        "vllm._C_stable_libtorch",
        "vllm.v1.worker.gpu_model_runner",
        "vllm.v1.worker.gpu_worker",
        "vllm.vllm_flash_attn._vllm_fa2_C",
        "vllm.vllm_flash_attn._vllm_fa3_C",
    ],
)
def test_the_imports_of_a_gpu_worker_succeed(module: str) -> None:
    importlib.import_module(module)


def test_cuda_bindings_are_of_one_version() -> None:
    """cuda-python 12 overwrites files of cuda-bindings 13, after which vLLM's worker lacks names."""
    from cuda.bindings import runtime

    assert hasattr(runtime, "cudaLibrary_t")
    assert Version(metadata.version("cuda-python")).major == Version(metadata.version("cuda-bindings")).major


def test_versions_are_within_the_bounds_of_the_extra() -> None:
    requirements = [Requirement(text) for text in metadata.requires("corpus-reranker") or ()]
    installed = {
        requirement.name: requirement.specifier.contains(metadata.version(requirement.name))
        for requirement in requirements
        if requirement.marker is None or requirement.marker.evaluate({"extra": "gpu"})
    }
    assert [name for name, fits in installed.items() if not fits] == []


def test_a_package_that_constraints_name_has_that_version() -> None:
    lines = [line for line in CONSTRAINTS.read_text().splitlines() if line and not line.startswith("#")]
    pins = [pin for pin in map(Requirement, lines) if pin.marker is None or pin.marker.evaluate()]
    wanted = {pin.name: str(pin.specifier).removeprefix("==") for pin in pins}
    if metadata.version("vllm") != wanted["vllm"]:
        pytest.skip(f"vllm {metadata.version('vllm')} is tested here, constraints-gpu.txt is of {wanted['vllm']}")
    # Not all of sys.path: setuptools puts its vendored packages there once it is imported.
    distributions = metadata.distributions(path=[sysconfig.get_path("purelib")])
    installed = {each.metadata["Name"].lower().replace("_", "-"): each.version for each in distributions}
    different = {name: installed[name] for name, version in wanted.items() if installed.get(name, version) != version}
    assert different == {}
