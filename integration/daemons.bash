# Daemons, started and stopped by hand. Needs WORK and RUNTIME.

# Waits until a command succeeds, and as long as the process lives.
wait_until() { # PID LOG COMMAND…
    local pid=$1 log=$2
    shift 2
    for _ in {1..200}; do
        if "$@" >/dev/null 2>&1; then
            return 0
        fi
        kill -0 "$pid" 2>/dev/null || break
        sleep 0.1
    done
    echo "no answer to: $*; the end of $log:" >&2
    tail -n 20 "$log" >&2
    return 1
}

stop_daemon() { # PID
    local pid=$1
    [[ -n $pid ]] || return 0
    kill -TERM "$pid" 2>/dev/null || return 0
    for _ in {1..100}; do
        # One that is no child of ours stays a zombie until its parent looks.
        grep -q '^State:\s[^ZX]' "/proc/$pid/status" 2>/dev/null || return 0
        sleep 0.1
    done
    kill -KILL "$pid" 2>/dev/null || true
}

# start_containerd DIRECTORY: its socket is DIRECTORY/c.sock. More of its configuration may come on standard input.
# The pid is in CONTAINERD_PID and in DIRECTORY/containerd.pid.
start_containerd() {
    local directory=$1
    mkdir -p "$directory"
    {
        cat <<TOML
version = 2
root = "$directory/cd"
state = "$directory/cs"
[grpc]
  address = "$directory/c.sock"
[plugins."io.containerd.internal.v1.opt"]
  path = "$directory/opt"
TOML
        [[ -t 0 ]] || cat
    } >"$directory/containerd.toml"
    run_containerd "$directory"
}

# Also begins one again that was stopped.
run_containerd() {
    # In sessions of their own, an interrupt from the keyboard does not stop them before their containers.
    setsid containerd --config "$1/containerd.toml" >>"$1/containerd.log" 2>&1 </dev/null &
    CONTAINERD_PID=$!
    # Whoever kills it wants no word of the shell's about that.
    disown
    echo "$CONTAINERD_PID" >"$1/containerd.pid"
    wait_until "$CONTAINERD_PID" "$1/containerd.log" ctr -a "$1/c.sock" version
}

# start_dockerd DIRECTORY CONTAINERD_SOCKET [MEMBER…]: its socket is DIRECTORY/d.sock. MEMBERs of its configuration, as
# JSON ('"key": value'), come after what it has by itself; the words in WRAPPER come before its command. The pid is in DOCKERD_PID and in DIRECTORY/d.pid.
WRAPPER=()
start_dockerd() {
    local directory=$1 containerd=$2 runtimes='{}' member members=''
    shift 2
    mkdir -p "$directory"
    # Docker has runc by itself, and takes no other of that name.
    [[ $RUNTIME == runc ]] || runtimes=$(printf '{"%s": {"path": "%s"}}' "$RUNTIME" "$RUNTIME_FILE")
    for member in "$@"; do
        members+=", $member"
    done
    cat >"$directory/daemon.json" <<JSON
{ "hosts": ["unix://$directory/d.sock"],
  "containerd": "$containerd",
  "data-root": "$directory/data",
  "exec-root": "$directory/x",
  "pidfile": "$directory/d.pid",
  "deprecated-key-path": "$directory/key.json",
  "group": "root",
  "storage-driver": "$STORAGE",
  "exec-opts": ["native.cgroupdriver=cgroupfs"],
  "cgroup-parent": "$CGROUP_PARENT",
  "iptables": false, "ip6tables": false, "ip-masq": false,
  "oom-score-adjust": 0,
  "default-runtime": "$RUNTIME",
  "runtimes": $runtimes$members }
JSON
    run_dockerd "$directory" "${WRAPPER[@]}"
}

# Also begins one again that was killed. Words after the directory come before the command.
run_dockerd() {
    local directory=$1
    shift
    setsid "$@" dockerd --config-file "$directory/daemon.json" >>"$directory/dockerd.log" 2>&1 </dev/null &
    DOCKERD_PID=$!
    disown
    wait_until "$DOCKERD_PID" "$directory/dockerd.log" docker -H "unix://$directory/d.sock" version
}

# Where Podman and Buildah keep images and containers: what both read of a round's own.
containers_storage() {
    if [[ -z $STORAGE ]]; then
        if can_overlay; then STORAGE=overlay; else STORAGE=vfs; fi
    fi
    mkdir -p "$WORK/etc" "$WORK/run"
    cat >"$WORK/etc/storage.conf" <<TOML
[storage]
driver = "${STORAGE/overlay2/overlay}"
graphroot = "$WORK/storage"
runroot = "$WORK/run/storage"
TOML
    : >"$WORK/etc/registries.conf"
    export CONTAINERS_CONF=$WORK/etc/containers.conf CONTAINERS_STORAGE_CONF=$WORK/etc/storage.conf
    export CONTAINERS_REGISTRIES_CONF=$WORK/etc/registries.conf IMAGE=localhost/$IMAGE_NAME:latest
    export DEBIAN_IMAGE=localhost/$DEBIAN_NAME:latest
}
