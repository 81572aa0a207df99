# What the package's cases say.

procrts_own() {
    [[ $RUNTIME == procrt ]] || cannot "the package is procrt's"
}

# fresh_root: a Debian that nothing was installed in, at $WORK/root.
fresh_root() {
    procrts_own
    mkdir -p "$WORK/layer"/{upper,work}
    mount -t overlay -o "lowerdir=$DEBIAN_TREE,upperdir=$WORK/layer/upper,workdir=$WORK/layer/work" root "$WORK/root" 2>/dev/null ||
        cp -a -- "$DEBIAN_TREE/." "$WORK/root/"
    mount -t proc proc "$WORK/root/proc"
    cp -- "$WORK/procrt.deb" "$WORK/root/root/"
}

# in_root COMMAND…
in_root() {
    chroot "$WORK/root" env -i HOME=/root LC_ALL=C.UTF-8 PATH=/usr/sbin:/usr/bin:/sbin:/bin "$@"
}

# The root's files, without what packages' tools write about their work.
files_in_root() {
    (cd "$WORK/root" && find . -xdev \( -path ./proc -o -path ./var/log -o -path './var/lib/dpkg/[lst]*' -o -path ./var/cache/man \) -prune \
        -o -type d -printf '%M %u:%g %p\n' -o -printf '%M %u:%g %s %T@ %p %l\n') | sort
}

installed() {
    fresh_root
    exits 0 in_root dpkg -i /root/procrt.deb
}
