#!/usr/bin/env python3
"""Which row of the attack battery and of the OAuth list is shown by which test.

    tests/tools/battery.py           rows without a test and why; exit 1 when a row has neither a test nor a reason
    tests/tools/battery.py --all     every row with its tests

A test names the rows that it shows in comments of exactly this form above it:

    // battery: J1 J2
    // oauth: O3

Rows that no test can show yet, or that do not apply, stand with their reason in tests/battery_exceptions.txt.
"""

import pathlib
import re
import sys

ROOT = pathlib.Path(__file__).resolve().parents[2]
EXCEPTIONS = ROOT / "tests" / "battery_exceptions.txt"

BATTERY = {
    "JSON web tokens": (
        "J1 J2 J4 J5 J6 J7 J9 J10 J11 J12 J14 J15 J16 J17 J19 J20 J21 J22 J24 J25 J26 J27 J29 J30 J31 J32 J34 "
        "J35 J36 J37 J39 J40 J41 J42 J44 J45 J46 J47 J49 J50 J51 J52 J54 J55"
    ),
    "API keys": "K1 K2 K4 K5 K6 K7 K9 K10 K11 K12 K14 K15 K16 K17 K19 K20 K21 K22 K24 K25",
    "paths": "P1 P2 P4 P5 P6 P7 P9 P10 P11 P12 P14 P15 P16 P17 P19 P20 P21 P22 P24 P25 P26 P27",
    "headers and the injected identity": "H2 H3 H4 H5 H7 H8 H9 H10 H12 H13 H14 H15 H17 H18 H19",
    "methods, CORS, host": "M1 M3 M4 M5 M6 M8 M9 O1 O2 O4 O5 O6 O7",
    "gRPC and HTTP/2": "G1 G2 G3 G4 G6 G7 G8 G9 G11 G12 G13 G14 G16",
    "configuration": "C1 C2 C3 C5 C6 C7 C8 C10 C11 C12 C13 C15",
    "Redis": "R1 R2 R3 R5 R6 R7 R8 R10 R11 R12 R13 R15 R16",
    "process resources": "X1 X2 X4 X5 X6 X7 X9 X10 X11 X12",
}
OAUTH = {"bearer tokens at the gate": "O1 O2 O3 O4 O5 O6 O7 O8 O9 O10 O11 O12 O13 O14"}

# Rows of parts that are not built yet: a test may name one already, and none is asked for.
LATER = {"issuer": "I2 I3 I4 I5 I7 I8 I9 I10 I12 I13 I14 I15"}

LATER_OAUTH = re.compile(r"[A-NP-U]\d+$")

NAMING = re.compile(r"^\s*// (battery|oauth): (\S.*)$")
FUNCTION = re.compile(r"\bfn (\w+)")


def all_rows():
    rows = {}
    for kind, sections in (("battery", BATTERY), ("oauth", OAUTH)):
        for section, names in sections.items():
            for name in names.split():
                rows[(kind, name)] = section
    return rows


def tests_by_row(rows, mistakes):
    found = {}
    later = {("battery", name) for names in LATER.values() for name in names.split()}
    for path in sorted([*ROOT.glob("src/**/*.rs"), *ROOT.glob("tests/**/*.rs")]):
        # The conformance suite is one list of functions, which the tests of each engine run.
        is_suite = path.stem == "conformance"
        pending, is_test = [], is_suite
        for number, line in enumerate(path.read_text().splitlines(), 1):
            where = f"{path.relative_to(ROOT)}:{number}"
            naming = NAMING.match(line)
            if naming:
                pending += [(naming[1], name, where) for name in naming[2].split()]
                continue
            if not pending:
                continue
            text = line.strip()
            if text.startswith("#["):
                is_test = is_test or "test" in text
                continue
            if text.startswith("//"):
                continue
            function = FUNCTION.search(text)
            for kind, name, at in pending:
                if not function or not is_test:
                    mistakes.append(f"{at}: names {name}, but no test follows")
                elif (kind, name) in later or (kind == "oauth" and LATER_OAUTH.match(name)):
                    pass
                elif (kind, name) not in rows:
                    mistakes.append(f"{at}: there is no row {name} in the {kind} list")
                else:
                    found.setdefault((kind, name), []).append(f"{path.relative_to(ROOT)} {function[1]}")
            pending, is_test = [], is_suite
        for kind, name, at in pending:
            mistakes.append(f"{at}: names {name}, but no test follows")
    return found


def exceptions(rows, mistakes):
    reasons = {}
    for number, line in enumerate(EXCEPTIONS.read_text().splitlines(), 1):
        line = line.strip()
        if not line or line.startswith("#"):
            continue
        parts = line.split(None, 2)
        row = tuple(parts[:2])
        if len(parts) < 3 or row not in rows:
            mistakes.append(f"{EXCEPTIONS.name}:{number}: expected `battery|oauth ID reason` with a row of the list")
        elif row in reasons:
            mistakes.append(f"{EXCEPTIONS.name}:{number}: {row[1]} stands twice")
        else:
            reasons[row] = parts[2]
    return reasons


def main():
    show_all = sys.argv[1:] == ["--all"]
    if sys.argv[1:] and not show_all:
        sys.exit(__doc__)
    mistakes = []
    rows = all_rows()
    found = tests_by_row(rows, mistakes)
    reasons = exceptions(rows, mistakes)
    heading = None
    for row, section in rows.items():
        kind, name = row
        if row in found and row in reasons:
            mistakes.append(f"{kind} {name} has a test now: strike it from {EXCEPTIONS.name}")
        if row not in found and row not in reasons:
            mistakes.append(f"{kind} {name} ({section}) has neither a test nor a reason")
        if row in found and not show_all:
            continue
        if section != heading:
            heading = section
            print(f"\n{kind}, {section}")
        if row in found:
            print(f"  {name:4} {'; '.join(found[row])}")
        else:
            print(f"  {name:4} no test: {reasons.get(row, 'NO REASON GIVEN')}")
    print(f"\n{len(rows)} rows: {len(found)} with a test, {len(reasons)} with a reason")
    for mistake in mistakes:
        print(f"error: {mistake}", file=sys.stderr)
    return 1 if mistakes else 0


if __name__ == "__main__":
    sys.exit(main())
