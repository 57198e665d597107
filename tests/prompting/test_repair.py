"""Each shortcut around ftfy gives what ftfy gives."""

from ftfy import fix_text
from hypothesis import example, given, settings
from hypothesis import strategies as st
from prompting_desk import hostile_text, unkind_text

from pipeline.prompting.repair import repair, repair_again, repair_in_prompt

ASCII = st.text(st.characters(max_codepoint=0x7F))


@given(st.one_of(ASCII, unkind_text, hostile_text))
@example("".join(map(chr, range(0x20, 0x7F))).replace("&", "") + "\t\n\f")
@example("AT&amp;T")
@example("a\rb")
@settings(max_examples=300, deadline=None)
def test_repair_is_ftfy(text: str) -> None:
    assert repair(text) == fix_text(text)


@given(st.lists(st.one_of(ASCII, unkind_text), max_size=4))
@settings(max_examples=300, deadline=None)
def test_a_prompt_repaired_in_parts_is_the_prompt_repaired_as_a_whole(parts: list[str]) -> None:
    lines = [f"{part}\n" for part in parts]
    assert "<|im_start|>\n" + "".join(map(repair_in_prompt, lines)) == fix_text("<|im_start|>\n" + "".join(lines))


@given(
    unkind_text, st.text(st.characters(min_codepoint=0x20, max_codepoint=0x7E)), st.integers(0, 40), st.integers(0, 40)
)
@example("œ", "[1] ", 0, 1)
@example("Ã x", "[1] ", 0, 3)
@settings(max_examples=500, deadline=None)
def test_text_repaired_once_is_repaired_again_as_ftfy_would(text: str, before: str, start: int, end: int) -> None:
    line = f"{before}{repair(text)[start:end]}\ufffd\n"
    assert repair_again(line) == fix_text(line, unescape_html=False)
