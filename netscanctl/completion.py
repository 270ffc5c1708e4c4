"""Completion in shells: the script for bash, which quotes names and knows that a MAC has colons."""

import os
from typing import Any

from click.shell_completion import BashComplete, add_completion_class, split_arg_string

SCRIPT = """\
%(complete_func)s() {
    local current=${COMP_WORDS[COMP_CWORD]} line=${COMP_LINE:0:COMP_POINT} type value typed before=
    typed=${line##* }
    # Where a colon ends a word for bash, only what is behind the last one is replaced.
    [[ $COMP_WORDBREAKS == *:* && $typed == *:* && $typed != [\\"\\']* ]] && before=${typed%%"${typed##*:}"}
    COMPREPLY=()
    while IFS=, read -r type value; do
        case $type in
            dir) compopt -o dirnames ;;
            file) compopt -o default ;;
            plain)
                [[ $current == \\'* && $value == *\\'* ]] && continue
                [[ $current == [\\"\\']* ]] || printf -v value %%q "$value"
                COMPREPLY+=("${value#"$before"}")
                ;;
        esac
    done < <(env COMP_LINE="$line" %(complete_var)s=bash_complete "$1")
}

complete -o nosort -F %(complete_func)s %(prog_name)s
"""


class Bash(BashComplete):
    """Completion for bash. Unlike click's, names with spaces are quoted, and words may contain colons."""

    source_template = SCRIPT

    def get_completion_args(self) -> tuple[list[str], str]:
        """Return the complete words, and the one that is being typed."""
        line = os.environ.get("COMP_LINE")
        if line is None:  # a script of an older version
            return super().get_completion_args()
        words = split_arg_string(f"{line}_")  # so that an empty last word is a word
        return words[1:-1], words[-1][:-1]

    def format_completion(self, item: Any) -> str:  # noqa: ANN401  # generic only since click 8.2
        """Return a completion for the script; to one of an older version, which quotes nothing, only plain names."""
        if "COMP_LINE" not in os.environ and any(char in item.value for char in " '()"):
            return ""
        return super().format_completion(item)


def register() -> None:
    """Make click use it."""
    add_completion_class(Bash)
