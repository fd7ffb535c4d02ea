# shellcheck shell=bash
# shellcheck disable=SC2154
# lib.sh: measuring and reporting; sourced by the scripts beside it, which set dir and out.
#
# A measurement is a line "wall cpu MiB cores" in $dir/NAME.times, of one run of a command: seconds,
# seconds of its processes, the largest of them, and how many cores the whole machine kept busy.
# What `run` exports: build, top, runs, rows, data, flows, and of each part dir and out.
# A name may end in its aim: "(<= 1.05)" is of the ratio, "(<= 96 MiB)" of our own figure.

build=${build:-build} runs=${runs:-5} rows=${rows:-5000000}

# ticks: hundredths of seconds that all cores were busy, and that have passed on each
ticks() { awk '/^cpu / { print $2 + $3 + $4 + $7 + $8, $2 + $3 + $4 + $5 + $6 + $7 + $8 }' /proc/stat; }

# complain TEXT: of what is ours; the rest is measured all the same, but `run` will fail
complain() {
  echo "bench: $*" >&2
  echo "$*" >>"$dir/failed"
}

# timed NAME COMMAND...: appends one run to $dir/NAME.times; fails as the command does
timed() {
  local name=$1 before cores
  shift
  before=$(ticks)
  command time -q -o "$dir/time" -f '%e %U %S %M' bash -c '"$@"' - "$@" || return 1
  cores=$(awk -v n="$(nproc)" '{ if ($4 > $2) printf "%.2f", ($3 - $1) / ($4 - $2) * n; else print 0 }' \
    <<<"$before $(ticks)")
  awk -v cores="$cores" '{ printf "%.2f %.2f %.1f %s\n", $1, $2 + $3, $4 / 1024, cores }' "$dir/time" >>"$dir/$name.times"
}

# measure NAME COMMAND...: of ours, or of psql
measure() { timed "$@" || complain "${*:2} failed"; }

# median NAME COLUMN
median() {
  [ -s "$dir/$1.times" ] || { echo failed && return; }
  sort -g -k "$2,$2" "$dir/$1.times" | awk -v c="$2" '{ v[NR] = $c } END { print v[int((NR + 1) / 2)] }'
}

# met NAME OURS RATIO: "met" or "MISSED" if the name ends in an aim, else nothing
met() {
  awk -v name="$1" -v ours="$2" -v ratio="$3" 'BEGIN {
    if (!match(name, /\((<=|>=) [0-9.]+[^)]*\)$/)) exit
    split(substr(name, RSTART + 1, RLENGTH - 2), aim, " ")
    value = aim[3] == "" ? ratio : ours
    if (value !~ /^[0-9.]+$/) good = 0
    else good = aim[1] == "<=" ? value + 0 <= aim[2] + 0 : value + 0 >= aim[2] + 0
    print good ? "met" : "MISSED"
  }'
}

row() { printf '%-50s %10s  %-36s %10s  %7s  %-9s %-12s %s\n' "$@"; }

# report NAME OURS PEER'S-NAME PEER UNIT [RATIO [SPREAD]]
report() {
  local ratio=${6-}
  [ -n "$ratio" ] || ratio=$(awk -v a="$2" -v b="$4" 'BEGIN { print (a ~ /^[0-9.]+$/ && b > 0 ? sprintf("%.3f", a / b) : "-") }')
  printf '%s\t%s\t%s\t%s\t%s\t%s\n' "$1" "$2" "$3" "$4" "$ratio" "$5" >>"$out"
  row "$1" "$2" "$3" "$4" "$ratio" "$5" "${7-}" "$(met "$1" "$2" "$ratio")"
}

# turns FILE FILE COLUMN: the ratio of each turn, from the smallest; as many as both have
turns() {
  awk -v c="$3" 'NR == FNR { a[FNR] = $c; next } FNR in a && $c > 0 { print a[FNR] / $c }' "$1" "$2" | sort -g
}

# compare NAME OURS COLUMN PEER'S-NAME PEER [UNIT]: of measurements that took turns
compare() {
  local middle spread
  if ! [ -s "$dir/$2.times" ] || ! [ -s "$dir/$5.times" ]; then
    report "$1" failed "$4" - "${6:-s}"
    return
  fi
  read -r middle spread < <(turns "$dir/$2.times" "$dir/$5.times" "$3" |
    awk '{ v[NR] = $1 } END { printf "%.3f %.2f-%.2f\n", v[int((NR + 1) / 2)], v[1], v[NR] }')
  report "$1" "$(median "$2" "$3")" "$4" "$(median "$5" "$3")" "${6:-s}" "$middle" "$spread"
}

# slower NAME A B: what took longer, turn by turn, as $dir/NAME.times
slower() {
  [ -s "$dir/$2.times" ] && [ -s "$dir/$3.times" ] || return 0
  awk 'NR == FNR { a[FNR] = $1; line[FNR] = $0; next } FNR in a { print (a[FNR] > $1 ? line[FNR] : $0) }' \
    "$dir/$2.times" "$dir/$3.times" >"$dir/$1.times"
}

# ---- what is measured: the servers of `run` and the tables in them ----

psql() { command psql -X -q -v ON_ERROR_STOP=1 "$@"; }

# rows_of TABLE: so that each is some hundred megabytes
rows_of() {
  case $1 in
  mixed) echo "$rows" ;;
  narrow) echo $((rows * 2)) ;;
  wide) echo $((rows / 10)) ;;
  esac
}

# table NAME...: makes and fills it at the source, makes it in the target, and what COPY says of
# it a file; once for all parts
table() {
  local name
  for name in "$@"; do
    [ ! -e "$data/$name.txt" ] || continue
    echo "bench: generating $(rows_of "$name") rows of the table $name" >&2
    psql "$RDS_URL" -c "SELECT ${name}_fill($(rows_of "$name"))" -c "VACUUM ANALYZE $name" >/dev/null
    psql "$RDS_URL" -c "COPY $name TO STDOUT" >"$data/$name.txt"
  done
}

# flow NAME NODES: writes a flow
flow() { printf 'local flow = require "flow"\nreturn flow "bench %s" {\n%s\n}\n' "$1" "$2" >"$flows/$1.lua"; }

# extract_node TABLE PREFIX FIELDS, load_node TABLE PREFIX FIELDS: nodes for it
extract_node() {
  echo "  flow.extract \"out\" { from = \"rds\", table = \"$1\", to = \"lake:$2/\", format = \"text\", $3 },"
}
load_node() { echo "  flow.load \"in\" { from = \"lake:$2/\", on = \"adbpg\", into = \"$1\", $3 },"; }

ours() { "$TM_BIN" run --json "$flows/$1.lua" >>"$dir/runs.log"; }
clear() { "$TM_BIN" exec tests/bench/flows/clear.lua "$1"; }
empty() { psql "$ADBPG_URL" -c "TRUNCATE $1" -c "CHECKPOINT"; }
copy_out() { psql "$RDS_URL" -c "COPY $1 TO STDOUT" >/dev/null; }
copy_in() { psql "$ADBPG_URL" -c "COPY $1 FROM STDIN" <"$data/$1.txt"; }

# loaded TABLE [ROWS]: complains unless so many are there
loaded() {
  local got want=${2:-$(rows_of "$1")}
  got=$(psql "$ADBPG_URL" -Atc "SELECT count(*) FROM $1")
  [ "$got" = "$want" ] || complain "$got rows were loaded, not $want"
}
export -f ours clear copy_out copy_in psql
