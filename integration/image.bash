# The image that every case uses: a static busybox and what a case wants to find. Needs WORK and IMAGE_NAME.

# Leaves the root in $WORK/image, and the image in $WORK/image.tar, in the form that `docker save` writes. Beside it there
# is a second one, NAME-pause, which differs in that its program waits: pods are made around such a container.
make_image() {
    local root=$WORK/image archive=$WORK/archive applet
    mkdir -p "$root"/{bin,dev,etc,home/guest,proc,root,sys,tmp,var/tmp} "$archive"
    chmod 1777 "$root/tmp" "$root/var/tmp"
    chmod 700 "$root/root"
    cp -- "$(command -v busybox)" "$root/bin/busybox"
    while read -r applet; do
        [[ $applet == busybox ]] || ln -s busybox "$root/bin/$applet"
    done < <("$root/bin/busybox" --list)
    cat >"$root/etc/passwd" <<'PASSWD'
root:x:0:0:root:/root:/bin/sh
guest:x:1000:1000:guest:/home/guest:/bin/sh
PASSWD
    cat >"$root/etc/group" <<'GROUP'
root:x:0:
wheel:x:10:guest
guest:x:1000:
GROUP
    chown 1000:1000 "$root/home/guest"
    echo 'echo never' >"$root/not-executable"
    chmod 644 "$root/not-executable"
    tar -C "$root" -cf "$archive/layer.tar" .
    image_configuration '"sh"' >"$archive/config.json"
    image_configuration '"sleep", "1000000"' >"$archive/pause.json"
    cat >"$archive/manifest.json" <<JSON
[{"Config": "config.json", "RepoTags": ["$IMAGE_NAME:latest"], "Layers": ["layer.tar"]},
 {"Config": "pause.json", "RepoTags": ["$IMAGE_NAME-pause:latest"], "Layers": ["layer.tar"]}]
JSON
    tar -C "$archive" -cf "$WORK/image.tar" manifest.json config.json pause.json layer.tar
    rm -rf -- "$archive"
}

image_configuration() { # PROGRAM
    cat <<JSON
{"architecture": "$(architecture)", "os": "linux", "created": "2026-01-01T00:00:00Z",
 "config": {"Env": ["PATH=/bin"], "Cmd": [$1]},
 "rootfs": {"type": "layers", "diff_ids": ["sha256:$(sha256sum "$archive/layer.tar" | cut -d ' ' -f 1)"]},
 "history": [{"created": "2026-01-01T00:00:00Z", "created_by": "integration/image.bash"}]}
JSON
}

architecture() {
    case $(uname -m) in
        x86_64) echo amd64 ;;
        aarch64) echo arm64 ;;
        *) uname -m ;;
    esac
}
