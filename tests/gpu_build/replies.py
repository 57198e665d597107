"""Conventions of tests and the stub worker: how a prompt sets what the model generates, and where workers log.

Tests import this module, never `stub_worker`: vLLM must not look for a GPU before the stubs are loaded.
"""

REPLY, FOREVER = "<|reply|>", "<|forever|>"
"""Special tokens of a prompt; `stub_worker` documents them."""

START, END = "<|im_start|>", "<|im_end|>"
"""Special tokens around the turns of a chat. END also ends a reply."""

DEFAULT_REPLY = "<think>\n[2] answers it.\n</think>\n<answer>\n[2] > [1] > [3]\n</answer>"
"""The reply to a prompt that does not set one."""

ADAPTER_REPLY = "adapter: "
"""What a reply begins with if the request names a LoRA adapter."""

NODES_VARIABLE = "STUB_WORKER_NODES"
"""Environment variable with a folder in which each worker leaves a file named after its Ray node."""
