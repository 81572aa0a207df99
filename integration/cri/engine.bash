# containerd's CRI plugin, as a kubelet drives it: pods and containers of a runtime class.
# shellcheck shell=bash

programs=(containerd containerd-shim-runc-v2 ctr /usr/lib/cni/bridge /usr/lib/cni/host-local /usr/lib/cni/loopback)

CONTAINERD_PID=''

start_engine() {
    local snapshotter=native
    if can_overlay; then snapshotter=overlayfs; fi
    /usr/bin/python3 -c "import grpc" 2>/dev/null || { echo "python3-grpcio is not installed" >&2; return 1; }
    export CRI_SOCKET=$WORK/c.sock CONTAINERD_ADDRESS=$WORK/c.sock CONTAINERD_NAMESPACE=k8s.io
    export HANDLER=$RUNTIME
    mkdir -p "$WORK/cni"
    cat >"$WORK/cni/10-bridge.conflist" <<'JSON'
{ "cniVersion": "0.4.0", "name": "pods", "plugins": [
  { "type": "bridge", "bridge": "pods0", "isGateway": true,
    "ipam": { "type": "host-local", "ranges": [[{ "subnet": "10.213.9.0/24" }]], "routes": [{ "dst": "0.0.0.0/0" }] } }] }
JSON
    private_view /var/lib
    start_containerd "$WORK" <<TOML
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "docker.io/library/$IMAGE_NAME-pause:latest"
  disable_apparmor = true
  restrict_oom_score_adj = true
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "/usr/lib/cni"
    conf_dir = "$WORK/cni"
  [plugins."io.containerd.grpc.v1.cri".containerd]
    snapshotter = "$snapshotter"
    default_runtime_name = "$RUNTIME"
    [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.$RUNTIME]
      runtime_type = "io.containerd.runc.v2"
      [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.$RUNTIME.options]
        BinaryName = "$RUNTIME_FILE"
        SystemdCgroup = false
TOML
}

load_image() {
    ctr image import "$WORK/image.tar" >/dev/null
}

cri() {
    /usr/bin/python3 "$HERE/cri/cri.py" "$@"
}

first_containers() {
    cri --parent "$CGROUP_PARENT" pod first '{}' >"$WORK/first-pod" && cri remove-pod "$(<"$WORK/first-pod")"
}

describe_engine() {
    cri version
}

remove_containers() {
    local pod
    for pod in $(timeout 10 /usr/bin/python3 "$HERE/cri/cri.py" pods); do
        timeout 20 /usr/bin/python3 "$HERE/cri/cri.py" remove-pod "$pod" >/dev/null 2>&1 || true
    done
}

left_by_engine() {
    local processes
    find /run/containerd/runc -mindepth 2 -printf 'state %p\n' 2>/dev/null || true
    find "$WORK"/cs/io.containerd.runtime.v2.task -mindepth 2 -maxdepth 2 -printf 'bundle %p\n' 2>/dev/null || true
    # Read whole, before there is a grep with that word among its arguments.
    processes=$(processes_left)
    grep -F containerd-shim <<<"$processes" || true
}

stop_engine() {
    stop_daemon "$(cat "$WORK/containerd.pid" 2>/dev/null || echo "$CONTAINERD_PID")"
}
