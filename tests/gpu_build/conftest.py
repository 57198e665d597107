"""A node with GPUs made of stubs, for all tests of this folder and the processes that they start."""

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from gpu_build.faults import FOLDER_VARIABLE
from gpu_build.stub_driver import build_driver_stubs, hide_build_tools, load_driver_stubs, patch_torch

_TESTS = Path(__file__).resolve().parents[1]
_PIPELINE = _TESTS.parent / "pipeline"


@pytest.fixture(scope="session", autouse=True)
def stub_node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Eight GPUs of 80 GB, no CUDA toolkit, no ninja, no network.

    vLLM's processes and Ray's workers inherit the environment, so everything is set before the first of them starts.
    """
    assert "vllm" not in sys.modules, "a test module imports vllm: it would choose its platform before the stubs exist"
    folder = tmp_path_factory.mktemp("node")
    build_driver_stubs(folder)
    (folder / "faults").mkdir()
    before = dict(os.environ)
    os.environ.update(
        HF_HUB_OFFLINE="1",
        PYTHONPATH=os.pathsep.join([str(_PIPELINE), str(_TESTS)]),
        STUB_GPUS="8",
        **{FOLDER_VARIABLE: str(folder / "faults")},
        # vLLM inspects each architecture once, in a process that takes 20 s, and keeps what it found.
        VLLM_CACHE_ROOT=str(Path(sys.prefix) / "vllm-cache"),
    )
    os.environ.pop("CUDA_VISIBLE_DEVICES", None)
    os.environ.pop("VLLM_USE_FLASHINFER_SAMPLER", None)
    hide_build_tools(folder / "path")
    load_driver_stubs(folder)
    patch_torch()
    yield
    os.environ.clear()
    os.environ.update(before)


@pytest.fixture(autouse=True)
def _no_fault_left_behind(stub_node: None) -> Iterator[None]:
    """A test that fails before its injected fault occurs does not pass the fault on to the next test."""
    yield
    for fault in Path(os.environ[FOLDER_VARIABLE]).iterdir():
        fault.unlink(missing_ok=True)  # a worker that outlives its test may take it at the same time


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the model folders of the session are made."""
    return tmp_path_factory.mktemp("models")
