# containerd alone, as `ctr` drives it: io.containerd.runc.v2 with the runtime under test as its binary.
# shellcheck shell=bash

programs=(containerd containerd-shim-runc-v2 ctr)

CONTAINERD_PID=''

start_engine() {
    # Some of ctr's options leave the choice of the binary to the shim, which takes the first runc of its PATH.
    mkdir "$WORK/as-runc"
    ln -s "$RUNTIME_FILE" "$WORK/as-runc/runc"
    export PATH=$WORK/as-runc:$PATH
    export CONTAINERD_ADDRESS=$WORK/c.sock CONTAINERD_NAMESPACE=default
    if can_overlay; then export CONTAINERD_SNAPSHOTTER=overlayfs; else export CONTAINERD_SNAPSHOTTER=native; fi
    start_containerd "$WORK" <<<'disabled_plugins = ["io.containerd.grpc.v1.cri"]'
}

load_image() {
    local namespace
    for namespace in default other; do
        ctr -n "$namespace" image import --snapshotter "$CONTAINERD_SNAPSHOTTER" "$WORK/image.tar" >/dev/null
    done
}

load_debian_image() {
    ctr image import --snapshotter "$CONTAINERD_SNAPSHOTTER" "$WORK/debian.tar" >/dev/null
}

first_containers() {
    ctr run --rm --runc-binary "$RUNTIME_FILE" --cgroup "$CGROUP_PARENT/first" "$IMAGE" first true
}

describe_engine() {
    ctr version | awk '/Version:/ { version = $2 } END { print "containerd " version }'
}

remove_containers() {
    local namespace id
    for namespace in default other; do
        for id in $(timeout 10 ctr -n "$namespace" task ls -q); do
            timeout 10 ctr -n "$namespace" task rm -f "$id" >/dev/null 2>&1 || true
        done
        for id in $(timeout 10 ctr -n "$namespace" container ls -q); do
            timeout 10 ctr -n "$namespace" container rm "$id" >/dev/null 2>&1 || true
        done
    done
}

left_by_engine() {
    local processes namespace
    find /run/containerd/runc -mindepth 2 -printf 'state %p\n' 2>/dev/null || true
    find "$WORK"/cs/io.containerd.runtime.v2.task -mindepth 2 -maxdepth 2 -printf 'bundle %p\n' 2>/dev/null || true
    find /run/containerd/s -type s -printf 'socket %p\n' 2>/dev/null || true
    for namespace in default other; do
        ctr -n "$namespace" snapshot --snapshotter "$CONTAINERD_SNAPSHOTTER" ls 2>/dev/null |
            awk '$3 == "Active" { print "snapshot " $1 }' || true
    done
    # Read whole, before there is a grep with that word among its arguments.
    processes=$(processes_left)
    grep -F containerd-shim <<<"$processes" || true
}

stop_engine() {
    # A case may have started it anew.
    stop_daemon "$(cat "$WORK/containerd.pid" 2>/dev/null || echo "$CONTAINERD_PID")"
}
