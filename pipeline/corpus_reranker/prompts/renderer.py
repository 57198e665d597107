"""The text of one prompt: the chat template around the user message, the instructions, the passages."""

import re
from collections.abc import Mapping, Sequence

from corpus_reranker.errors import ConfigError, RequestError
from corpus_reranker.prompts.special_tokens import SpecialTokens, is_special
from corpus_reranker.prompts.template import PromptTemplate, column_values, shows_values, substitute
from corpus_reranker.prompts.text_cleanup import clean_prompt_text
from corpus_reranker.prompts.tokenizer import Tokenizer
from corpus_reranker.types import Chat

_LINE = re.compile(r"[^\n]*\n|[^\n]+")
_USER_MESSAGE = "The user message, verbatim.\n[1] In two lines."


class Renderer:
    """Renders the prompts of one template for one tokenizer.

    ReasonRank's code runs ftfy, which works line by line, over the whole prompt. This class cleans up only the lines
    with a passage, the query or a column, and escapes special tokens afterwards, so that no cleanup can restore one.
    The other lines of the chat template and the prompt template are sent as written. The prompt template's own special
    tokens are kept on every line: they begin and end the turns of a multi-turn prompt.
    """

    def __init__(self, template: PromptTemplate, tokenizer: Tokenizer, examples: Sequence[dict[str, str]] = ()) -> None:
        """Render the chat template once.

        Args:
            template: The prompt template.
            tokenizer: The model's tokenizer.
            examples: Messages, with `role` and `content`, before the prompt's own.

        Raises:
            ConfigError: The tokenizer cannot render the chat.
        """
        self._template = template
        self._identifiers = template.parser.identifiers
        added = {
            token_id: token.content
            for token_id, token in tokenizer.added_tokens_decoder.items()
            if is_special(token.content, token.special)
        }
        self._special_ids = frozenset(added)
        self._special_tokens = SpecialTokens(added.values(), template.special_tags)
        messages = _messages(template, examples)
        self._head, tail = _render_chat(tokenizer, template, messages)
        self._chat_messages = tuple((message["role"], message["content"]) for message in messages)
        self._chat_template_kwargs = tuple(sorted(template.chat_template_kwargs.items()))
        self._tail = tail + template.prefill
        self._before = _LINE.findall(template.before_passages)
        self._after = _LINE.findall(template.after_passages)
        columns = dict.fromkeys(template.shown.columns, "column")
        before, after = self.around({"query": "query", **column_values(columns)}, 1)
        passages = [self.passage(rank, "passage", 0.0) for rank in (1, 2)]
        one, two = (self._count_special(tokenizer.encode(before + "".join(passages[:n]) + after)) for n in (1, 2))
        self._num_special_tokens, self._special_tokens_per_passage = one, two - one

    def escape(self, text: str) -> str:
        """`text` with its special tokens escaped."""
        return self._special_tokens.escape(text)

    def around(self, values: Mapping[str, str], num: int) -> tuple[str, str]:
        """The text before the first and after the last of `num` passages, chat template included.

        Args:
            values: The query and the columns, by placeholder.
            num: The number of passages.
        """
        values = {**values, "num": str(num)}
        before = "".join(self._line(line, values) for line in self._before)
        after = "".join(self._line(line, values) for line in self._after)
        return self._head + before, after + self._tail

    def chat(self, text: str) -> Chat | None:
        """The messages of a prompt's `text`.

        None if the template has a prefill or its own chat template, which a chat API does not accept.
        """
        if self._template.prefill or self._template.chat is not None:
            return None
        user = text[len(self._head) : len(text) - len(self._tail)]
        return Chat((*self._chat_messages, ("user", user)), self._chat_template_kwargs)

    def passage(self, rank: int, text: str, score: float) -> str:
        """The lines of the passage at 1-based `rank`, from its cleaned up and truncated `text` and its score."""
        values = {"rank": self._identifiers.name(rank), "passage": text, "score": f"{score:.3f}"}
        return self._fill(self._template.passage, values)

    def passage_prefix(self, rank: int) -> str:
        """The start of a passage's lines, which depends on its 1-based `rank`: `[3]` of `[{rank}] {passage}`.

        Empty if the text after the passage also depends on the rank, or the text before it depends on the score. The
        passage then cannot be split into a prefix for the rank and a body that is the same at every rank.
        """
        before, _, after = self._template.passage.partition("{passage}")
        if "{rank}" in after or "{score}" in before:
            return ""
        return substitute(before, {"rank": self._identifiers.name(rank)}).rstrip(" ")

    def check_special_tokens(self, token_ids: Sequence[int], num: int) -> None:
        """Check that a prompt with `num` passages has no more special tokens than its template.

        Raises:
            RequestError: The tokenizer turns escaped text into a special token.
        """
        expected = self._num_special_tokens + (num - 1) * self._special_tokens_per_passage
        if self._count_special(token_ids) != expected:
            raise RequestError(
                "the tokenizer turns escaped text in a passage or the query into a special token; the window is not "
                "requested, because that text could answer for the model"
            )

    def _line(self, line: str, values: Mapping[str, str]) -> str:
        return self._fill(line, values) if shows_values(line) else substitute(line, values)

    def _fill(self, template: str, values: Mapping[str, str]) -> str:
        """Replace the placeholders of `template`. Special tokens are escaped in the values and kept in the template."""
        return "".join(
            piece if special else self._special_tokens.escape(clean_prompt_text(substitute(piece, values)))
            for piece, special in self._special_tokens.split(template)
        )

    def _count_special(self, token_ids: Sequence[int]) -> int:
        return sum(map(self._special_ids.__contains__, token_ids))


def _messages(template: PromptTemplate, examples: Sequence[dict[str, str]]) -> list[dict[str, str]]:
    """The messages before the user message. Raises ConfigError for examples if the template has its own chat."""
    if template.chat is not None and examples:
        raise ConfigError("prompt.examples need the tokenizer's chat template; the prompt template has a `chat`")
    return [*([] if template.system is None else [{"role": "system", "content": template.system}]), *examples]


def _render_chat(tokenizer: Tokenizer, template: PromptTemplate, before: Sequence[dict[str, str]]) -> tuple[str, str]:
    """The chat's text before and after the user message. Raises ConfigError if the message is not kept verbatim."""
    if template.chat is not None:
        head, _, tail = template.chat.partition("{user}")
        values = {"system": template.system or ""}
        return substitute(head, values), substitute(tail, values)
    messages = [*before, {"role": "user", "content": _USER_MESSAGE}]
    try:
        chat = tokenizer.apply_chat_template(
            messages, tokenize=False, add_generation_prompt=True, **template.chat_template_kwargs
        )
    except Exception as error:  # no chat template, no system role, or a bug in its Jinja code
        raise ConfigError(
            f"the tokenizer's chat template cannot render the prompt: {error}\n"
            "Use an instruct model's tokenizer. If it has no system role, "
            "move `system` into `before_passages` in a copy of the prompt template."
        ) from error
    head, message, tail = chat.partition(_USER_MESSAGE)
    if not message or message in tail:
        raise ConfigError(f"the tokenizer's chat template does not keep the user message as it is: {chat!r}")
    return head, tail
