# shellcheck shell=bash
# lib.sh: what the server scripts share; sourced, not run.
#
# A server keeps everything under one directory: `env` (shell assignments for its clients),
# one `*.pid` file a process, logs. A directory whose server is gone is harmless to stop.

fail() {
  echo "${0##*/}: $*" >&2
  exit 1
}

# A port nobody listens on, below the kernel's own range for outgoing connections.
free_port() {
  local port tries
  for tries in {1..100}; do
    port=$((10000 + (RANDOM * 32768 + RANDOM) % 22000))
    (: <"/dev/tcp/127.0.0.1/$port") 2>/dev/null || {
      echo "$port"
      return
    }
  done
  fail "no free port after $tries tries"
}

# wait_until SECONDS COMMAND...: polls until the command succeeds; fails at the deadline.
wait_until() {
  local deadline=$((SECONDS + $1))
  shift
  until "$@" >/dev/null 2>&1; do
    [ $SECONDS -lt $deadline ] || return 1
    sleep 0.1
  done
}

# answers URL: does an HTTP server answer there, with whatever status?
answers() {
  curl -s -o /dev/null --max-time 5 "$1"
}

# alive PIDFILE: is its process, still the one that wrote the file, running?
alive() {
  local pid start
  read -r pid start <"$1" && [ -n "$pid" ] &&
    [ "$(cut -d' ' -f22 "/proc/$pid/stat" 2>/dev/null)" = "$start" ]
}

# spawn DIR NAME COMMAND...: runs it in the background, in a session of its own, with its
# output in DIR/NAME.log and its pid and start time in DIR/NAME.pid.
spawn() {
  local dir=$1 name=$2
  shift 2
  setsid "$@" >"$dir/$name.log" 2>&1 </dev/null 9>&- &
  echo "$! $(cut -d' ' -f22 "/proc/$!/stat")" >"$dir/$name.pid"
}

# stop_all DIR: ends every process that DIR has a pid file of, politely at first.
stop_all() {
  local file signal tries
  for signal in TERM KILL; do
    for file in "$1"/*.pid; do
      if [ -e "$file" ] && alive "$file"; then
        kill -"$signal" "$(cut -d' ' -f1 "$file")" 2>/dev/null || true
      fi
    done
    for tries in {1..100}; do
      for file in "$1"/*.pid; do
        if [ -e "$file" ]; then alive "$file" || rm -f "$file"; fi
      done
      compgen -G "$1/*.pid" >/dev/null || return 0
      sleep 0.1
    done
  done
  fail "still running after $tries waits: $(cat "$1"/*.pid)"
}
