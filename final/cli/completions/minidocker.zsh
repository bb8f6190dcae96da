#compdef minidocker
# zsh completion for minidocker: source <(minidocker completion zsh)
_minidocker() {
	local -a candidates
	candidates=("${(@f)$(${words[1]} __complete "${(@)words[2,CURRENT]}" 2>/dev/null)}")
	if [[ -n "$candidates" ]]; then
		compadd -- $candidates
	else
		_files
	fi
}
compdef _minidocker minidocker
