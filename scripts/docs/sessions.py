"""usage: sessions.py [--times] [--clean | --cluster] [--record FILE] PAGE…

Runs the blocks of pages of documentation as a reader does, in their order, and compares what they print with what the pages
show. page.py says which blocks are run. Each page has a shell of its own, an empty folder that looks like a clone of the
repository, and a network of its own, so that the ports which the pages name are free.

--times writes into each page how long its parts took. --clean uses a clone of the last commit, in which nothing is built yet.
--cluster is for pages that make a cluster of kind: they run in the repository itself, and in the network of the machine, because the
cluster is there. --record writes the commands of the blocks `console` of a page, and what they printed, as JSON.
"""

import argparse
import fcntl
import json
import os
import re
import select
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from page import CLEAN_TIMES, SHELL, TIMES, Block, agrees, blocks, commands, with_times

ROOT = Path(__file__).resolve().parents[2]
TARGET = (ROOT / os.environ.get("CARGO_TARGET_DIR", "target")).resolve()
# What was accepted is stored within a fraction of a second. A loaded machine may need longer.
SOON = 60


class Failed(Exception):
    """A block did not do what its page says."""


class Session:
    """One page, with its shell."""

    def __init__(self, page: Path, clean: bool, cluster: bool):
        self.page, self.clean = page, clean
        self.deadline = 3600 if clean or cluster else 120
        self.folder = Path(tempfile.mkdtemp(prefix="sluice-docs-"))
        self.place, self.files = self.folder / "sluice", self.folder / "shell"
        (self.files / "bin").mkdir(parents=True)
        self.number = 0
        self.running: dict[str, Path] = {}
        self.groups: list[int] = []
        self.recorded: list[tuple[str, str]] = []
        self.printed = ""
        self.repeat: str | None = None
        if cluster:
            self.place = ROOT
        else:
            self.make_place()
        self.control, theirs = os.pipe()
        environment = os.environ | {
            "PATH": f"{self.files}/bin:{os.environ['PATH']}", "servers": str(self.folder / "servers"), "files": str(self.files),
            "LC_ALL": "C.UTF-8",
        }
        # A make that runs this one must not pass its options on to that of the page.
        for name in ("MAKEFLAGS", "MAKELEVEL", "MFLAGS"):
            environment.pop(name, None)
        if cluster:
            # Images of programs that are not optimised: their build takes a fraction of the time. The chart installs the version.
            environment |= {"PROFILE": "dev", "VERSIONED": "1"}
        else:
            # The folder has a link to it.
            environment.pop("CARGO_TARGET_DIR", None)
        self.shell = subprocess.Popen(
            ["bash", "--noprofile", "--norc"], stdin=subprocess.PIPE, text=True, pass_fds=[theirs], cwd=self.place,
            env=environment, start_new_session=True, stderr=(self.files / "shell.log").open("w"),
        )
        self.theirs = theirs
        # On a terminal curl shows no progress.
        # A command that fails ends the shell, which then says how.
        self.shell.stdin.write(f"trap 'printf \"%s\\n\" $? >&{theirs}' EXIT; set -e\n")
        self.run(f"curl() {{ command curl -sS \"$@\"; }}; . {ROOT}/scripts/docs/servers.sh")

    def make_place(self) -> None:
        """Makes the folder in which the reader is: a clone, in which everything is built already unless it is to be clean."""
        if self.clean:
            subprocess.run(["git", "clone", "--quiet", ROOT, self.place], check=True)
            return
        self.place.mkdir()
        for name in subprocess.check_output(["git", "ls-tree", "--name-only", "HEAD"], cwd=ROOT, text=True).split():
            (self.place / name).symlink_to(ROOT / name)
        (self.place / "target").symlink_to(TARGET)
        # `make run` builds before it runs. What it builds is built.
        cargo = self.files / "bin/cargo"
        cargo.write_text("#!/bin/sh\nexit 0\n")
        cargo.chmod(0o755)

    def run(self, text: str) -> str:
        """Runs text in the shell and returns what it printed. Fails if the last command does, or takes too long."""
        self.number += 1
        script, out = self.files / f"{self.number}.sh", self.files / f"{self.number}.out"
        script.write_text(text + "\n")
        line = f"source {script} >{out} 2>&1 </dev/null; printf '0\\n' >&{self.theirs}\n"
        self.shell.stdin.write(line)
        self.shell.stdin.flush()
        ready, _, _ = select.select([self.control], [], [], self.deadline)
        printed = out.read_text(errors="replace") if out.exists() else ""
        if not ready:
            raise Failed(f"it has not ended after {self.deadline} s; it printed:\n{printed}")
        status = os.read(self.control, 16).decode().strip()
        if status != "0":
            raise Failed(f"it ended with {status}; it printed:\n{printed}")
        # kubectl succeeds with a selector that selects nothing.
        if "No resources found" in printed:
            raise Failed(f"it printed:\n{printed}")
        return printed

    def wait_for(self, expected: str, read, seconds: float = SOON) -> None:
        """Reads until what is read agrees with what the page shows."""
        end = time.monotonic() + seconds
        while not agrees(expected, printed := read()):
            if time.monotonic() > end:
                raise Failed(f"the page shows:\n{expected}\nand this was printed:\n{printed}")
            time.sleep(0.1)

    def command(self, text: str, expected: str | None) -> None:
        """Runs a command, and compares what it prints. One that only reads is repeated: what was accepted is stored a little
        later, and a page does not say how long the reader takes to type."""
        self.printed = self.run(text)
        self.repeat = text if only_reads(text) else None
        if expected is not None:
            self.compare(expected)

    def compare(self, expected: str) -> None:
        first = [self.printed]
        repeat = self.repeat

        def read() -> str:
            if first or repeat is None:
                return first.pop() if first else self.printed
            self.printed = self.run(repeat)
            return self.printed

        if repeat is None and not agrees(expected, self.printed):
            raise Failed(f"the page shows:\n{expected}\nand this was printed:\n{self.printed}")
        self.wait_for(expected, read)

    def block(self, block: Block) -> bool:
        """Does what a block says. Returns whether it says anything."""
        if block.mark("not run") is not None:
            return False
        if (name := block.mark("answer of")) is not None:
            # What goes on may have to be built first.
            self.wait_for(block.text, lambda: self.running[name].read_text(errors="replace"), max(SOON, self.deadline / 2))
        elif block.mark("answer") is not None:
            self.compare(block.text)
        elif (name := block.mark("file")) is not None:
            (self.place / name).write_text(block.text + "\n")
        elif (name := block.mark("goes on as")) is not None:
            self.running[name] = self.files / f"{name}.out"
            self.running[name].touch()
            # With job control it has a process group of its own, which Ctrl-C reaches.
            start = f"{{ {block.text}\n}} >{self.running[name]} 2>&1 </dev/null &"
            self.groups.append(int(self.run(f"set -m\n{start}\nset +m\necho $! | tee {self.files}/{name}.pid")))
        elif block.language == "console":
            for text, expected in commands(block):
                self.command(text, expected)
                self.recorded.append((text, self.printed))
        elif block.language in (*SHELL, "hidden"):
            self.command(block.text, None)
        else:
            return False
        return True

    def replay(self) -> list[tuple[str, float]]:
        """Runs all blocks. Returns how long the blocks of each part took."""
        seconds: dict[str, float] = {}
        for block in blocks(self.page):
            began = time.monotonic()
            try:
                says_something = self.block(block)
            except Failed as failure:
                shown = f"{self.page.relative_to(ROOT)}:{block.line}: {block.section}"
                raise Failed(f"{shown}\n{block.text}\n\n{failure}\n{self.logs()}") from None
            if says_something:
                seconds[block.section] = seconds.get(block.section, 0) + time.monotonic() - began
        return list(seconds.items())

    def logs(self) -> str:
        """Returns the ends of the logs of what the page started."""
        logs = [*self.running.values(), *self.place.glob("*.log"), *self.place.glob("data/*.log"), *self.folder.glob("servers/*.log")]
        ends = ((log, log.read_text(errors="replace").splitlines()[-5:]) for log in logs if log.is_file())
        return "\n".join(f"── {log.name}\n" + "\n".join(line[:400] for line in lines) for log, lines in ends)

    def end(self) -> None:
        for group in [*self.groups, self.shell.pid]:
            try:
                os.killpg(group, signal.SIGKILL)
            except ProcessLookupError:
                pass
        self.shell.wait()
        if os.environ.get("SLUICE_TEST_KEEP"):
            print(f"kept: {self.folder}")
        else:
            shutil.rmtree(self.folder, ignore_errors=True)


def only_reads(text: str) -> bool:
    if "\n" in text.strip() and not text.startswith("curl"):
        return False
    return re.match(r"curl\b", text) is not None and re.search(r"(^|\s)(-X|-d|-T|--json|--data\S*|--request)\b", text) is None


def turn_on_loopback() -> None:
    """A new network has a loopback device that is off."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        up_and_running = 0x1 | 0x40
        request = struct.pack("16sh14s", b"lo", up_and_running, b"")
        fcntl.ioctl(any_socket, 0x8914, request)


def replay(page: Path, options: argparse.Namespace) -> bool:
    session = Session(page, options.clean, options.cluster)
    try:
        seconds = session.replay()
    except Failed as failure:
        print(f"FAILED {failure}\n", flush=True)
        return False
    finally:
        session.end()
    print(f"{page.relative_to(ROOT)}: {len(seconds)} parts agree, in {sum(part for _, part in seconds):.1f} s", flush=True)
    if options.record:
        options.record.write_text(json.dumps(session.recorded))
    mark = CLEAN_TIMES if options.clean else TIMES
    if options.times and mark in page.read_text():
        page.write_text(with_times(page.read_text(), mark, seconds))
    return True


def main() -> int:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--times", action="store_true")
    arguments.add_argument("--clean", action="store_true")
    arguments.add_argument("--cluster", action="store_true")
    arguments.add_argument("--record", type=Path)
    arguments.add_argument("--inside", action="store_true", help=argparse.SUPPRESS)
    arguments.add_argument("pages", nargs="+", type=lambda name: Path(name).resolve())
    options = arguments.parse_args()
    if not options.inside:
        # Each page in a network of its own. Who is not root makes one that belongs to a user namespace.
        network = ["unshare", "--net"] + ([] if os.geteuid() == 0 else ["--user", "--map-current-user", "--keep-caps"])
        network = [] if options.cluster else network
        own = [*network, sys.executable, __file__, "--inside", *sys.argv[1 : -len(options.pages)]]
        passed = sum(subprocess.run([*own, page]).returncode == 0 for page in options.pages)
        print(f"{passed} passed, {len(options.pages) - passed} failed")
        return int(passed < len(options.pages))
    if not options.cluster:
        turn_on_loopback()
    return int(not replay(options.pages[0], options))


if __name__ == "__main__":
    sys.exit(main())
