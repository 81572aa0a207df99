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

# What cases whose names begin with `debian_` run in: Debian's userland, from the tree in DEBIAN_TREE. The image is in
# $WORK/debian.tar, and in $WORK/repository a package source with one package.
make_debian_image() {
    local archive=$WORK/archive
    mkdir "$archive"
    tar -C "$DEBIAN_TREE" --exclude './dev/*' --exclude ./.made -cf "$archive/layer.tar" .
    image_configuration '"bash"' /usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin >"$archive/config.json"
    cat >"$archive/manifest.json" <<JSON
[{"Config": "config.json", "RepoTags": ["$DEBIAN_NAME:latest"], "Layers": ["layer.tar"]}]
JSON
    tar -C "$archive" -cf "$WORK/debian.tar" manifest.json config.json layer.tar
    rm -rf -- "$archive"
    make_repository
}

# A package with what maintainers' scripts do: a user of its own, a set-user-id program, a file with a capability.
make_repository() {
    local tree=$WORK/package repository=$WORK/repository file=greeting_1.0_all.deb
    mkdir -p "$tree/DEBIAN" "$tree/usr/bin" "$repository"
    cat >"$tree/DEBIAN/control" <<'CONTROL'
Package: greeting
Version: 1.0
Architecture: all
Maintainer: nobody <nobody@localhost>
Depends: bash, libcap2-bin
Description: what cases install
CONTROL
    cat >"$tree/DEBIAN/postinst" <<'SCRIPT'
#!/bin/sh
set -e
[ "$1" = configure ] || exit 0
useradd --system --user-group --no-create-home greeter
chown greeter:greeter /usr/bin/greeter-id
chmod 6755 /usr/bin/greeter-id
setcap cap_chown+ep /usr/bin/greeter-chown
SCRIPT
    cat >"$tree/DEBIAN/postrm" <<'SCRIPT'
#!/bin/sh
set -e
[ "$1" != remove ] || userdel greeter
SCRIPT
    chmod 755 "$tree"/DEBIAN/post*
    printf '#!/bin/bash\necho "greetings to $(id -un)"\n' >"$tree/usr/bin/greeting"
    chmod 755 "$tree/usr/bin/greeting"
    cp -- "$DEBIAN_TREE/usr/bin/id" "$tree/usr/bin/greeter-id"
    cp -- "$DEBIAN_TREE/usr/bin/chown" "$tree/usr/bin/greeter-chown"
    dpkg-deb --build --root-owner-group -Znone "$tree" "$repository/$file" >/dev/null
    rm -rf -- "$tree"
    {
        dpkg-deb --field "$repository/$file"
        echo "Filename: ./$file"
        echo "Size: $(stat -c %s "$repository/$file")"
        echo "SHA256: $(sha256sum "$repository/$file" | cut -d ' ' -f 1)"
    } >"$repository/Packages"
}

image_configuration() { # PROGRAM [PATH]
    cat <<JSON
{"architecture": "$(architecture)", "os": "linux", "created": "2026-01-01T00:00:00Z",
 "config": {"Env": ["PATH=${2-/bin}"], "Cmd": [$1]},
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
