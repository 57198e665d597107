"""Acceptance check on a machine with a GPU: `make gpu-check` (docs/gpu.md)."""
