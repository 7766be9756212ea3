# Sourced: starts and stops the node's processes, recorded in files in NODE_RUN. The start time shows whether a process
# id has been reused.

start_time() { awk '{ print $22 }' "/proc/$1/stat" 2>/dev/null; }

# alive <name>
alive() {
    local pid
    pid=$(cat "$NODE_RUN/$1.pid" 2>/dev/null) || return 1
    [ -n "$pid" ] && [ "$(start_time "$pid")" = "$(cat "$NODE_RUN/$1.start" 2>/dev/null)" ]
}

# start <name> <command>…: like an init system, without the caller's variables, terminal and directory.
start() {
    local name=$1
    shift
    ! alive "$name" || return 0
    (
        cd /
        # shellcheck disable=SC2086 # A list of assignments.
        exec setsid env -i PATH="$NODE_BIN:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin" LANG=C.UTF-8 \
            ${environment:-} "$@"
    ) >>"$NODE_LOG/$name.log" 2>&1 </dev/null &
    printf '%s\n' $! >"$NODE_RUN/$name.pid"
    start_time $! >"$NODE_RUN/$name.start"
}

# stop <name>: sends SIGTERM first, and kills after ten seconds.
stop() {
    local pid tries=100
    if alive "$1"; then
        pid=$(cat "$NODE_RUN/$1.pid")
        kill -TERM "$pid"
        while alive "$1" && [ $tries -gt 0 ]; do
            tries=$((tries - 1))
            sleep 0.1
        done
        ! alive "$1" || kill -KILL "$pid"
    fi
    rm -f "$NODE_RUN/$1.pid" "$NODE_RUN/$1.start"
}

# wait_for <seconds> <process> <what> <command>…
wait_for() {
    local end=$((SECONDS + $1)) name=$2 what=$3
    shift 3
    until "$@" >/dev/null 2>&1; do
        if ! alive "$name"; then
            tail -n 5 "$NODE_LOG/$name.log" >&2
            fail "$name ended before $what; see $NODE_LOG/$name.log"
        fi
        [ $SECONDS -lt $end ] || fail "$what did not come; see $NODE_LOG/$name.log"
        sleep 0.2
    done
}
