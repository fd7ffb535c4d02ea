# shellcheck shell=bash
# shellcheck disable=SC2154
# lib.sh: measuring and reporting; sourced by the scripts beside it, which set dir and out.
#
# A measurement is a line "wall cpu MiB" in $dir/NAME.times, of one run of a command.

# measure NAME COMMAND...: appends "wall cpu MiB" of one run to $dir/NAME.times
measure() {
  local name=$1
  shift
  command time -q -o "$dir/time" -f '%e %U %S %M' bash -c '"$@"' - "$@" ||
    { echo "bench: $* failed" >&2 && exit 1; }
  awk '{ print $1, $2 + $3, $4 / 1024 }' "$dir/time" >>"$dir/$name.times"
}
# median NAME COLUMN
median() {
  sort -g -k "$2,$2" "$dir/$1.times" | awk -v c="$2" '{ v[NR] = $c } END { print v[int((NR + 1) / 2)] }'
}
# report NAME OURS PEER'S-NAME PEER UNIT [RATIO]
report() {
  awk -v OFS='\t' -v n="$1" -v a="$2" -v p="$3" -v b="$4" -v u="$5" -v r="${6-}" \
    'BEGIN { print n, a, p, b, (r != "" ? r : b > 0 ? sprintf("%.3f", a / b) : "-"), u }' >>"$out"
  awk -F'\t' '{ printf "%-44s %11s  %-34s %11s  %7s  %s\n", $1, $2, $3, $4, $5, $6 }' <(tail -n 1 "$out")
}

# compare NAME OURS COLUMN PEER'S-NAME PEER: of measurements that took turns
compare() {
  local ratio
  ratio=$(paste "$dir/$2.times" "$dir/$5.times" | awk -v c="$3" '$(c + 3) > 0 { print $c / $(c + 3) }' |
    sort -g | awk '{ v[NR] = $1 } END { printf "%.3f", v[int((NR + 1) / 2)] }')
  report "$1" "$(median "$2" "$3")" "$4" "$(median "$5" "$3")" s "$ratio"
}
