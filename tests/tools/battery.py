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
    "issuer": "I2 I3 I4 I5 I7 I8 I9 I10 I12 I13 I14 I15",
}
# Each with its level: M required by an RFC, S recommended there, P our own policy.
OAUTH = {
    "authorization endpoint": (
        "A1:M A2:M A3:M A4:M A5:M/S A6:M A7:M A8:M A9:M A10:M A11:M A12:M A13:M A14:M A15:M A16:M A17:M/S A18:M A19:S "
        "A20:M"
    ),
    "redirect URIs": "B1:M B2:M B3:M B4:M/P B5:S B6:M B7:M",
    "PKCE": "C1:M C2:P C3:M C4:P C5:M C6:M/P C7:P C8:M C9:P C10:M C11:P C12:S",
    "issuer identification": "D1:M D2:M D3:M D4:M D5:M",
    "token endpoint": "E1:M E2:M E3:M E4:M E5:P E6:M E7:M E8:M E9:M E10:M E11:P E12:M",
    "client authentication": "F1:M F2:M F3:M F4:M F5:P F6:M F7:P F8:M F9:M/P F10:P F11:S",
    "authorization code": "G1:M G2:M/S G3:M G4:M G5:M G6:P G7:M G8:P G9:P",
    "refresh": "H1:M H2:M H3:P H4:P H5:P H6:P H7:M H8:M H9:M H10:M H11:S H12:S H13:P H14:P",
    "client credentials": "I1:M I2:S I3:M/S I4:M",
    "revocation": "J1:M J2:M J3:M J4:S J5:S/P J6:M J7:M J8:P J9:P",
    "introspection": "K1:M K2:M K3:M K4:M K5:M K6:M K7:P K8:M K9:M",
    "metadata": "L1:M L2:M L3:M L4:M/P L5:M L6:P L7:P",
    "keys and key sets": "M1:M M2:P M3:P M4:P M5:P M6:P M7:P M8:P M9:P",
    "access tokens, issuing": "N1:M N2:M N3:M N4:S N5:M N6:M N7:M N8:S",
    "bearer tokens at the gate": "O1:M O2:M O3:M O4:M O5:M/P O6:M O7:P O8:M O9:M O10:M O11:M O12:M O13:P O14:P",
    "registration": "P1:M P2:M P3:M P4:P P5:M/P P6:P P7:P",
    "resource indicators and token exchange": "Q1:M Q2:M Q3:M Q4:M/P Q5:M/P Q6:P",
    "accounts, sign-in, sessions, consent": "R1:P R2:P R3:M R4:P R5:M R6:P R7:P R8:P R9:P R10:P R11:P R12:P R13:S R14:P R15:P",
    "sign-in elsewhere": "S1:M S2:M S3:P S4:M S5:P S6:P S7:M S8:P S9:P",
    "API keys": "T1:P T2:P T3:P T4:P T5:P T6:P T7:P T8:P T9:P T10:P",
    "everywhere": "U1:P U2:P U3:P U4:P U5:P U6:P",
}

NAMING = re.compile(r"^\s*// (battery|oauth): (\S.*)$")
FUNCTION = re.compile(r"\bfn (\w+)")


def all_rows():
    """Each row's section and, of the OAuth list, its level."""
    rows = {}
    for kind, sections in (("battery", BATTERY), ("oauth", OAUTH)):
        for section, names in sections.items():
            for name in names.split():
                name, _, level = name.partition(":")
                rows[(kind, name)] = (section, level)
    return rows


def tests_by_row(rows, mistakes):
    found = {}
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
    for row, (section, level) in rows.items():
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
            print(f"  {name:4} {level:4} {'; '.join(found[row])}")
        else:
            print(f"  {name:4} {level:4} no test: {reasons.get(row, 'NO REASON GIVEN')}")
    print(f"\n{len(rows)} rows: {len(found)} with a test, {len(reasons)} with a reason")
    for mistake in mistakes:
        print(f"error: {mistake}", file=sys.stderr)
    return 1 if mistakes else 0


if __name__ == "__main__":
    sys.exit(main())
