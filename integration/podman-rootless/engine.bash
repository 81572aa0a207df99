# Podman as a plain user, who is made for the round and knows nobody.
# shellcheck shell=bash

programs=(podman conmon newuidmap newgidmap slirp4netns catatonit)

# The user, and the ids that user namespaces of his may have.
engine_uids=(62013 620130000-620195535)

start_engine() {
    local uid=${engine_uids[0]} own=$WORK/user range=${engine_uids[1]}
    # The user is there for this round alone.
    private_view /etc
    mountpoint -q /etc || { echo "/etc cannot be covered here" >&2; return 1; }
    echo "rootless:x:$uid:$uid::$own:/bin/sh" >>/etc/passwd
    echo "rootless:x:$uid:" >>/etc/group
    echo "rootless:${range%-*}:65536" | tee /etc/subuid >/etc/subgid
    # As udev has it: whoever asks for a network gets one.
    mkdir -p "$own"/run
    mknod -m 666 "$WORK/tun" c 10 200
    mount --bind "$WORK/tun" /dev/net/tun
    # It may be where only its maker looks.
    install -D -m 755 "$RUNTIME_FILE" "$WORK/runtime/$RUNTIME"
    RUNTIME_FILE=$WORK/runtime/$RUNTIME
    containers_storage
    # Podman is not asked where its storage is: below the user's home. But parts of it read that here.
    cat >"$WORK/etc/storage.conf" <<TOML
[storage]
driver = "${STORAGE/overlay2/overlay}"
graphroot = "$own/.local/share/containers/storage"
runroot = "$own/run/containers"
TOML
    cat >"$WORK/etc/containers.conf" <<TOML
[containers]
log_driver = "k8s-file"
default_sysctls = []
# Each case that wants a network asks for one: they take their time to come up.
netns = "none"
default_ulimits = ["nofile=4096:4096", "nproc=8192:8192"]
[network]
network_backend = "netavark"
[engine]
runtime = "$RUNTIME"
cgroup_manager = "cgroupfs"
events_logger = "file"
infra_image = "localhost/$IMAGE_NAME-pause:latest"
lock_type = "file"
runtime_supports_json = ["procrt", "runc", "crun"]
runtime_supports_nocgroup = ["procrt", "crun"]
[engine.runtimes]
$RUNTIME = ["$RUNTIME_FILE"]
TOML
    echo '{ "default": [{ "type": "insecureAcceptAnything" }] }' >"$WORK/etc/policy.json"
    chmod -R a+rX "$WORK/etc" "$WORK/image.tar"
    chown -R "$uid:$uid" "$own"
    chmod 700 "$own/run"
    # Whoever says podman, says it as that user.
    mkdir "$WORK/as"
    printf '#!/bin/sh\nexec setpriv --reuid=%s --regid=%s --init-groups env HOME=%s USER=rootless XDG_RUNTIME_DIR=%s TMPDIR=%s %s "$@"\n' \
        "$uid" "$uid" "$own" "$own/run" "$own" "$(command -v podman)" >"$WORK/as/podman"
    chmod 755 "$WORK/as/podman"
    export PATH=$WORK/as:$PATH
    cd "$own" || return 1
    podman info >"$WORK/podman.log" 2>&1 || { cat "$WORK/podman.log" >&2; return 1; }
}

load_image() {
    podman load -q -i "$WORK/image.tar" >/dev/null
}

first_containers() {
    podman run --rm "$IMAGE" true
}

describe_engine() {
    podman info --format 'Podman {{.Version.Version}}, rootless, {{.Host.Conmon.Version}}, storage {{.Store.GraphDriverName}}, cgroup {{.Host.CgroupsVersion}},'
}

remove_containers() {
    timeout 30 podman pod rm -f -a -t 0 >/dev/null 2>&1 || true
    timeout 30 podman rm -f -a -t 0 -v >/dev/null 2>&1 || true
}

left_by_engine() {
    local processes
    find "$WORK/user/run"/{procrt,runc,crun} -mindepth 1 -printf 'state %p\n' 2>/dev/null || true
    # The process that keeps the user's namespace is Podman's own.
    processes=$(processes_left)
    grep -E '^process [0-9]+ [^ ]*(conmon|slirp4netns) ' <<<"$processes" || true
}

stop_engine() {
    local pid
    pid=$(cat "$WORK/user/run/libpod/tmp/pause.pid" 2>/dev/null || true)
    [[ -z $pid ]] || kill -KILL "$pid" 2>/dev/null || true
    umount /dev/net/tun 2>/dev/null || true
}
