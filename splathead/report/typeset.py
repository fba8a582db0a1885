"""Tables as LaTeX (booktabs), Markdown and HTML."""

from __future__ import annotations

import html
from collections.abc import Sequence

from splathead.report.tables import NOT_MEASURED, Cell, Line, Table

_TEX = {
    "\\": r"\textbackslash{}", "{": r"\{", "}": r"\}", "&": r"\&", "%": r"\%", "_": r"\_", "#": r"\#", "$": r"\$", "^": r"\^{}",
    "~": r"\~{}", "−": "$-$", "↓": r"$\downarrow$", "↑": r"$\uparrow$", "→": r"$\to$", "°": r"$^\circ$", "·": r"$\cdot$",
    "\u202f": r"\,", "τ": r"$\tau$", "–": "--", "×": r"$\times$", "↔": r"$\leftrightarrow$", "±": r"$\pm$", "≥": r"$\ge$",
}  # fmt: skip


def escape_tex(text: str) -> str:
    """Text with LaTeX's special characters and our few symbols escaped."""
    return "".join(_TEX.get(character, character) for character in text)


def latex(table: Table, *, intervals: bool = True) -> str:
    """A ``tabular`` for booktabs; the title and note are comments, the caption is the paper's business.

    ``intervals``: show every number's interval in a second, smaller line; otherwise those of the main columns beside it.
    """
    width, words = len(table.heads) + 1, table.text_columns + 1
    lines = [f"% {table.title}", f"% {table.note}", rf"\begin{{tabular}}{{{'l' * words}{'r' * (width - words)}}}", r"\toprule"]
    lines += _latex_groups(table)
    lines.append(" & ".join([escape_tex(table.first_head), *(escape_tex(label) for label, _ in table.heads)]) + r" \\")
    if any(unit for _, unit in table.heads):
        lines.append(" & ".join(["", *(escape_tex(unit) for _, unit in table.heads)]) + r" \\")
    for section in table.sections:
        lines.append(r"\midrule")
        if section.title:
            lines.append(rf"\multicolumn{{{width}}}{{l}}{{\emph{{{escape_tex(section.title)}}}}} \\")
        for before, line in zip((None, *section.lines), section.lines):
            if line.difference and before is not None and not before.difference:
                lines.append(rf"\cmidrule{{1-{width}}}")
            lines += _latex_line(line, () if intervals else table.main_columns, intervals)
    return "\n".join([*lines, r"\bottomrule", r"\end{tabular}", ""])


def _latex_groups(table: Table) -> list[str]:
    """The line of titles over groups of columns, with a rule below each."""
    if not table.groups:
        return []
    titles, rules, column = [""], [], 2
    for title, span in table.groups:
        titles.append(rf"\multicolumn{{{span}}}{{c}}{{{escape_tex(title)}}}")
        rules += [rf"\cmidrule(lr){{{column}-{column + span - 1}}}"] if title else []
        column += span
    return [" & ".join(titles) + r" \\", "".join(rules)]


def _latex_line(line: Line, beside: Sequence[int], below: bool) -> list[str]:
    """The line's cells with the intervals of the columns ``beside``, or all intervals ``below``."""

    def value(index: int, cell: Cell) -> str:
        if cell.text == NOT_MEASURED:
            return rf"{{\scriptsize {NOT_MEASURED}}}"
        text = escape_tex(cell.text)
        text = rf"\textbf{{{text}}}" if cell.best or cell.verdict else text
        return text + (rf" {{\tiny {escape_tex(cell.interval)}}}" if index in beside and cell.interval else "")

    cells = [value(index, cell) for index, cell in enumerate(line.cells)]
    rows = [" & ".join([escape_tex(line.label), *cells]) + r" \\"]
    if below and any(cell.interval for cell in line.cells):
        small = [rf"{{\scriptsize {escape_tex(cell.interval)}}}" if cell.interval else "" for cell in line.cells]
        rows.append(" & ".join(["", *small]) + r" \\")
    return rows


def markdown(table: Table, *, intervals: bool = True) -> str:
    """A GitHub table under a heading, sections as lines in italics; ``intervals`` as in :func:`latex`, always beside."""
    shown, words = range(len(table.heads)) if intervals else table.main_columns, table.text_columns + 1
    heads = [table.first_head, *(f"{label} ({unit})" if unit else label for label, unit in _full_heads(table))]
    lines = [f"### {table.title}", "", _row(heads), _row(["---"] * words + ["--:"] * (len(heads) - words))]
    for section in table.sections:
        if section.title:
            lines.append(_row([f"*{section.title}*"] + [""] * len(table.heads)))
        for line in section.lines:
            lines.append(_row([line.label, *(_markdown_cell(cell, i in shown) for i, cell in enumerate(line.cells))]))
    return "\n".join([*lines, "", table.note, ""])


def _full_heads(table: Table) -> list[tuple[str, str]]:
    """Heads with the title of their group in front, for formats without spanning cells."""
    titles = [title for title, span in table.groups for _ in range(span)] or [""] * len(table.heads)
    return [(f"{title}: {label}" if title else label, unit) for title, (label, unit) in zip(titles, table.heads)]


def _row(cells: list[str]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def _markdown_cell(cell: Cell, interval: bool) -> str:
    text = f"**{cell.text}**" if cell.best or cell.verdict else cell.text
    return f"{text} {cell.interval}".strip() if interval else text


def html_table(table: Table) -> str:
    """A ``<figure>`` with the table, scrolling sideways where it must."""
    heads = "".join(
        f'<th scope="col">{html.escape(label)}<small>{html.escape(unit)}</small></th>' for label, unit in _full_heads(table)
    )  # fmt: skip
    body = []
    for section in table.sections:
        rows = [_html_line(line) for line in section.lines]
        if section.title:
            title = html.escape(section.title)
            rows.insert(0, f'<tr class="section"><th colspan="{len(table.heads) + 1}" scope="rowgroup">{title}</th></tr>')
        body.append(f"<tbody>{''.join(rows)}</tbody>")
    return (
        f'<figure class="table" id="table-{table.key}"><figcaption><h3>{html.escape(table.title)}</h3></figcaption>'
        f'<div class="scroll" tabindex="0"><table><thead><tr><th scope="col">method</th>{heads}</tr></thead>'
        f"{''.join(body)}</table></div>"
        f'<p class="note">{html.escape(table.note)}</p></figure>'
    )


def _html_line(line: Line) -> str:
    cells = []
    for cell in line.cells:
        classes = ["best"] * cell.best + [cell.verdict] * bool(cell.verdict) + ["missing"] * (cell.text == NOT_MEASURED)
        attribute = f' class="{" ".join(classes)}"' if classes else ""
        interval = f"<small>{html.escape(cell.interval)}</small>" if cell.interval else ""
        cells.append(f"<td{attribute}>{html.escape(cell.text)}{interval}</td>")
    kind = ' class="difference"' if line.difference else ""
    return f'<tr{kind}><th scope="row">{html.escape(line.label)}</th>{"".join(cells)}</tr>'
