# fish completion for mountsync
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
