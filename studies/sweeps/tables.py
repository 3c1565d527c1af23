"""Tables as Markdown and LaTeX."""

from collections.abc import Iterable, Sequence

_LATEX = {
    "\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_", "{": r"\{", "}": r"\}",
    "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "±": r"$\pm$",
}  # fmt: skip


def markdown_table(headings: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table."""
    first, *others = ("| " + " | ".join(map(markdown, row)) + " |" for row in (headings, *rows))
    return "\n".join([first, "|" + "---|" * len(headings), *others])


def markdown(text: str) -> str:
    """Text for Markdown, on one line."""
    return text.replace("|", r"\|").replace("<", "&lt;").replace("\n", " ")


def latex(text: str) -> str:
    """Text for LaTeX."""
    return "".join(_LATEX.get(letter, letter) for letter in text)
