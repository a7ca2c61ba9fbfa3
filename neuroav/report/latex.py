r"""Tables as LaTeX, for papers: ``booktabs`` rules, every special character escaped."""

from __future__ import annotations

from collections.abc import Sequence

from neuroav.report.tables import Table, cell_text, column_groups

ESCAPES = {
    "\\": r"\textbackslash{}",
    "&": r"\&",
    "%": r"\%",
    "$": r"\$",
    "#": r"\#",
    "_": r"\_",
    "{": r"\{",
    "}": r"\}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    "[": "{[}",  # after a line's end it would be an option
    "*": "{*}",
    "±": r"$\pm$",
    "×": r"$\times$",
    "−": "$-$",
    "≤": r"$\leq$",
    "≥": r"$\geq$",
    "→": r"$\rightarrow$",
    "α": r"$\alpha$",
    "β": r"$\beta$",
    "γ": r"$\gamma$",
    "δ": r"$\delta$",
    "θ": r"$\theta$",
    "λ": r"$\lambda$",
    "μ": r"$\mu$",
    "µ": r"$\mu$",
    "σ": r"$\sigma$",
    "τ": r"$\tau$",
    "φ": r"$\phi$",
}


def latex_text(text: str) -> str:
    r"""Return text that LaTeX prints as it is; a character it may not know becomes a question mark.

    Example:
        >>> print(latex_text("W/o L_n & 5 %, 31.4±0.2"))
        W/o L\_n \& 5 \%, 31.4$\pm$0.2
    """
    return "".join(ESCAPES.get(c, c if c.isascii() or (c.isalpha() and ord(c) < 0x180) else "?") for c in text)


def format_latex(table: Table, caption: str, label: str) -> str:
    r"""Return a ``table`` environment; it needs ``\usepackage{booktabs}``.

    Args:
        table: columns, rows and notes; notes go below the rules, a line each.
        caption: plain text.
        label: letters, digits, dots, colons and hyphens.

    Example:
        >>> from neuroav.report.tables import Column
        >>> text = format_latex(Table((Column("row"), Column("S", "ucf")), (("a_b", None),)), "Two & two", "tab:x")
        >>> print(text.splitlines()[9])
        a\_b & - \\
    """
    lines = [
        r"\begin{table}",
        r"\centering",
        rf"\caption{{{latex_text(caption)}}}\label{{{label}}}",
        rf"\begin{{tabular}}{{l{'r' * (len(table.columns) - 1)}}}",
        r"\toprule",
        *_head(table),
        r"\midrule",
        *(_line([cell_text(cell) for cell in row]) for row in table.rows),
        r"\bottomrule",
        r"\end{tabular}",
        *(rf"\par\footnotesize {latex_text(note)}" for note in table.notes),
        r"\end{table}",
    ]
    return "\n".join(lines) + "\n"


def _head(table: Table) -> list[str]:
    """Titles, below their groups where there are any."""
    titles = _line([column.title for column in table.columns])
    if not any(column.group for column in table.columns):
        return [titles]
    spans = column_groups(table.columns)
    groups = (rf"\multicolumn{{{stop - start}}}{{c}}{{{latex_text(name)}}}" for name, start, stop in spans)
    rules = (rf"\cmidrule(lr){{{start + 1}-{stop}}}" for name, start, stop in spans if name)
    return [" & ".join(groups) + r" \\", "".join(rules), titles]


def _line(cells: Sequence[str]) -> str:
    return " & ".join(map(latex_text, cells)) + r" \\"
