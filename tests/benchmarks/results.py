#!/usr/bin/env python3
"""Writes FOLDER/RESULTS.md from the measurements in FOLDER/results/*.json, one section a file, in the order of their names.

    tests/benchmarks/results.py FOLDER...            writes
    tests/benchmarks/results.py --check FOLDER...    exits with 1 where a RESULTS.md is not what its JSON files give

A measurement is a JSON object: `title`; `about` (a list of sentences: what is compared, caveats, what it says);
`command`, `commit` (that recorded it: the build is this one or its parent), `machine`, `date`; `columns` and `rows` (cells as text, as measured).
"""
import json
import pathlib
import sys
import textwrap

WIDTH = 110
NEEDED = ("title", "about", "command", "commit", "machine", "date", "columns", "rows")


def read(path):
    result = json.loads(path.read_text())
    missing = [key for key in NEEDED if not result.get(key)]
    if missing:
        sys.exit(f"error: {path} lacks {', '.join(missing)} (a figure without its source is no figure). Add them.")
    for row in result["rows"]:
        if len(row) != len(result["columns"]):
            sys.exit(f"error: {path}: a row has {len(row)} cells for {len(result['columns'])} columns: {row}")
    return result


def row_text(cells):
    return "| " + " | ".join(cells) + " |"


def fits(columns, rows):
    return all(len(row_text(cells)) <= WIDTH for cells in [columns, *rows])


def numbered(columns, rows):
    """Long first cells (and heads) go into a list; the table has their numbers."""
    lines = []
    for number, row in enumerate(rows, 1):
        lines += textwrap.wrap(f"{number}. {row[0]}", WIDTH, subsequent_indent="   ")
    lines.append("")
    return lines, ["row", *columns[1:]], [[str(n), *row[1:]] for n, row in enumerate(rows, 1)]


def lettered(columns):
    """Heads that alone are wider than a line: letters, and a list that says what they stand for."""
    letters = [columns[0]] + [chr(ord("A") + i) for i in range(len(columns) - 1)]
    lines = []
    for letter, head in zip(letters[1:], columns[1:]):
        lines += textwrap.wrap(f"- {letter}: {head}", WIDTH, subsequent_indent="  ")
    return [*lines, ""], letters


def described(columns, rows):
    """Rows whose cells are sentences: a list."""
    lines = []
    for row in rows:
        rest = [f"{head}: {cell}" if at else cell for at, (head, cell) in enumerate(zip(columns[1:], row[1:])) if cell]
        lines += textwrap.wrap(f"- {row[0]}: {'; '.join(rest)}", WIDTH, subsequent_indent="  ")
    return [*lines, ""]


def table(columns, rows):
    lines = []
    if any(len(cell) > 90 for row in rows for cell in row[1:]):
        return described(columns, rows)
    if not fits(columns, rows):
        more, columns, rows = numbered(columns, rows)
        lines += more
    if len(row_text(columns)) > WIDTH:
        more, columns = lettered(columns)
        lines += more
    while True:  # what is still too wide is cut into tables side by side, each with the row's name
        count = len(columns)
        while count > 2 and not fits(columns[:count], [r[:count] for r in rows]):
            count -= 1
        lines += [row_text(columns[:count]), "|" + "---|" * count]
        lines += [row_text(r[:count]) for r in rows] + [""]
        if count == len(columns):
            return lines
        columns, rows = columns[:1] + columns[count:], [r[:1] + r[count:] for r in rows]


def narrow(text):
    """The same page with no line above WIDTH: prose and commands go on in the next line, wide tables become several."""
    lines, out, at, fenced = text.split("\n"), [], 0, False
    while at < len(lines):
        line = lines[at]
        fenced ^= line.startswith("```")
        if line.startswith("|") and not fenced:
            end = at
            while end < len(lines) and lines[end].startswith("|"):
                end += 1
            cells = [[cell.strip() for cell in row.strip()[1:-1].split("|")] for row in lines[at:end]]
            whole = all(len(row) <= WIDTH for row in lines[at:end])
            out += lines[at:end] if whole else table(cells[0], cells[2:])[:-1]
            at = end
            continue
        wrapped = textwrap.wrap(line, WIDTH - 2 * fenced, break_long_words=False, break_on_hyphens=False,
                                subsequent_indent="    " * fenced) or [""]
        out += [part + " \\" * fenced for part in wrapped[:-1]] + wrapped[-1:]
        at += 1
    return "\n".join(out)


def section(path):
    r = read(path)
    lines = [f"## {r['title']}", ""]
    for sentence in r["about"]:
        lines += textwrap.wrap(sentence, WIDTH, break_long_words=False, break_on_hyphens=False)
    lines += ["", *table(r["columns"], r["rows"])]
    source = f"{r['date']}; {r['machine']}; recorded in commit {r['commit']}; `results/{path.name}`."
    lines += [*textwrap.wrap(source, WIDTH), "", "```"]
    for command in r["command"].split("; "):
        wrapped = textwrap.wrap(command, WIDTH - 2, break_long_words=False, break_on_hyphens=False, subsequent_indent="    ")
        lines += [line + " \\" for line in wrapped[:-1]] + wrapped[-1:]
    return lines + ["```", ""]


def page(folder):
    title = (folder / "results" / "TITLE.txt").read_text().strip().split("\n")
    lines = [f"# {title[0]}", ""] + textwrap.wrap(" ".join(title[1:]), WIDTH)
    lines += ["", "Generated by `tests/benchmarks/results.py` from `results/*.json`: edit those.", ""]
    for path in sorted((folder / "results").glob("*.json")):
        lines += section(path)
    return "\n".join(lines).rstrip() + "\n"


def main(arguments):
    check = "--check" in arguments
    stale = []
    for folder in (pathlib.Path(a) for a in arguments if a != "--check"):
        text, target = page(folder), folder / "RESULTS.md"
        if check:
            stale += [target] if not target.exists() or target.read_text() != text else []
        else:
            target.write_text(text)
    for target in stale:
        print(f"error: {target} is not what its JSON files give. Run tests/benchmarks/results.py {target.parent}.")
    return 1 if stale else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
