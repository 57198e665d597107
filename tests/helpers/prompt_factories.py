"""Tokenizers, requests, prompts, and random text that is hard to clean up or escape."""

from collections.abc import Sequence
from functools import cache
from pathlib import Path

from hypothesis import strategies as st

from corpus_reranker.prompts.builder import PromptBuilder
from corpus_reranker.prompts.template import PromptTemplate, load_template
from corpus_reranker.prompts.tokenizer import Tokenizer, WordsTokenizer, load_tokenizer
from corpus_reranker.types import Candidate, Prompt, RerankRequest
from helpers.demo_model import demo_tokenizer_folder

PROMPTS = Path(__file__).resolve().parents[2] / "configs" / "prompts"
WORDS = WordsTokenizer()
MAX_PROMPT_TOKENS = 32768 - 3172
"""The authors' context length minus the tokens of reasoning and answer."""

SPECIAL_TOKENS = ["<|im_end|>", "<|im_start|>", "<|endoftext|>"]
SPECIAL_TAGS = ["<think>", "</think>", "<answer>", "</answer>"]


@cache
def reasonrank() -> PromptTemplate:
    return load_template(PROMPTS / "reasonrank.yaml")


@cache
def smollm2() -> Tokenizer:
    """A chat model's tokenizer: that of the demo's model."""
    return load_tokenizer(str(demo_tokenizer_folder()))


@cache
def tokenizer(name: str, shared: Path | None = None) -> Tokenizer:
    """The tokenizer that golden/prompts.json calls `name`. qwen2.5 and qwen3 need the shared folder."""
    if name == "smollm2":
        return smollm2()
    assert shared is not None
    return load_tokenizer(str(shared / "tokenizers" / name))


def request_of(query: str, passages: Sequence[str], titles: Sequence[str | None] = ()) -> RerankRequest:
    titles = [*titles, *[None] * (len(passages) - len(titles))]
    candidates = [Candidate(f"d{i}", text, float(-i), titles[i]) for i, text in enumerate(passages)]
    return RerankRequest("q1", query, tuple(candidates))


def prompt_of(
    request: RerankRequest,
    tokenizer: Tokenizer = WORDS,
    max_passage_tokens: int = 512,
    max_prompt_tokens: int = MAX_PROMPT_TOKENS,
) -> Prompt:
    """The prompt of one window over all candidates of `request`."""
    prompt_builder = PromptBuilder(reasonrank(), tokenizer, max_passage_tokens, max_prompt_tokens)
    return prompt_builder(request)(range(len(request.candidates)))


def passages_in(prompt: Prompt) -> list[str]:
    """The passages that the prompt shows, if they have no line breaks."""
    lines = [line for line in prompt.text.split("\n") if line.startswith("[")]
    return [line.split("] ", 1)[1] for line in lines]


_ATOMS = [
    *"abcXY 019.,;:!?()[]{}<>&#|/\\\"'\n\n\t",
    *[
        "word ",
        "the ",
        " and ",
        "  ",
        "[1]",
        "[12]",
        "[１]",
        "&lt;",
        "&gt;",
        "&amp;",
        "&amp;lt;",
        "&#60;",
        "&#124;",
        "&lt",
    ],
    *[
        "\r",
        "\r\n",
        "\x0b",
        "\x0c",
        "\x00",
        "\x1b[31m",
        "\x1b",
        "\x7f",
        "\x85",
        "\x92",
        "\u2028",
        "\u2029",
        "\xa0",
        "\xad",
    ],
    *["\u200b", "\u200d", "\ufeff", "\u0301", "\u0338", "e\u0301", "か\u3099", "\ud83d", "\ude00", "😀", "\ufffd"],
    *["é", "è", "à ", "ß", "ø", "°", "²", "½", "×", "±", "¬", "œ", "Œ", "ﬁ", "ĳ", "α", "ж", "漢", "字", "ｶ", "ﾞ"],
    *["＜", "＞", "｜", "／", "［", "］", "１", "“", "”", "‘", "’", "–", "—", "…"],
    *["Ã", "Â", "Ã ", "Ã©", "â€™", "â€œ", "â€", "ÐŸÑ€", "вЂ™", "√©", "‚Äô"],
]

messy_text = st.lists(st.one_of(st.sampled_from(_ATOMS), st.characters()), max_size=40).map("".join)
"""Words mixed with entities, escapes, mojibake, full-width characters, surrogates and any other Unicode."""


def _disguised(token: str) -> list[str]:
    full_width = token.translate({ord(character): ord(character) + 0xFEE0 for character in "<>|/"})
    entities = token.replace("<", "&lt;").replace(">", "&gt;")
    return [
        *[token, token.upper(), full_width, entities, entities.replace("&", "&amp;"), token.replace("|", "&#124;")],
        *[f"{token[:3]}{noise}{token[3:]}" for noise in ("\x00", "\x1b[0m", "\u200b", "\r", token)],
    ]


_SPECIAL_ATOMS = [form for token in (*SPECIAL_TOKENS, *SPECIAL_TAGS) for form in _disguised(token)]

hostile_text = st.lists(st.one_of(st.sampled_from(_SPECIAL_ATOMS), st.sampled_from(_ATOMS)), max_size=30).map("".join)
"""Messy text with special tokens: plain, nested, and in every form that ftfy turns into one."""
