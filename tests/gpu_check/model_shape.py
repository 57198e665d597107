"""Model folders with random weights: a Qwen2 model's shape, its window's length, and a tokenizer made on the spot."""

import json
from dataclasses import dataclass, replace
from pathlib import Path

END = "<|im_end|>"
FOREVER = "<|forever|>"
"""The last token of every prompt. A model with random weights does not mind; the stub worker of tests/gpu_build takes
it as the order to generate until `max_tokens`."""

CHAT_TEMPLATE = (
    "{% for message in messages %}{{ message.role }}: {{ message.content }}\n{% endfor %}"
    "{% if add_generation_prompt %}assistant: {% endif %}"
)


@dataclass(frozen=True, slots=True)
class ModelShape:
    """A Qwen2 model, and the tokens of one window."""

    hidden_size: int
    num_hidden_layers: int
    num_attention_heads: int
    num_key_value_heads: int
    intermediate_size: int
    vocab_size: int
    max_position_embeddings: int
    prompt_tokens: int
    output_tokens: int

    @property
    def head_size(self) -> int:
        """Elements of one attention head."""
        return self.hidden_size // self.num_attention_heads

    @property
    def layer_parameters(self) -> int:
        """Elements of the layers' matrices; norms and biases are not counted."""
        attention = 2 * self.hidden_size**2 + 2 * self.hidden_size * self.num_key_value_heads * self.head_size
        return self.num_hidden_layers * (attention + 3 * self.hidden_size * self.intermediate_size)

    @property
    def head_parameters(self) -> int:
        """Elements of the output matrix, which each generated token is multiplied with."""
        return self.vocab_size * self.hidden_size

    @property
    def kv_bytes_per_token(self) -> int:
        """Keys and values of one token in bfloat16."""
        return self.num_hidden_layers * self.num_key_value_heads * self.head_size * 2 * 2

    @property
    def mean_tokens_in_cache(self) -> float:
        """Tokens that a window holds in the KV cache while it is decoded: half of its output, on average."""
        return self.prompt_tokens + self.output_tokens / 2


QWEN25_7B = ModelShape(3584, 28, 28, 4, 18944, 152064, 32768, 5690, 750)
"""config.json of Qwen/Qwen2.5-7B-Instruct, which ReasonRank-7B is trained from; windows of BRIGHT."""

TINY = ModelShape(256, 2, 4, 2, 512, 2048, 1024, 96, 16)
"""Small enough for a CPU: shows that the script runs."""

TINY_JOB = replace(TINY, max_position_embeddings=8192)
"""The same for the whole job, whose prompts have a token for each byte with the tokenizer below."""

SHAPES = {"qwen2.5-7b": QWEN25_7B, "tiny": TINY}


def write_model_folder(shape: ModelShape, folder: Path) -> None:
    """Write config.json and a tokenizer, which is all that vLLM reads with load_format dummy."""
    folder.mkdir(parents=True, exist_ok=True)
    config = {
        "architectures": ["Qwen2ForCausalLM"],
        "model_type": "qwen2",
        "hidden_act": "silu",
        "hidden_size": shape.hidden_size,
        "num_hidden_layers": shape.num_hidden_layers,
        "num_attention_heads": shape.num_attention_heads,
        "num_key_value_heads": shape.num_key_value_heads,
        "intermediate_size": shape.intermediate_size,
        "vocab_size": shape.vocab_size,
        "max_position_embeddings": shape.max_position_embeddings,
        "rms_norm_eps": 1e-6,
        "rope_theta": 1000000.0,
        "tie_word_embeddings": False,
        "torch_dtype": "bfloat16",
        "bos_token_id": shape.vocab_size - 1,
        "eos_token_id": shape.vocab_size - 1,
    }
    (folder / "config.json").write_text(json.dumps(config, indent=1), encoding="utf-8")
    write_tokenizer(shape.vocab_size, folder)


def write_tokenizer(vocab_size: int, folder: Path) -> None:
    """Write a tokenizer with a text for every token id: bytes, numbered words, then FOREVER and END.

    Every id must have a text, because the engine turns generated tokens into text to look for stop strings.
    """
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers

    texts = sorted(pre_tokenizers.ByteLevel.alphabet())
    texts += [f"Ġw{number}" for number in range(vocab_size - len(texts) - 2)]
    tokenizer = Tokenizer(models.BPE(vocab={text: number for number, text in enumerate(texts)}, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([FOREVER, END])
    tokenizer.save(str(folder / "tokenizer.json"))
    settings = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "eos_token": END,
        "pad_token": END,
        "chat_template": CHAT_TEMPLATE,
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(settings, indent=1), encoding="utf-8")
