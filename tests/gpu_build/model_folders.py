"""Model folders without weights: the shapes that the ready-made configs name, with a tokenizer made on the spot.

Each folder holds what vLLM and the job read before they load weights: config.json, tokenizer.json,
tokenizer_config.json. The shapes are those of the models' public config.json files.
"""

import json
from pathlib import Path
from typing import Any

from gpu_build.replies import END, FOREVER, REPLY, START

_CHAT_TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message.role }}\n{{ message.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)

_QWEN2 = {
    "architectures": ["Qwen2ForCausalLM"],
    "model_type": "qwen2",
    "hidden_act": "silu",
    "rms_norm_eps": 1e-6,
    "rope_theta": 1e6,
    "sliding_window": 131072,
    "use_sliding_window": False,
    "tie_word_embeddings": False,
    "torch_dtype": "bfloat16",
    "vocab_size": 152064,
}
_QWEN3 = {
    "architectures": ["Qwen3ForCausalLM"],
    "model_type": "qwen3",
    "attention_bias": False,
    "head_dim": 128,
    "hidden_act": "silu",
    "max_position_embeddings": 40960,
    "rms_norm_eps": 1e-6,
    "rope_theta": 1e6,
    "torch_dtype": "bfloat16",
    "vocab_size": 151936,
}
_LLAMA_7B = {
    "hidden_act": "silu",
    "hidden_size": 4096,
    "num_attention_heads": 32,
    "num_hidden_layers": 32,
    "rms_norm_eps": 1e-5,
    "rope_theta": 1e4,
    "tie_word_embeddings": False,
    "torch_dtype": "bfloat16",
    "vocab_size": 32000,
}
_QWEN25_7B = _QWEN2 | {
    "hidden_size": 3584,
    "intermediate_size": 18944,
    "max_position_embeddings": 32768,
    "max_window_layers": 28,
    "num_attention_heads": 28,
    "num_hidden_layers": 28,
    "num_key_value_heads": 4,
}
_QWEN25_32B = _QWEN2 | {
    "hidden_size": 5120,
    "intermediate_size": 27648,
    "max_position_embeddings": 32768,
    "max_window_layers": 70,
    "num_attention_heads": 40,
    "num_hidden_layers": 64,
    "num_key_value_heads": 8,
}
_QWEN3_8B = _QWEN3 | {
    "hidden_size": 4096,
    "intermediate_size": 12288,
    "num_attention_heads": 32,
    "num_hidden_layers": 36,
    "num_key_value_heads": 8,
    "max_window_layers": 36,
    "tie_word_embeddings": False,
}
_QWEN3_4B = _QWEN3 | {
    "hidden_size": 2560,
    "intermediate_size": 9728,
    "num_attention_heads": 32,
    "num_hidden_layers": 36,
    "num_key_value_heads": 8,
    "max_window_layers": 36,
    "tie_word_embeddings": True,
}
_MISTRAL_7B = _LLAMA_7B | {
    "architectures": ["MistralForCausalLM"],
    "model_type": "mistral",
    "intermediate_size": 14336,
    "max_position_embeddings": 32768,
    "num_key_value_heads": 8,
    "sliding_window": 4096,
}

SHAPES: dict[str, dict[str, Any]] = {
    "liuwenhan/reasonrank-7B": _QWEN25_7B,
    "liuwenhan/reasonrank-32B": _QWEN25_32B,
    "liuwenhan/reasonrank-8B": _QWEN3_8B,
    "Qwen/Qwen3-8B": _QWEN3_8B,
    "le723z/Rearank-7B": _QWEN25_7B,
    "Qwen/Qwen2.5-7B-Instruct": _QWEN25_7B,
    "AQ-MedAI/Diver-GroupRank-7B": _QWEN25_7B,
    "jhu-clsp/rank1-7b": _QWEN25_7B,
    "Alibaba-NLP/ERank-4B": _QWEN3_4B,
    "Qwen/Qwen3-Reranker-4B": _QWEN3_4B,
    "hltcoe/Rank-K-32B": _QWEN25_32B | {"max_position_embeddings": 40960, "sliding_window": 32768},
    "rryisthebest/First_Model": _MISTRAL_7B,
    "castorini/rank_zephyr_7b_v1_full": _MISTRAL_7B,
    "castorini/rank_vicuna_7b_v1": _LLAMA_7B
    | {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "intermediate_size": 11008,
        "max_position_embeddings": 4096,
        "num_key_value_heads": 32,
    },
    "openai/gpt-oss-20b": {
        "architectures": ["GptOssForCausalLM"],
        "model_type": "gpt_oss",
        "attention_bias": True,
        "experts_per_token": 4,
        "head_dim": 64,
        "hidden_act": "silu",
        "hidden_size": 2880,
        "initial_context_length": 4096,
        "intermediate_size": 2880,
        "layer_types": ["sliding_attention", "full_attention"] * 12,
        "max_position_embeddings": 131072,
        "num_attention_heads": 64,
        "num_experts_per_tok": 4,
        "num_hidden_layers": 24,
        "num_key_value_heads": 8,
        "num_local_experts": 32,
        "quantization_config": {
            "modules_to_not_convert": [
                "model.layers.*.self_attn",
                "model.layers.*.mlp.router",
                "model.embed_tokens",
                "lm_head",
            ],
            "quant_method": "mxfp4",
        },
        "rms_norm_eps": 1e-5,
        "rope_scaling": {
            "beta_fast": 32.0,
            "beta_slow": 1.0,
            "factor": 32.0,
            "original_max_position_embeddings": 4096,
            "rope_type": "yarn",
            "truncate": False,
        },
        "rope_theta": 150000,
        "sliding_window": 128,
        "swiglu_limit": 7.0,
        "tie_word_embeddings": False,
        "vocab_size": 201088,
    },
    "BAAI/bge-reranker-v2-m3": {
        "architectures": ["XLMRobertaForSequenceClassification"],
        "model_type": "xlm-roberta",
        "hidden_act": "gelu",
        "hidden_size": 1024,
        "id2label": {"0": "LABEL_0"},
        "intermediate_size": 4096,
        "label2id": {"LABEL_0": 0},
        "layer_norm_eps": 1e-5,
        "max_position_embeddings": 8194,
        "num_attention_heads": 16,
        "num_hidden_layers": 24,
        "pad_token_id": 1,
        "position_embedding_type": "absolute",
        "torch_dtype": "float32",
        "type_vocab_size": 1,
        "vocab_size": 250002,
    },
    "Qwen/Qwen3-Reranker-0.6B": _QWEN3
    | {
        "hidden_size": 1024,
        "intermediate_size": 3072,
        "num_attention_heads": 16,
        "num_hidden_layers": 28,
        "num_key_value_heads": 8,
        "max_window_layers": 28,
        "tie_word_embeddings": True,
    },
}
"""Hub name of a model that a ready-made config names, and its config.json without token ids. Models with their own code
(Nemotron-Nano-9B-v2) and multimodal models (LightOn-rerank-LW) are skipped."""


def make_model_folder(parent: Path, hub_name: str) -> Path:
    """Write the folder of one model of SHAPES, or return it if it exists."""
    folder = parent / hub_name.replace("/", "--")
    if not folder.exists():
        folder.mkdir(parents=True)
        tokenizer = _tokenizer()
        end = tokenizer.token_to_id(END)
        config = SHAPES[hub_name] | {"bos_token_id": end, "eos_token_id": end}
        (folder / "config.json").write_text(json.dumps(config, indent=1))
        tokenizer.save(str(folder / "tokenizer.json"))
        settings = {
            "tokenizer_class": "PreTrainedTokenizerFast",
            "chat_template": _CHAT_TEMPLATE,
            "eos_token": END,
            "pad_token": END,
        }
        (folder / "tokenizer_config.json").write_text(json.dumps(settings, indent=1))
    return folder


def make_adapter_folder(parent: Path) -> Path:
    """Write a LoRA adapter without weights."""
    folder = parent / "adapter"
    folder.mkdir(parents=True, exist_ok=True)
    config = {"peft_type": "LORA", "r": 8, "lora_alpha": 16, "target_modules": ["q_proj", "v_proj"]}
    (folder / "adapter_config.json").write_text(json.dumps(config))
    return folder


def _tokenizer() -> Any:
    """One token for each byte of a text, so that any text can be encoded and a count of tokens is a count of bytes."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE(vocab={char: number for number, char in enumerate(alphabet)}, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([START, END, REPLY, FOREVER])
    return tokenizer
