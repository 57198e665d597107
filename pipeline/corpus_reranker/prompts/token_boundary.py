"""Token boundaries: where a prompt can be split without changing its token ids.

A tokenizer that splits text into words before it merges tokens (as those of GPT-2, Qwen and Llama 3 do) never merges
across a line break after text, or across the single space before a word. A passage is therefore tokenized once, and
its tokens are used in every window.
"""

from functools import lru_cache

from corpus_reranker.prompts.tokenizer import Tokenizer

_LINES = ("word", "7", "end.", "a)", "é", "字", "🙂", "don't", '"', "…", "-", ">", "%", "\\", "1,000", "Ⅳ", "_", "the")
_NEXT_LINES = ("[2]", "Search", "9", '"x', "(a", "é", "字", "🙂", "|", ".", "_")
_NAMES = ("[3]", "[12]", "A.", "2)", "Passage", "B:")
_PASSAGES = (" word", " 7", " .", " (", " é", " 字", " 🙂", " 'tis", ' "', " $5", " —", " s", " _")


def is_token_boundary(left: str, right: str) -> bool:
    """Whether `left` ends with text and one line break and `right` begins with text, or one space separates texts."""
    if right[:1] == " ":
        return not left[-1:].isspace() and bool(right[1:2].strip())
    return left[-1:] == "\n" and bool(left[-2:-1].strip()) and bool(right[:1].strip())


@lru_cache(maxsize=4)
def splits_at_boundaries(tokenizer: Tokenizer) -> bool:
    """Whether `tokenizer` gives the same ids for pieces as for the whole text, checked once on samples."""
    boundaries = [(f"{line}\n", following) for line in _LINES for following in _NEXT_LINES]
    boundaries += [(name, passage) for name in _NAMES for passage in _PASSAGES]
    return all(
        tokenizer.encode(left + right) == [*tokenizer.encode(left), *tokenizer.encode(right)]
        for left, right in boundaries
    )
