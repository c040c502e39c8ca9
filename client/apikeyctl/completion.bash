# bash completion for apikeyctl. The words come from the program's own tables, so they are always those of the
# installed version.
_apikeyctl()
{
	local word IFS=$'\n'
	local -a words=("${COMP_WORDS[@]:1:COMP_CWORD}")

	COMPREPLY=()
	for word in $("${COMP_WORDS[0]}" __complete "${words[@]}" 2>/dev/null); do
		if [[ $word == :files ]]; then
			compopt -o filenames 2>/dev/null
			COMPREPLY+=($(compgen -f -- "${COMP_WORDS[COMP_CWORD]}"))
		else
			COMPREPLY+=("$word")
		fi
	done
}
complete -F _apikeyctl apikeyctl
