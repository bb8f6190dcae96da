# fish completion for minidocker: minidocker completion fish | source
function __minidocker_complete
    set -l words (commandline -opc)
    $words[1] __complete $words[2..] (commandline -ct) 2>/dev/null
end
complete -c minidocker -a '(__minidocker_complete)'
