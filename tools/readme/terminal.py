"""Runs a command on a terminal of the given width and prints its screen as an SVG picture.

    terminal.py COMMAND COLUMNS >picture.svg

Bold and the eight colours are kept. A carriage return begins the line again, as progress bars do.
"""

import html
import os
import pty
import re
import struct
import subprocess
import sys
import termios
from fcntl import ioctl

COLOURS = ["#1e1e1e", "#e06c75", "#98c379", "#e5c07b", "#61afef", "#c678dd", "#56b6c2", "#dcdfe4"]
GROUND, TEXT = "#1e222a", "#dcdfe4"
CELL, LINE, MARGIN = 8.4, 18, 16
CODES = re.compile(r"\x1b\[([0-9;?]*)([A-Za-z])")


def run(command: str, columns: int) -> str:
    """Everything that the command writes to its terminal."""
    ours, theirs = pty.openpty()
    ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 50, columns, 0, 0))
    environment = {**os.environ, "TERM": "xterm-256color"}
    environment.pop("CI", None)
    child = subprocess.Popen(command, shell=True, stdin=theirs, stdout=theirs, stderr=theirs, env=environment)
    os.close(theirs)
    output = b""
    while True:
        try:
            part = os.read(ours, 65536)
        except OSError:
            break
        if not part:
            break
        output += part
    status = child.wait()
    if status not in (0, 3):
        sys.exit(f"'{command}' ended with status {status}:\n{output.decode(errors='replace')}")
    return output.decode(errors="replace")


def screen(output: str) -> list:
    """The lines that are visible at the end. A line is a list of (character, style)."""
    lines, row, column, style = [[]], 0, 0, ""
    at = 0
    while at < len(output):
        code = CODES.match(output, at)
        if code:
            at = code.end()
            number = int(code[1]) if code[1].isdigit() else 0
            if code[2] == "m":
                style = code[1] if code[1] not in ("", "0") else ""
            elif code[2] == "K":
                lines[row] = [] if number == 2 else lines[row][:column]
            elif code[2] == "A":
                row = max(row - (number or 1), 0)
            elif code[2] == "B":
                row += number or 1
            elif code[2] in "GH":
                column = max(number - 1, 0)
            elif code[2] == "J":
                lines = lines[: row + 1]
                lines[row] = lines[row][:column]
            continue
        character = output[at]
        at += 1
        if character == "\n":
            row, column = row + 1, 0
        elif character == "\r":
            column = 0
        elif character >= " ":
            while len(lines) <= row:
                lines.append([])
            lines[row] += [(" ", "")] * (column - len(lines[row]))
            lines[row][column : column + 1] = [(character, style)]
            column += 1
        while len(lines) <= row:
            lines.append([])
    while lines and not "".join(character for character, _ in lines[-1]).strip():
        lines.pop()
    return lines


def attributes(style: str) -> str:
    """The attributes of a text with these codes of a terminal."""
    out = ""
    for number in style.split(";"):
        if number == "1":
            out += ' font-weight="bold"'
        elif number == "2":
            out += ' opacity="0.7"'
        elif number.isdigit() and 30 <= int(number) <= 37:
            out += f' fill="{COLOURS[int(number) - 30]}"'
        elif number.isdigit() and 90 <= int(number) <= 97:
            out += f' fill="{COLOURS[int(number) - 90]}"'
    return out


def picture(lines: list, columns: int) -> str:
    """The lines as SVG."""
    width, height = round(2 * MARGIN + columns * CELL), 2 * MARGIN + len(lines) * LINE
    out = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" viewBox="0 0 {width} {height}">',
        f'<rect width="{width}" height="{height}" rx="8" fill="{GROUND}"/>',
        f'<g font-family="ui-monospace, SFMono-Regular, Menlo, Consolas, monospace" font-size="14" fill="{TEXT}" xml:space="preserve">',
    ]
    for row, line in enumerate(lines):
        start = 0
        while start < len(line):
            end = start
            while end < len(line) and line[end][1] == line[start][1]:
                end += 1
            text = "".join(character for character, _ in line[start:end])
            if text.strip():
                x, y = MARGIN + start * CELL, MARGIN + row * LINE + 13
                length = len(text) * CELL
                out.append(
                    f'<text x="{x:.1f}" y="{y}" textLength="{length:.1f}"{attributes(line[start][1])}>{html.escape(text)}</text>'
                )
            start = end
    return "\n".join(out + ["</g>", "</svg>"])


if __name__ == "__main__":
    command, columns = sys.argv[1], int(sys.argv[2])
    prompt = [[(character, "1") for character in f"$ {command}"]]
    print(picture(prompt + screen(run(command, columns)), columns))
