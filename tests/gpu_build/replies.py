"""What tests and the stub worker agree on: how a prompt says what the model generates."""

REPLY, FOREVER = "<|reply|>", "<|forever|>"
"""Special tokens of a prompt; `stub_worker` says what they do."""

START, END = "<|im_start|>", "<|im_end|>"
"""Special tokens around the turns of a chat. END also ends a reply."""

DEFAULT_REPLY = "<think>\n[2] answers it.\n</think>\n<answer>\n[2] > [1] > [3]\n</answer>"
"""The reply to a prompt that says nothing about it."""

ADAPTER_REPLY = "adapter: "
"""What a reply begins with if the request names a LoRA adapter."""
