# What cases say. A case ends at the first expectation that is not met, with a line that tells what was seen.

fail() {
    echo "$*"
    if [[ -n $DIFFERENCE ]]; then
        echo "$RUNTIME is different: $DIFFERENCE"
        exit 78
    fi
    exit 1
}

# differs RUNTIME WHY: this one, or one whose name begins so, is known not to pass the case. If it does, all the better.
DIFFERENCE=''
differs() {
    [[ $RUNTIME != "$1"* ]] || DIFFERENCE=$2
}

# The case needs something that this kernel or engine does not have: the reason becomes the last line.
cannot() {
    echo "$*"
    exit 77
}

# same WHAT SEEN EXPECTED
same() {
    [[ $2 == "$3" ]] || fail "$1: expected $(printf %q "$3"), saw $(printf %q "$2")"
}

# has WHAT SEEN PATTERN: the text has a line, or a part of one, that matches the extended regular expression.
has() {
    grep -qE -- "$3" <<<"$2" || fail "$1: nothing matches /$3/ in: $2"
}

# hasnt WHAT SEEN PATTERN
hasnt() {
    ! grep -qE -- "$3" <<<"$2" || fail "$1: /$3/ matches in: $2"
}

# exits STATUS COMMAND…: runs it, keeps what it wrote in OUT and ERR. STATUS may be a pattern.
exits() {
    local expected=$1 status=0
    shift
    OUT='' ERR=''
    exec 3>"$WORK/stderr"
    OUT=$("$@" 2>&3) || status=$?
    exec 3>&-
    ERR=$(<"$WORK/stderr")
    # shellcheck disable=SC2053
    [[ $status == $expected ]] || fail "$*: exit status $status instead of $expected
stdout: $OUT
stderr: $ERR"
}

# eventually COMMAND…: it succeeds within ten seconds.
eventually() {
    for _ in {1..100}; do
        if "$@" >/dev/null 2>&1; then
            return 0
        fi
        sleep 0.1
    done
    fail "not within ten seconds: $*"
}

# What a shell in Debian's userland does to have the package source that is mounted at /repository, and it alone.
# shellcheck disable=SC2034 # cases say it
readonly SOURCES='rm -rf /etc/apt/sources.list*; echo "deb [trusted=yes] file:/repository ./" >/etc/apt/sources.list; apt-get -qq update'

# terminal STATUS [STEP…] -- COMMAND…: the command under a terminal of its own; see terminal.py.
terminal() {
    exits "$1" python3 "$HERE/terminal.py" "${@:2}"
}

# Is this machine's /sys/fs/cgroup cgroup v2 alone?
on_v2() {
    [[ $(stat -fc %T /sys/fs/cgroup) == cgroup2fs ]]
}

# limit_file V1_CONTROLLER V1_FILE V2_FILE: where a container sees its own limit.
limit_file() {
    if on_v2; then echo "/sys/fs/cgroup/$3"; else echo "/sys/fs/cgroup/$1/$2"; fi
}

# at_once COUNT COMMAND: COMMAND with each number as its argument, all at the same time; each says "from NUMBER" and exits
# with it.
at_once() {
    local i status pids=()
    for ((i = 1; i <= $1; i++)); do
        "$2" "$i" >"$WORK/at-once-$i" 2>&1 &
        pids+=($!)
    done
    for ((i = 1; i <= $1; i++)); do
        status=0
        wait "${pids[i - 1]}" || status=$?
        same "container $i" "$(<"$WORK/at-once-$i") status $status" "from $i status $i"
    done
}
