"""A page of the documentation, as the sessions read it: its headings, its fenced blocks, and the marks above them.

A mark is a comment on the lines directly above a block, which no reader sees:

    <!-- not run: REASON -->   the block is not run
    <!-- answer -->            what the block before printed; it is compared
    <!-- goes on as NAME -->   the block is started in the background, and goes on while the next ones run
    <!-- answer of NAME -->    what that block has printed so far; it is waited for
    <!-- file NAME -->         what the reader writes into a file of this name
    <!-- hidden: COMMAND -->   a command that is no part of the text, such as the fault that the text is about

Every other block of the language `sh` or `console` is run. A block of the language `console` has commands after `$ `, each with
what it prints.
"""

import re
import shlex
from dataclasses import dataclass, field
from pathlib import Path

SHELL = ("sh", "bash", "shell")
MARKS = re.compile(r"not run: .+|answer( of \w+)?|goes on as \w+|file \S+")
# Where the times of a session are written, and those in a clean clone.
TIMES = "<!-- times: written by make docs-times -->"
CLEAN_TIMES = "<!-- times in a clean clone: written by make docs-clean TIMES=1 -->"
END = "<!-- end of times -->"


@dataclass
class Block:
    language: str
    text: str
    line: int
    section: str
    marks: list[str] = field(default_factory=list)

    def mark(self, name: str) -> str | None:
        """Returns what follows the name of a mark, or None without such a mark."""
        for mark in self.marks:
            if mark == name or mark.startswith((name + " ", name + ":")):
                return mark[len(name) :].lstrip(": ")
        return None


def blocks(path: Path) -> list[Block]:
    """Returns the blocks of a page in their order. A hidden command that stands alone is one too."""
    found: list[Block] = []
    section, marks = "", []
    lines = iter(enumerate(path.read_text().splitlines(), 1))
    for number, line in lines:
        comment = re.fullmatch(r"\s*<!--\s*(.*?)\s*-->\s*", line)
        fence = re.fullmatch(r"(\s*)(`{3,})\s*(\w*)\s*", line)
        if comment and comment[1].startswith("hidden:"):
            found.append(Block("hidden", comment[1].removeprefix("hidden:").strip(), number, section))
        elif comment:
            marks.append(comment[1])
        elif fence:
            # A mark with a mistake in it would leave out a comparison.
            if unknown := [mark for mark in marks if not MARKS.fullmatch(mark)]:
                raise ValueError(f"{path}:{number}: there is no such mark: {unknown}")
            text = []
            for _, inside in lines:
                if inside.strip() == fence[2]:
                    break
                text.append(inside.removeprefix(fence[1]))
            found.append(Block(fence[3], "\n".join(text), number, section, marks))
            marks = []
        else:
            marks = []
            if heading := re.fullmatch(r"(#{1,6}) (.*)", line):
                section = heading[2]
    return found


def commands(block: Block) -> list[tuple[str, str]]:
    """Returns the commands of a block of the language `console`, each with what it prints."""
    found: list[tuple[str, list[str]]] = []
    for line in block.text.splitlines():
        if found and not complete(found[-1][0]):
            found[-1] = (found[-1][0] + "\n" + line.removeprefix("> "), found[-1][1])
        elif line.startswith("$ "):
            found.append((line.removeprefix("$ "), []))
        else:
            found[-1][1].append(line)
    return [(command, "\n".join(answer)) for command, answer in found]


def complete(command: str) -> bool:
    """Returns whether a shell would not ask for another line."""
    if command.endswith("\\"):
        return False
    try:
        shlex.split(command, comments=True)
    except ValueError:
        return False
    return True


def agrees(expected: str, printed: str) -> bool:
    """Compares what a page shows with what was printed. White space does not count, because long answers are wrapped in the page;
    `…` stands for anything, and any time for any other one."""
    pattern = ".*".join(map(re.escape, plain(expected).split("…")))
    return re.fullmatch(pattern, plain(printed), re.DOTALL) is not None


def plain(text: str) -> str:
    text = re.sub(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)", "TIME", text)
    return re.sub(r"\s", "", text)


def with_times(text: str, mark: str, seconds: list[tuple[str, float]]) -> str:
    """Returns the text of a page with another table of times below this mark."""
    before, rest = text.split(mark)
    _, after = rest.split(END, 1)
    rows = [f"| {section} | {duration:.1f} s |" for section, duration in seconds]
    rows.append(f"| together | {sum(duration for _, duration in seconds):.1f} s |")
    table = "\n".join(["| part | time |", "|---|---|", *rows])
    return f"{before}{mark}\n{table}\n{END}{after}"
