"""The completion functions of shells. Each asks `mountsync` itself, in the way that `completion` tells."""

from __future__ import annotations

from typing import Final

BASH: Final = r"""# bash completion for mountsync
_mountsync() {
    local kind value rest typed="" head="" open=1
    COMPREPLY=()
    while IFS=$'\t' read -r kind value rest; do
        case $kind in
            typed)
                typed=$value
                # readline replaces only what follows the last colon or equal sign of the word
                if [[ $COMP_WORDBREAKS == *:* ]]; then head=${typed%"${typed##*[:=]}"}
                else head=${typed%"${typed##*=}"}
                fi
                ;;
            file) compopt -o default ;;
            dir) compopt -o dirnames ;;
            plain)
                [[ $value == *[:=/] ]] || open=0
                value=${value#"$head"}
                [[ -n $value ]] && printf -v value %q "$value"
                COMPREPLY+=("$value")
                ;;
        esac
    done < <(COMP_LINE="${COMP_LINE:0:COMP_POINT}" _MOUNTSYNC_COMPLETE=bash "$1" 2>/dev/null)
    ((${#COMPREPLY[@]} && open)) && compopt -o nospace
    return 0
}
complete -o nosort -F _mountsync mountsync
"""

ZSH: Final = r"""#compdef mountsync
_mountsync() {
    local kind value help line typed="${(j: :)words[1,CURRENT]}"
    local -a closed open described
    for line in "${(@f)$(COMP_LINE=$typed _MOUNTSYNC_COMPLETE=zsh "$words[1]" 2>/dev/null)}"; do
        kind=${line%%$'\t'*} line=${line#*$'\t'}
        value=${line%%$'\t'*} help=${line#*$'\t'}
        case $kind in
            file) _files ;;
            dir) _files -/ ;;
            plain)
                if [[ $value == *[:=/] ]]; then open+=("$value")
                elif [[ -n $help ]]; then described+=("${value//:/\\:}:$help")
                else closed+=("$value")
                fi
                ;;
        esac
    done
    (($#described)) && _describe -V mountsync described
    (($#closed)) && compadd -V values -a closed
    (($#open)) && compadd -V values -S '' -a open
    return 0
}
if [[ $zsh_eval_context[-1] == loadautofunc ]]; then
    _mountsync "$@"
else
    compdef _mountsync mountsync
fi
"""

FISH: Final = r"""# fish completion for mountsync
function __mountsync_complete
    set -l line (commandline -cp)
    for row in (env COMP_LINE="$line" _MOUNTSYNC_COMPLETE=fish mountsync 2>/dev/null)
        set -l part (string split \t -- $row)
        switch $part[1]
            case file
                __fish_complete_path $part[2]
            case dir
                __fish_complete_directories $part[2]
            case plain
                if test -n "$part[3]"
                    printf '%s\t%s\n' $part[2] $part[3]
                else
                    printf '%s\n' $part[2]
                end
        end
    end
end
complete --no-files --keep-order --command mountsync --arguments '(__mountsync_complete)'
"""

SCRIPTS: Final = {"bash": BASH, "fish": FISH, "zsh": ZSH}
"""By the name of the shell."""

SHIPPED: Final = {
    "bash": "bash-completion/completions/mountsync",
    "fish": "fish/vendor_completions.d/mountsync.fish",
    "zsh": "zsh/site-functions/_mountsync",
}
"""Where each is looked for, below a `share` folder."""
