"""The reference of all settings, from what the programs print for `--help`."""

import os
import re
import subprocess
from dataclasses import dataclass
from pathlib import Path

PROGRAMS = ("sluice-publisher", "sluice-aggregator", "sluice-operator")

HEAD = """# Settings

Every option of the three programs, with its environment variable and its default, as `--help` prints them. This page is generated from
the programs: do not edit it. `make docs-generated` writes it again, and `make test-docs` compares it.

An option on the command line takes precedence over its environment variable. TIME is a whole number with a unit (`250ms`, `10s`, `5m`, `24h`,
`90d`), and so is SIZE (`512B`, `64KiB`, `8MiB`, `1GiB`). In a resource of Kubernetes most settings are fields
([resource.md](resource.md)); one that is no field is a variable in `spec.aggregator.pods.env` or `spec.publisher.pods.env`.
"""


@dataclass
class Option:
    name: str
    about: str


def help_of(words: list[str]) -> str:
    # Values of variables that are set would be printed too.
    return subprocess.run([*words, "--help"], check=True, capture_output=True, text=True, env={}).stdout


def part(text: str, heading: str) -> list[str]:
    """Returns the lines below a heading of a help text."""
    found = re.search(rf"^{heading}:\n((?:[ ].*\n|\n)*)", text + "\n", re.MULTILINE)
    return found[1].splitlines() if found else []


def options(text: str) -> list[Option]:
    """Returns the options, and the arguments without a name, of a help text."""
    found: list[Option] = []
    for line in [*part(text, "Arguments"), *part(text, "Options")]:
        # The text of an option is beside it after two spaces, or indented below it.
        begins = re.fullmatch(r" {2,6}(?:-\w, )?(--[\w-]+(?: \S+)?|[<\[][A-Z]\S*)(?:  +(.*))?", line)
        if begins:
            found.append(Option(begins[1], begins[2] or ""))
        elif line.strip():
            found[-1].about += " " + line.strip()
    listed = re.findall(r"^ {2,6}(?:-\w, )?(--[\w-]+)", text, re.MULTILINE)
    assert [option.name.split()[0] for option in found if option.name.startswith("--")] == listed, listed
    return [option for option in found if option.name not in ("--help", "--version")]


def take(pattern: str, about: str) -> tuple[str | None, str]:
    """Takes what is in brackets out of a text."""
    found = re.search(rf" *\[{pattern}\]", about)
    return (found[1], about.replace(found[0], "", 1)) if found else (None, about)


def code(text: str) -> str:
    return "`" + text.replace("|", "\\|") + "`"


def row(option: Option, required: set[str]) -> str:
    # `<TIME>` is a value, and `[<true|false>]` one that may be left out.
    name = re.sub(r"[<>]", "", option.name)
    variable, about = take(r"env: (\w+)=?", option.about)
    possible, about = take(r"possible values: ([^\]]*)", about)
    # A default can have brackets: `[::]:8080`.
    default, about = take(r"default: ((?:\[[^\]]*\]|[^\]])*)", about)
    about, *meanings = re.split(r" +Possible values: - | - (?=[a-z]+: )", about) if "Possible values: - " in about else [about]
    about = ". ".join([about, *(f"`{one.replace(': ', '`: ', 1)}" for one in meanings)])
    about = " ".join(about.split()).replace("<", "&lt;").replace("|", "\\|")
    if possible and not all(value in name for value in possible.split(", ")):
        about += ". Possible values: " + ", ".join(map(code, possible.split(", ")))
    default = "required" if name.split()[0] in required else code(default) if default else "–"
    return f"| {code(name)} | {code(variable) if variable else '–'} | {default} | {about} |\n"


def sections(words: list[str], shown: list[str]) -> str:
    """Returns a section for a command, and for those below it."""
    text = help_of(words)
    about = text.split("\n\n")[0].strip().rstrip(".")
    level = "##" if len(shown) == 1 else "###"
    page = f"\n{level} {' '.join(shown)}\n\n{about}.\n"
    usage = re.search(r"^Usage: (.*)", text, re.MULTILINE)[1]
    required = set(re.findall(r"--[\w-]+", re.sub(r"\[[^\]]*\]", "", usage)))
    if rows := [row(option, required) for option in options(text)]:
        page += "\n| option | variable | default | meaning |\n|---|---|---|---|\n" + "".join(rows)
    for command in re.findall(r"^  (\w[\w-]*)", "\n".join(part(text, "Commands")), re.MULTILINE):
        if command != "help":
            page += sections([*words, command], [*shown, command])
    return page


def page(programs: Path) -> str:
    return HEAD + "".join(sections([str(programs / program)], [program]) for program in PROGRAMS)


def programs() -> Path:
    root = Path(__file__).resolve().parents[2]
    return (root / os.environ.get("CARGO_TARGET_DIR", "target")).resolve() / "debug"
