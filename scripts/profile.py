"""Reads the output of `perf script --show-task-events`, and prints how the CPU time is divided.

Threads have names of their own, so a sample belongs to the program that its process has executed last. A process that was
forked and has executed nothing, such as those of PostgreSQL, is its parent's program.
"""

import collections
import re
import sys

EXECUTED = re.compile(r"PERF_RECORD_COMM exec: (.+):(\d+)/\d+")
FORKED = re.compile(r"PERF_RECORD_FORK\((\d+):\d+\):\((\d+):\d+\)")
SAMPLE = re.compile(r"^\s*(.+?)\s+(\d+)/(\d+)\s+\S+:\s+[0-9a-f]+ (.+) \((\S+)\)\s*$")
# The kernel keeps so many characters of a name.
COMM = 15
HASH = re.compile(r"::h[0-9a-f]{16}$")


def main(program):
    chosen = program[:COMM]
    programs, samples = {}, collections.Counter()
    for line in sys.stdin:
        if found := EXECUTED.search(line):
            programs[found[2]] = found[1]
        elif found := FORKED.search(line):
            programs.setdefault(found[1], programs.get(found[2]))
        elif found := SAMPLE.match(line):
            name, pid, _, symbol, file = found.groups()
            if pid != "0":
                owner = programs.get(pid) or name
                samples[owner, file.rsplit("/", 1)[-1], HASH.sub("", symbol.split("+0x")[0])] += 1
    total = sum(samples.values())
    if not total:
        sys.exit("there is no sample")
    show("CPU time by program", by(samples, lambda key: key[0]), total, 12)
    of_program = {key: count for key, count in samples.items() if key[0] == chosen}
    total = sum(of_program.values())
    if not total:
        sys.exit(f"there is no sample of {program}")
    show(f"{program}, by file", by(of_program, lambda key: key[1]), total, 8)
    show(f"{program}, by function", by(of_program, lambda key: f"{key[2]} ({key[1]})"), total, 50)


def by(samples, name):
    counts = collections.Counter()
    for key, count in samples.items():
        counts[name(key)] += count
    return counts


def show(title, counts, total, lines):
    print(f"\n{title}")
    for name, count in counts.most_common(lines):
        print(f"{100 * count / total:5.1f}%  {name[:120]}")


main(sys.argv[1])
