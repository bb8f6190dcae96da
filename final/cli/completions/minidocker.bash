# bash completion for minidocker: source <(minidocker completion bash)
_minidocker() {
	local line=${COMP_LINE:0:COMP_POINT} words current IFS=$' \t\n'
	read -ra words <<<"$line"
	[[ $line == *[[:space:]] ]] && words+=("")
	current=${words[-1]}
	IFS=$'\n'
	mapfile -t COMPREPLY < <(compgen -W "$("${words[0]}" __complete "${words[@]:1}" 2>/dev/null)" -- "$current")
	# readline has cut the word at its last colon or equals sign, and so must we.
	local cut=${current%"${current##*[:=]}"}
	COMPREPLY=("${COMPREPLY[@]#"$cut"}")
}
complete -o default -F _minidocker minidocker
