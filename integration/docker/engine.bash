# containerd and dockerd, by hand. Needs WORK, RUNTIME, RUNTIME_FILE, STORAGE and CGROUP_PARENT.

CONTAINERD_PID='' DOCKERD_PID=''

# Overlays cannot be stacked on every file system, for example not on an overlay.
pick_storage() {
    if [[ -n $STORAGE ]]; then
        return
    fi
    local trial=$WORK/trial
    mkdir -p "$trial"/{lower,upper,work,merged}
    STORAGE=vfs
    if mount -t overlay -o "lowerdir=$trial/lower,upperdir=$trial/upper,workdir=$trial/work" trial "$trial/merged" 2>/dev/null; then
        STORAGE=overlay2
        umount "$trial/merged"
    fi
    rm -rf --one-file-system -- "$trial"
}

write_configuration() {
    local runtimes='{}'
    # Docker has runc by itself, and takes no other of that name.
    [[ $RUNTIME == runc ]] || runtimes=$(printf '{"%s": {"path": "%s"}}' "$RUNTIME" "$RUNTIME_FILE")
    cat >"$WORK/containerd.toml" <<TOML
version = 2
root = "$WORK/cd"
state = "$WORK/cs"
disabled_plugins = ["io.containerd.grpc.v1.cri"]
[grpc]
  address = "$WORK/c.sock"
[plugins."io.containerd.internal.v1.opt"]
  path = "$WORK/opt"
TOML
    cat >"$WORK/daemon.json" <<JSON
{
  "hosts": ["unix://$WORK/d.sock"],
  "containerd": "$WORK/c.sock",
  "data-root": "$WORK/data",
  "exec-root": "$WORK/x",
  "pidfile": "$WORK/d.pid",
  "deprecated-key-path": "$WORK/key.json",
  "group": "root",
  "storage-driver": "$STORAGE",
  "exec-opts": ["native.cgroupdriver=cgroupfs"],
  "cgroup-parent": "$CGROUP_PARENT",
  "iptables": false,
  "ip6tables": false,
  "ip-masq": false,
  "bip": "10.213.7.1/24",
  "oom-score-adjust": 0,
  "default-runtime": "$RUNTIME",
  "runtimes": $runtimes
}
JSON
}

# Waits until a command succeeds, and as long as the process lives.
wait_until() {
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

start_engine() {
    pick_storage
    write_configuration
    mkdir -p "$DOCKER_CONFIG"
    # In sessions of their own, an interrupt from the keyboard does not stop them before their containers.
    setsid containerd --config "$WORK/containerd.toml" >"$WORK/containerd.log" 2>&1 &
    CONTAINERD_PID=$!
    wait_until "$CONTAINERD_PID" "$WORK/containerd.log" test -S "$WORK/c.sock"
    setsid dockerd --config-file "$WORK/daemon.json" >"$WORK/dockerd.log" 2>&1 &
    DOCKERD_PID=$!
    wait_until "$DOCKERD_PID" "$WORK/dockerd.log" docker version
}

describe_engine() {
    local version
    version=$("$RUNTIME_FILE" --version | head -n 1)
    docker version --format "Docker {{.Server.Version}} with $version ($RUNTIME_FILE), storage $STORAGE"
}

stop_daemon() {
    local pid=$1
    [[ -n $pid ]] || return 0
    kill -TERM "$pid" 2>/dev/null || return 0
    for _ in {1..100}; do
        kill -0 "$pid" 2>/dev/null || return 0
        sleep 0.1
    done
    kill -KILL "$pid" 2>/dev/null || true
}

stop_engine() {
    stop_daemon "$DOCKERD_PID"
    stop_daemon "$CONTAINERD_PID"
    wait
    # The parent of all containers' control groups is this script's, not the runtime's.
    remove_cgroups
}
