#!/usr/bin/env python3
"""Makes manual pages and shell completions from the program's help: scripts/make/docs.py BINARY FOLDER

Writes FOLDER/man/man1/*.1 (mdoc) and the completions for bash, zsh and fish to their places under a prefix' share/. The flags come
from `BINARY --experimental-dump-help`, the manual's environment and files from the tables in docs/. The completions of
swift-argument-parser are not used: they do not support flags with several values and offer nothing after `--layers 0 1`.
"""
import json
import os
import re
import subprocess
import sys
import time

BINARY, FOLDER = sys.argv[1:]
DOCUMENTS = os.path.join(os.path.dirname(os.path.abspath(__file__)), "../../docs")
LIST = "upToNextOption"


class Command:
    """A command with its flags, from the dump."""

    def __init__(self, dump):
        self.name, self.abstract = dump["commandName"], dump["abstract"]
        self.discussion = dump.get("discussion", "")
        arguments = [Flag(a) for a in dump.get("arguments", []) if a["shouldDisplay"]]
        self.flags = [a for a in arguments if not a.is_positional]
        # The program's commands have at most one positional argument, a file or folder.
        self.positional = next((a for a in arguments if a.is_positional), None)
        self.commands = [Command(c) for c in dump.get("subcommands", [])]


class Flag:
    """A flag. `values` are its possible values if the dump lists them; `kind` is list, file, directory or empty."""

    def __init__(self, dump):
        self.is_positional = dump["kind"] == "positional"
        self.name = dump.get("preferredName", {}).get("name", "")
        self.short = [n["name"] for n in dump.get("names", []) if n["kind"] == "short"]
        self.abstract, self.default = dump.get("abstract", ""), dump.get("defaultValue")
        self.section = dump.get("sectionTitle", "General")
        self.takes_value, self.value = dump["kind"] == "option", dump.get("valueName", "")
        self.takes_list = dump["parsingStrategy"] == LIST
        completion = dump.get("completionKind", {})
        self.kind = next(iter(completion), "")
        self.values = completion["list"]["values"] if self.kind == "list" else []


def cells(line):
    return [c.strip().replace("\\|", "|") for c in re.split(r"(?<!\\)\|", line)[1:-1]]


def table(*heading):
    """Returns the rows of all tables in docs/ with these columns, and the paragraph before the last such table."""
    rows, introduction, blocks = [], "", []
    for name in ["files.md", "flags.md", "gpus.md", "hub.md"]:
        with open(os.path.join(DOCUMENTS, name), encoding="utf-8") as file:
            blocks += file.read().split("\n\n")
    for before, block in zip(blocks, blocks[1:]):
        lines = block.splitlines()
        if lines and cells(lines[0]) == list(heading):
            rows += map(cells, lines[2:])
            introduction = before
    if not rows:
        sys.exit(f"make/docs.py: docs/ has no table with the columns {' and '.join(heading)}; the manual needs it")
    return rows, introduction


# The manual.

def escape(text):
    return text.replace("\\", "\\e").replace("-", "\\-")


def inline(text):
    """Returns roff for Markdown: `code` and flags in bold, *emphasis* underlined."""
    parts = re.split(r"(`[^`]+`|(?<![\w-])--[a-z_-]+)", text)
    return "".join("\\fB" + escape(p.strip("`")) + "\\fP" if i % 2 else
                   re.sub(r"\*(\w+)\*", r"\\fI\1\\fP", p.replace("\\", "\\e")) for i, p in enumerate(parts))


def prose(text):
    """Returns lines of roff. Each sentence begins a line, and no line starts like a roff request."""
    sentences = re.split(r"(?<=[.:;])\s+(?=[A-Z`-])", " ".join(text.split()))
    return ["\\&" + s if s[0] in ".'" else s for s in map(inline, filter(None, sentences))]


def apart(discussion):
    """Returns a discussion without its examples, and the examples as roff."""
    pattern = r"(?m)^Examples?:\n((?:  .*\n?)+)"
    shown = [line.strip() for block in re.findall(pattern, discussion) for line in block.splitlines()]
    return re.sub(pattern, "", discussion), shown and [".Bd -literal -offset indent", *shown, ".Ed"]


def paragraphs(text):
    """Returns a discussion as paragraphs in roff."""
    lines = []
    for number, block in enumerate(filter(None, text.split("\n\n"))):
        if number:
            lines.append(".Pp")
        lines += prose(block)
    return lines


def tagged(items):
    """Returns an mdoc list of the items, which are (head, lines of the body)."""
    return [".Bl -tag -width Ds", *(line for head, body in items for line in [".It " + head, *body]), ".El"]


def flag_list(flags):
    items = []
    for flag in flags:
        head = " , ".join([f"Fl {s}" for s in flag.short] + [f"Fl \\-{flag.name}"])
        text, _, default = flag.abstract.partition(" (default: ")
        default = default.rstrip(")") or flag.default
        body = prose(text)
        if flag.values:
            body.append("One of " + ", ".join(flag.values[:-1]) + " and " + flag.values[-1] + ".")
        if default:
            body += prose(f"(default: {default})")
        items.append((head + (f" Ar {escape(flag.value)}" if flag.takes_value else ""), body))
    return tagged(items)


def variables(cell):
    return " , ".join(f"Ev {name}" for name in re.findall(r"`([^`]+)`", cell))


def page(name, title, synopsis, sections):
    date = time.strftime("%B %-d, %Y", time.gmtime(os.stat(BINARY).st_mtime))
    lines = [f".Dd {date}", f".Dt {name.upper()} 1", ".Os", ".Sh NAME", f".Nm {name}", f".Nd {title[0].lower() + title[1:].rstrip('.')}",
             ".Sh SYNOPSIS", *synopsis]
    for heading, body in sections:
        if body:
            lines += [f".Sh {heading}", *body]
    return "\n".join(lines) + "\n"


def see_also(names):
    return [f".Xr {n} 1" + (" ," if i + 1 < len(names) else "") for i, n in enumerate(sorted(names))]


def manual(root):
    """Returns the manual pages by name."""
    pages = [f"{root.name}-{c.name}" for c in root.commands]
    text, examples = apart(root.discussion)
    codes = re.search(r"Exit codes: (.*)", root.discussion)
    if not examples or not codes:
        sys.exit(f"make/docs.py: the help of {root.name} has no 'Example:' or no 'Exit codes:'; the manual needs both")
    text = text[:text.index("Exit codes:")]
    status = [(code, prose(what[0].upper() + what[1:] + ".")) for code, what in
              re.findall(r"(\d+) (.+?)(?:, (?=\d+ )|\.?$)", codes[1])]
    flags = []
    for section in dict.fromkeys(f.section for f in root.flags):
        flags += [f".Ss {section}", *flag_list(f for f in root.flags if f.section == section)]
    environment = [("Ev SAE_EXTRACT_ Ns Ar FLAG", prose("The value of a flag that is not on the command line."))]
    environment += [(variables(names), prose(meaning[0].upper() + meaning[1:] + "."))
                    for names, meaning in table("variable", "meaning")[0]]
    files, place = table("file", "content")
    files = [("Pa " + escape(name[1:-1]) if name[0] == "`" else inline(name), prose(content + ".")) for name, content in files]
    result = {root.name: page(
        root.name, root.abstract,
        [".Nm", ".Fl \\-layers Ar n ...", ".Op Ar flags", *(line for c in root.commands for line in
                                                        [".Nm", f".Cm {c.name}", ".Op Ar flags"])],
        [("DESCRIPTION", paragraphs(text)), ("FLAGS", flags), ("ENVIRONMENT", tagged(environment)),
         ("FILES", [*prose(place), *tagged(files)]), ("EXIT STATUS", tagged(status)),
         ("EXAMPLES", examples), ("SEE ALSO", see_also(pages))])}
    own = {f.name for f in root.flags}
    for command in root.commands:
        if {f.name for f in command.flags} == own:
            flags = ["The flags are those of", f".Xr {root.name} 1 ."]
        else:
            flags = flag_list(command.flags)
        text, examples = apart(command.discussion)
        synopsis = [f".Nm {root.name} {command.name}", ".Op Ar flags"]
        if command.positional:
            synopsis.insert(1, f".Ar {command.positional.value}")
        result[f"{root.name}-{command.name}"] = page(
            f"{root.name}-{command.name}", command.abstract, synopsis,
            [("DESCRIPTION", prose(command.abstract) + [".Pp"] + paragraphs(text)), ("FLAGS", flags),
             ("EXIT STATUS", ["The exit codes are those of", f".Xr {root.name} 1 ."]), ("EXAMPLES", examples), ("SEE ALSO", see_also([root.name]))])
    return result


# The completions.

def quoted(text):
    return "'" + text.replace("'", "'\\''") + "'"


def flag_words(command):
    return " ".join("--" + f.name for f in command.flags)


def bash(root):
    function = "_" + root.name.replace("-", "_")
    key = "--{}".format
    lists = "|".join(key(f.name) for f in root.flags if f.takes_list)
    switches = "|".join(sorted({key(f.name) for c in [root, *root.commands] for f in c.flags if not f.takes_value} | {"-h"}))
    every = list({f.name: f for c in [root, *root.commands] for f in c.flags}.values())
    cases = [f"            {key(f.name)}) mapfile -t COMPREPLY < <(compgen -W {quoted(' '.join(f.values))} -- \"$2\") ;;"
             for f in every if f.values]
    places = []
    for kind, option in [("directory", "-d"), ("file", "-f")]:
        words = "|".join(c.name for c in root.commands if c.positional and c.positional.kind == kind)
        if words:
            places.append(f"            {words}) mapfile -t COMPREPLY < <(compgen {option} -- \"$2\"); compopt -o filenames 2>/dev/null; return ;;")
        names = "|".join(key(f.name) for f in every if f.kind == kind)
        if names:
            cases.append(f"            {names})\n                compopt -o filenames 2>/dev/null\n"
                         f"                mapfile -t COMPREPLY < <(compgen {option} -- \"$2\")\n                ;;")
    own = "\n".join(f"        {c.name}) flags={quoted(flag_words(c))} ;;" for c in root.commands
                    if {f.name for f in c.flags} != {f.name for f in root.flags})
    return f"""# bash completion for {root.name}
{function}() {{
    local word flag='' given=0 flags
    COMPREPLY=()
    # Finds the flag to which the word at the cursor belongs, spelled with underscores, and the number of values that it has.
    for word in "${{COMP_WORDS[@]:1:COMP_CWORD-1}}"; do
        case $word in
        -*)
            flag=${{word//-/_}}
            flag=${{flag/#__/--}}
            given=0
            ;;
        =) ;;
        *) given=$((given + 1)) ;;
        esac
    done
    case $flag in
    {switches}) flag='' ;;
    {lists}) ;;
    *) [ "$given" -eq 0 ] || flag='' ;;
    esac
    if [[ $2 != -* ]]; then
        if [ -n "$flag" ]; then
            case $flag in
{chr(10).join(cases)}
            esac
            return
        elif [ "$COMP_CWORD" -eq 1 ]; then
            mapfile -t COMPREPLY < <(compgen -W {quoted(' '.join(c.name for c in root.commands))} -- "$2")
            [ -z "$2" ] || return
        else
            case ${{COMP_WORDS[1]}} in
{chr(10).join(places)}
            esac
        fi
    fi
    case ${{COMP_WORDS[1]}} in
{own}
        *) flags={quoted(flag_words(root))} ;;
    esac
    # Uses the spelling with dashes if the user has begun it.
    [[ $2 != --*-* ]] || flags=$(printf %s "$flags" | tr _ -)
    mapfile -t -O "${{#COMPREPLY[@]}}" COMPREPLY < <(compgen -W "$flags" -- "$2")
}}
complete -F {function} {root.name}
"""


def zsh(root):
    actions = {"directory": "_files -/", "file": "_files"}

    def specifications(command):
        if command.positional:
            yield "        " + quoted(f"*:{command.positional.value}:{actions[command.positional.kind]}")
        for f in command.flags:
            text = re.sub(r"([][:\\])", r"\\\1", f.abstract)
            action = {"list": "(" + " ".join(f.values) + ")", **actions}.get(f.kind, " ")
            rest = (":*-*" if f.takes_list else "") + ":" + f.value.replace(":", "\\:") + ":" + action if f.takes_value else ""
            yield "        " + quoted(f"--{f.name}[{text}]{rest}")

    own = "\n".join(f"    {c.name}) flags=(\n" + "\n".join(specifications(c)) + "\n    ) ;;" for c in root.commands
                    if {f.name for f in c.flags} != {f.name for f in root.flags})
    commands = " ".join(quoted(f"{c.name}:{c.abstract}".replace("\\", "\\\\")) for c in root.commands)
    return f"""#compdef {root.name}
local -a flags commands
commands=({commands})
case $words[2] in
{own}
    *) flags=(
{chr(10).join(specifications(root))}
    ) ;;
esac
if (( CURRENT == 2 )) && [[ $PREFIX != -* ]]; then
    _describe command commands
fi
# Inside a list of values, _arguments would not recognize that a flag begins.
if [[ $PREFIX == -* ]]; then
    words=($words[1] $words[CURRENT])
    CURRENT=2
fi
_arguments -S $flags '1: : '
"""


def fish(root):
    lines = [f"""# fish completion for {root.name}
# Tests whether the word at the cursor is a value of the flag --$argv[1], which takes a list.
function __{root.name}_in_list
    set -l flags (commandline -opc | string match -- '-*')
    test (count $flags) -gt 0; and string match -q -- "--$argv[1]" (string replace -a -- - _ $flags[-1] | string replace -r '^__' -- --)
end
complete -c {root.name} -f"""]
    for c in root.commands:
        lines.append(f"complete -c {root.name} -n 'test (count (commandline -opc)) -eq 1' -a {c.name} -d {fish_quoted(c.abstract)}")
    shared = [c.name for c in root.commands if {f.name for f in c.flags} != {f.name for f in root.flags}]
    condition = "not __fish_seen_subcommand_from " + " ".join(shared)
    for f in root.flags:
        line = f"complete -c {root.name} -n {fish_quoted(condition)} -l {f.name} -d {fish_quoted(f.abstract)}"
        line += "".join(f" -s {s}" for s in f.short)
        if f.kind == "file":
            line += " -r -F"
        elif f.takes_value:
            values = {"list": " ".join(f.values), "directory": "(__fish_complete_directories)"}.get(f.kind)
            line += " -x" + (f" -a {fish_quoted(values)}" if values else "")
        lines.append(line)
        if f.takes_list and f.values:
            lines.append(f"complete -c {root.name} -n '__{root.name}_in_list {f.name}' -a {fish_quoted(' '.join(f.values))}")
    for c in root.commands:
        if c.name in shared:
            seen = f"complete -c {root.name} -n '__fish_seen_subcommand_from {c.name}'"
            lines += [f"{seen} -l {f.name} -d {fish_quoted(f.abstract)}" + (" -r" if f.takes_value else "") for f in c.flags]
            if c.positional:
                lines.append(seen + (" -F" if c.positional.kind == "file" else " -a '(__fish_complete_directories)'"))
    return "\n".join(lines) + "\n"


def fish_quoted(text):
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"


def write(path, text):
    path = os.path.join(FOLDER, path)
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "w", encoding="utf-8") as file:
        file.write(text)


dump = subprocess.run([BINARY, "--experimental-dump-help"], check=True, capture_output=True, text=True).stdout
root = Command(json.loads(dump)["command"])
# Leaves out the subcommand help of swift-argument-parser, as --help does.
root.commands = [c for c in root.commands if c.name != "help"]
for name, text in manual(root).items():
    write(f"man/man1/{name}.1", text)
write(f"bash-completion/completions/{root.name}", bash(root))
write(f"zsh/site-functions/_{root.name}", zsh(root))
write(f"fish/vendor_completions.d/{root.name}.fish", fish(root))
