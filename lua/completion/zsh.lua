return [=[
#compdef tidemill
# zsh completion for tidemill: asks the program itself at each Tab
_tidemill() {
  local line name about found=1
  local -a names shown options
  while IFS= read -r line; do
    case $line in
    @open) options=(-S '') ;;
    '@files *') _files && found=0 ;;
    '@files '*) _files -g "*.${line#@files }" && found=0 ;;
    '='*)
      line=${line#=}
      name=${line%%$'\t'*} about=${line#*$'\t'}
      names+=("$name")
      shown+=("${name}${about:+  -- $about}")
      ;;
    esac
  done < <(timeout 5 ${(Q)words[1]/#\~\//$HOME/} complete -- "${(@Q)words[2,CURRENT-1]}" "${(Q)PREFIX}" 2>/dev/null)
  (( $#names )) && compadd -l -d shown $options -a names && found=0
  return found
}
if [[ $funcstack[1] == _tidemill ]]; then
  _tidemill "$@"
else
  compdef _tidemill tidemill
fi
]=]
