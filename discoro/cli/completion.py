"""Completion scripts for bash, zsh and fish, made from the parsers of the commands. Pure.

Each script completes ``discoro ...`` and ``python -m discoro ...``; what else the shell completes after ``python`` stays as
it is. Names of nodes are asked for while somebody types (``completion nodes``).
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from discoro.cli.parsers import SHELLS, VERBS, Parser, node_parser

FILE, FOLDER, NODE, ANY = "file", "folder", "node", "any"
_KINDS = {"F": FILE, "DIR": FOLDER, "NODE": NODE}


@dataclass(frozen=True)
class Option:
    """One option, or a positional argument (no spellings).

    Attributes:
        spellings: As it may be written.
        help: What is said of it.
        value: What follows it: a kind of this module, or the words that it may be; empty: nothing does.
        again: It may be repeated.
    """

    spellings: tuple[str, ...]
    help: str
    value: str | tuple[str, ...] = ""
    again: bool = False


def options_of(parser: Parser) -> list[Option]:
    """Return what a parser takes, hidden options left out."""
    return [
        Option(
            tuple(action.option_strings),
            action.help or "",
            _value(action),
            again=isinstance(action, argparse._AppendAction),
        )
        for action in parser._actions
        if action.help != argparse.SUPPRESS
    ]


def _value(action: argparse.Action) -> str | tuple[str, ...]:
    if action.nargs == 0:
        return ""
    if action.choices is not None:
        return tuple(map(str, action.choices))
    return _KINDS.get(str(action.metavar), ANY)


def script(shell: str) -> str:
    """Return the script for a shell, one of ``SHELLS``."""
    makers: dict[str, Callable[[], Iterator[str]]] = dict(
        zip(SHELLS, (_bash, _zsh, _fish), strict=True)
    )
    return "\n".join(makers[shell]()) + "\n"


def _commands() -> dict[str, list[Option]]:
    """Return verb -> its options; "" is the node."""
    return {"": options_of(node_parser())} | {
        verb: options_of(parser()) for verb, parser in VERBS.items()
    }


def _quoted(text: str) -> str:
    """Quote a word for any of the three shells."""
    return "'" + text.replace("'", "'\\''") + "'"


# --- bash ---------------------------------------------------------------------------------------------------------------

_BASH = r"""# Completion of discoro for bash. In ~/.bashrc:  eval "$(python -m discoro completion bash)"
_discoro_complete() {  # $1: number of the first word after the command
    local first=$1 word=${COMP_WORDS[COMP_CWORD]} before="" verb="" IFS=$' \t\n'
    if (( COMP_CWORD > first )); then
        before=${COMP_WORDS[COMP_CWORD-1]} verb=${COMP_WORDS[first]}
    fi
    [[ $word == "=" ]] && word=""
    [[ $before == "=" ]] && before=${COMP_WORDS[COMP_CWORD-2]}
    compopt +o default +o bashdefault 2>/dev/null
    case $verb in"""

_BASH_END = r"""    esac
}
_discoro_words() { COMPREPLY=( $(compgen -W "$1" -- "$word") ); }
_discoro_files() { compopt -o filenames 2>/dev/null; IFS=$'\n'; COMPREPLY=( $(compgen "$1" -- "$word") ); }
_discoro_nodes() { _discoro_words "$("${COMP_WORDS[@]:0:first}" completion nodes 2>/dev/null)"; }
_discoro() { _discoro_complete 1; }
_discoro_python() {
    if [[ ${COMP_WORDS[1]} == -m && ${COMP_WORDS[2]} == discoro ]] && (( COMP_CWORD > 2 )); then
        _discoro_complete 3
    elif [[ -n $_discoro_others ]]; then
        "$_discoro_others" "$@"
    fi
}
declare -F _completion_loader >/dev/null && _completion_loader python 2>/dev/null
_discoro_found=$(complete -p python 2>/dev/null)
if [[ $_discoro_found =~ \ -F\ ([^ ]+) && ${BASH_REMATCH[1]} != _discoro_python ]]; then
    _discoro_others=${BASH_REMATCH[1]}
fi
complete -F _discoro discoro
complete -o bashdefault -o default -F _discoro_python python python3"""


def _bash() -> Iterator[str]:
    yield _BASH
    commands = _commands()
    for verb in [*VERBS, ""]:
        options = commands[verb]
        yield f"        {verb or '*'})"
        yield "            case $before in"
        for option in options:
            if option.spellings and option.value:
                yield f"                {'|'.join(option.spellings)}) {_bash_values(option)}; return ;;"
        yield "            esac"
        words = [spelling for option in options for spelling in option.spellings]
        positional = [option for option in options if not option.spellings]
        for option in positional:
            yield f"            if [[ $word != -* ]]; then {_bash_values(option)}; return; fi"
        if not verb:
            yield f'            if [[ $word != -* && $COMP_CWORD == "$first" ]]; then _discoro_words "{" ".join(VERBS)}"; return; fi'
        yield f'            _discoro_words "{" ".join(words)}" ;;'
    yield _BASH_END


def _bash_values(option: Option) -> str:
    if isinstance(option.value, tuple):
        return f'_discoro_words "{" ".join(option.value)}"'
    return {
        FILE: "_discoro_files -f",
        FOLDER: "_discoro_files -d",
        NODE: "_discoro_nodes",
    }.get(option.value, ":")


# --- zsh ----------------------------------------------------------------------------------------------------------------

_ZSH = r"""#compdef discoro
# Completion of discoro for zsh. In ~/.zshrc, after compinit:  eval "$(python -m discoro completion zsh)"
_discoro_nodes() {
    local -a found
    found=(${(f)"$("${_discoro_command[@]}" completion nodes 2>/dev/null)"})
    compadd -a found
}
_discoro() {
    (( ${+_discoro_command} )) || local -a _discoro_command=($words[1])
    case ${words[2]} in"""

_ZSH_END = r"""    esac
}
_discoro_python() {
    if [[ ${words[2]} == -m && ${words[3]} == discoro ]] && (( CURRENT > 3 )); then
        local -a _discoro_command=(${words[1,3]})
        shift 2 words
        (( CURRENT -= 2 ))
        _discoro
    else
        _python "$@"
    fi
}
autoload -Uz _python
compdef _discoro discoro
compdef _discoro_python python python3"""


def _zsh() -> Iterator[str]:
    yield _ZSH
    commands = _commands()
    for verb in VERBS:
        yield f"        {verb}) shift words; (( CURRENT-- )); _arguments {_zsh_options(commands[verb])} ;;"
    verbs = _quoted(f"1::command:({' '.join(VERBS)})")
    yield f"        *) _arguments {_zsh_options(commands[''])} {verbs} ;;"
    yield _ZSH_END


def _zsh_options(options: Iterable[Option]) -> str:
    return " ".join(spec for option in options for spec in _zsh_specs(option))


def _zsh_specs(option: Option) -> Iterator[str]:
    said = "".join("\\" + letter if letter in "[]:" else letter for letter in option.help)
    value = option.value
    if isinstance(value, tuple):
        action = f":value:({' '.join(value)})"
    else:
        actions = {FILE: ":file:_files", FOLDER: ":folder:_files -/", NODE: ":node:_discoro_nodes"}
        action = actions.get(value, f":{value}:") if value else ""
    if not option.spellings:
        yield _quoted("1:" + action)
        return
    others = "*" if option.again else f"({' '.join(option.spellings)})"
    for spelling in option.spellings:
        equals = "=" if value and spelling.startswith("--") else ""
        yield _quoted(f"{others}{spelling}{equals}[{said}]{action}")


# --- fish ---------------------------------------------------------------------------------------------------------------

_FISH = r"""# Completion of discoro for fish. In ~/.config/fish/config.fish:  python -m discoro completion fish | source
function __discoro_words  # the words after the command; fails when it is another one
    set -l words (commandline -opc)
    if string match -qr '(^|/)discoro$' -- $words[1]
        string join \n -- $words[2..]; or true
    else if test (count $words) -ge 3; and test "$words[2]" = -m; and test "$words[3]" = discoro
        string join \n -- $words[4..]; or true
    else
        return 1
    end
end
function __discoro_in  # within this verb; without one: the node itself
    set -l words (__discoro_words); or return 1
    if contains -- "$words[1]" VERBS
        test "$words[1]" = "$argv[1]"
    else
        test -z "$argv[1]"
    end
end
function __discoro_first  # nothing has been said yet
    set -l words (__discoro_words); or return 1
    test (count $words) -eq 0
end
function __discoro_nodes
    set -l words (commandline -opc)
    if test "$words[2]" = -m
        $words[1] -m discoro completion nodes 2>/dev/null
    else
        $words[1] completion nodes 2>/dev/null
    end
end
for command in discoro python python3"""


def _fish() -> Iterator[str]:
    yield _FISH.replace("VERBS", " ".join(VERBS))
    yield f"    complete -c $command -f -n __discoro_first -a '{' '.join(VERBS)}'"
    for verb, options in _commands().items():
        for option in options:
            yield f"    complete -c $command -n \"__discoro_in '{verb}'\"{_fish_option(option)}"
    yield "end"


def _fish_option(option: Option) -> str:
    parts = [f" -d {_quoted(option.help)}"]
    for spelling in option.spellings:
        parts.append(f" -l {spelling[2:]}" if spelling.startswith("--") else f" -s {spelling[1:]}")
    value = option.value
    if isinstance(value, tuple):
        parts.append(
            f" -x -a '{' '.join(value)}'" if option.spellings else f" -f -a '{' '.join(value)}'"
        )
    elif value == FILE:
        parts.append(" -r -F")
    elif value == FOLDER:
        parts.append(" -x -a '(__fish_complete_directories)'")
    elif value == NODE:
        parts.append(" -f -a '(__discoro_nodes)'")
    elif value:
        parts.append(" -x")
    else:
        parts.append(" -f")
    return "".join(parts)
