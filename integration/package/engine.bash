# No engine: the Debian package of procrt, in a Debian of its own.
# shellcheck shell=bash

programs=(dpkg-deb dpkg)

prepare_engine() {
    [[ $RUNTIME == procrt ]] || return 0
    if [[ -n ${PACKAGE-} ]]; then
        cp -- "$PACKAGE" "$WORK/procrt.deb"
    else
        mv -- "$(PROCRT=$RUNTIME_FILE "$REPO/hack/package" --compression none "$WORK/made")" "$WORK/procrt.deb"
    fi
}

start_engine() {
    mkdir "$WORK/root"
}

load_image() {
    :
}

first_containers() {
    :
}

describe_engine() {
    echo "Debian $(<"$DEBIAN_TREE/etc/debian_version"), dpkg $(dpkg --robot --version | head -n 1),"
}

remove_containers() {
    ! mountpoint -q "$WORK/root" || umount -R "$WORK/root"
    rm -rf --one-file-system -- "$WORK/layer" "$WORK/root"
    mkdir "$WORK/root"
}

left_by_engine() {
    find /run/procrt -mindepth 1 -printf 'state %p\n' 2>/dev/null || true
}

stop_engine() {
    :
}
