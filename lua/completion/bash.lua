return [=[
# bash completion for tidemill: asks the program itself at each Tab
_tidemill()
{
  local IFS=$'\n' program word typed line words=() i
  COMPREPLY=()
  # bash has cut the line at "=" and ":", too; what stands without a blank between is one word
  local rest=${COMP_LINE:0:COMP_POINT} stripped
  for ((i = 0; i <= COMP_CWORD; i++)); do
    word=${COMP_WORDS[i]}
    stripped=${rest#"${rest%%[![:space:]]*}"}
    [[ $stripped == "$word"* ]] || word=$stripped # the cursor is in the middle of it
    if [[ $stripped == "$rest" && ${#words[@]} -gt 0 ]]; then
      words[${#words[@]} - 1]+=$word
    else
      words+=("$word")
    fi
    rest=${stripped#"$word"}
  done
  typed=${words[${#words[@]} - 1]}
  # the program sees the words without quotes and backslashes
  for i in "${!words[@]}"; do
    word=${words[i]}
    case $word in
    \'*) word=${word#\'} word=${word%\'} ;;
    \"*) word=${word#\"} word=${word%\"} ;;
    *) word=${word//\\/} ;;
    esac
    words[i]=$word
  done
  program=${words[0]/#\~\//$HOME/}
  local current=${words[${#words[@]} - 1]} cut=
  if [[ $typed != [\'\"]* ]]; then # what stands before the last "=" or ":" stays
    case $current in
    *[=:]*) cut=${current%"${current##*[=:]}"} ;;
    esac
  fi
  while IFS= read -r line; do
    case $line in
    @open) compopt -o nospace 2>/dev/null ;;
    '@files *')
      compopt -o filenames 2>/dev/null
      while IFS= read -r word; do COMPREPLY+=("$word"); done < <(compgen -f -- "$current")
      ;;
    '@files '*)
      compopt -o filenames 2>/dev/null
      while IFS= read -r word; do
        if [[ -d $word || $word == *".${line#@files }" ]]; then COMPREPLY+=("$word"); fi
      done < <(compgen -f -- "$current")
      ;;
    '='*)
      line=${line#=} line=${line%%$'\t'*} line=${line#"$cut"}
      [[ $typed == [\'\"]* ]] || printf -v line %q "$line"
      COMPREPLY+=("$line")
      ;;
    esac
  done < <(timeout 5 "$program" complete -- "${words[@]:1}" 2>/dev/null)
}
complete -F _tidemill tidemill
]=]
