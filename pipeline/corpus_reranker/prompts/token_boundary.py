"""Where a prompt may be cut so that the token ids of its pieces, put together, are those of the whole.

A tokenizer that splits text into words before it looks for tokens (GPT-2's, Qwen's and Llama 3's do) joins nothing over
a line break that follows text, nor over the one blank before a word. So a passage is tokenised once, in whichever
windows and places it is shown.
"""

from corpus_reranker.prompts.tokenizer import Tokenizer

_LINES = ("word", "7", "end.", "a)", "é", "字", "🙂", "don't", '"', "…", "-", ">", "%", "\\", "1,000", "Ⅳ", "_", "the")
_NEXT_LINES = ("[2]", "Search", "9", '"x', "(a", "é", "字", "🙂", "|", ".", "_")
_NAMES = ("[3]", "[12]", "A.", "2)", "Passage", "B:")
_PASSAGES = (" word", " 7", " .", " (", " é", " 字", " 🙂", " 'tis", ' "', " $5", " —", " s", " _")


def is_token_boundary(left: str, right: str) -> bool:
    """Whether `left` ends in text and one line break and `right` begins with text, or a single blank parts them."""
    if right[:1] == " ":
        return not left[-1:].isspace() and bool(right[1:2].strip())
    return left[-1:] == "\n" and bool(left[-2:-1].strip()) and bool(right[:1].strip())


def splits_at_boundaries(tokenizer: Tokenizer) -> bool:
    """Whether it gives the same ids for the pieces as for the whole, tried on every kind of seam there is."""
    boundaries = [(f"{line}\n", following) for line in _LINES for following in _NEXT_LINES]
    boundaries += [(name, passage) for name in _NAMES for passage in _PASSAGES]
    return all(
        tokenizer.encode(left + right) == [*tokenizer.encode(left), *tokenizer.encode(right)]
        for left, right in boundaries
    )
