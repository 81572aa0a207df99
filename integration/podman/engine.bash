# Podman as root: no daemon, but conmon beside every container.
# shellcheck shell=bash

programs=(podman conmon /usr/lib/podman/netavark)
# Podman puts conmon, and what `kube play` makes, below this one.
engine_cgroups=(/libpod_parent)

# It removes a pod's group in the hierarchies that it knows, and leaves it where the runtime needed one too.
engine_leaves='/sys/fs/cgroup/(systemd|unified)(/without)?/.*/[0-9a-f]{64}|/sys/fs/cgroup/[^/]+(/without)?/libpod_parent/[0-9a-f]{64}(/conmon)?'

start_engine() {
    containers_storage
    cat >"$WORK/etc/containers.conf" <<TOML
[containers]
cgroups = "enabled"
log_driver = "k8s-file"
default_sysctls = []
# What Podman sets by itself is more than a root without CAP_SYS_RESOURCE may have.
default_ulimits = ["nofile=4096:4096", "nproc=8192:8192"]
userns = "host"
[network]
network_backend = "netavark"
network_config_dir = "$WORK/networks"
[engine]
runtime = "$RUNTIME"
cgroup_manager = "cgroupfs"
events_logger = "file"
static_dir = "$WORK/storage/libpod"
tmp_dir = "$WORK/run/libpod"
volume_path = "$WORK/storage/volumes"
infra_image = "localhost/$IMAGE_NAME-pause:latest"
lock_type = "file"
runtime_supports_json = ["procrt", "runc", "crun"]
runtime_supports_nocgroup = ["crun", "procrt"]
[engine.runtimes]
$RUNTIME = ["$RUNTIME_FILE"]
TOML
    echo '{ "default": [{ "type": "insecureAcceptAnything" }] }' >"$WORK/etc/policy.json"
    # These have fixed places.
    private_view /var/lib
    private_view /etc
    if mountpoint -q /etc; then
        echo 'containers:200000:65536' | tee -a /etc/subuid >>/etc/subgid
    fi
    podman info >"$WORK/podman.log" 2>&1 || { cat "$WORK/podman.log" >&2; return 1; }
}

load_image() {
    podman load -q -i "$WORK/image.tar" >/dev/null
}

load_debian_image() {
    podman load -q -i "$WORK/debian.tar" >/dev/null
}

first_containers() {
    podman run --rm --cgroup-parent "$CGROUP_PARENT" "$IMAGE" true &&
        podman run --rm --cgroup-parent "$CGROUP_PARENT" --network host "$IMAGE" true
}

describe_engine() {
    podman info --format 'Podman {{.Version.Version}}, {{.Host.Conmon.Version}}, storage {{.Store.GraphDriverName}}, network {{.Host.NetworkBackend}}, cgroup {{.Host.CgroupsVersion}},'
}

remove_containers() {
    timeout 30 podman pod rm -f -a -t 0 >/dev/null 2>&1 || true
    timeout 30 podman rm -f -a -t 0 -v >/dev/null 2>&1 || true
}

left_by_engine() {
    local processes
    find /run/procrt /run/runc /run/crun -mindepth 1 -printf 'state %p\n' 2>/dev/null || true
    processes=$(processes_left)
    grep -E '^process [0-9]+ [^ ]*(conmon|aardvark-dns) ' <<<"$processes" || true
}

stop_engine() {
    :
}
