"""Packing for a machine without a network: which files, which kernels, and that the parts are whole again there."""

import struct
from pathlib import Path

import pytest

from gpu_check import carry
from gpu_check.fat_binaries import MACHINE_CODE, PTX, keep_architecture
from gpu_check.run_carried import unpack


@pytest.mark.parametrize(
    ("name", "needed"),
    [
        ("vllm/engine/arg_utils.py", True),
        ("vllm/_C_stable_libtorch.abi3.so", True),
        ("vllm/vllm_flash_attn/_vllm_fa3_C.abi3.so", True),
        ("vllm/vllm_flash_attn/_vllm_fa2_C.abi3.so", False),
        ("vllm/vllm-rs", False),
        ("vllm/third_party/deep_gemm/include/cute/arch/mma.hpp", False),
        ("vllm-0.26.0.dist-info/METADATA", True),
    ],
)
def test_only_the_needed_files_of_a_wheel_are_carried(name: str, needed: bool) -> None:
    assert carry.is_needed(name) == needed


def test_packed_files_are_unpacked_unchanged(tmp_path: Path) -> None:
    site, there = tmp_path / "site", tmp_path / "there"
    (site / "package").mkdir(parents=True)
    content = bytes(range(256)) * 100
    (site / "package" / "library.so").write_bytes(content)
    files = carry.pack(site, tmp_path / "out", part_bytes=100)
    parts = [file for file in files if file.name != "run_carried.py"]
    assert len(parts) > 1
    assert all(part.stat().st_size <= 100 for part in parts)
    unpack(tmp_path / "out", there)
    assert (there / "package" / "library.so").read_bytes() == content


def test_an_earlier_pack_leaves_no_part_behind(tmp_path: Path) -> None:
    site = tmp_path / "site"
    site.mkdir()
    (site / "file").write_text("text")
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "carry.tar.xz.07").touch()
    carry.pack(site, tmp_path / "out", part_bytes=10**6)
    assert [file.name for file in (tmp_path / "out").glob("carry*")] == ["carry.tar.xz.00"]


def test_nothing_to_unpack_is_reported(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"pack them with gpu_check\.carry"):
        unpack(tmp_path, tmp_path / "site")


def entry(kind: int, architecture: int, content: bytes) -> bytes:
    return struct.pack("<HHIQ12xI32x", kind, 0x0101, 64, len(content), architecture) + content


def fat_binary(*entries: bytes) -> bytes:
    body = b"".join(entries)
    return struct.pack("<4sHHQ", struct.pack("<I", 0xBA55ED50), 1, 16, len(body)) + body


def test_machine_code_for_the_gpu_stays_alone() -> None:
    others = [entry(MACHINE_CODE, 80, b"eighty.."), entry(PTX, 80, b"ptx80"), entry(MACHINE_CODE, 100, b"hundred")]
    wanted = entry(MACHINE_CODE, 90, b"ninety")
    library = b"host" + fat_binary(*others[:2], wanted, others[2]) + b"code"
    kept = keep_architecture(library, 90)
    assert len(kept) == len(library)
    assert (kept[:4], kept[-4:]) == (b"host", b"code")
    assert wanted in kept
    assert not any(word in kept for word in (b"eighty", b"ptx80", b"hundred"))


def test_ptx_is_kept_without_machine_code_for_the_gpu() -> None:
    kept = keep_architecture(fat_binary(entry(MACHINE_CODE, 80, b"eighty"), entry(PTX, 80, b"ptx80")), 90)
    assert b"ptx80" in kept
    assert b"eighty" not in kept


def test_bytes_that_only_look_like_a_fat_binary_stay() -> None:
    library = struct.pack("<I", 0xBA55ED50) + b"any other content of a library"
    assert keep_architecture(library, 90) == library
