# The image that every case uses: a static busybox and what a case wants to find. Needs WORK and IMAGE.

make_image() {
    local root=$WORK/image applet
    mkdir -p "$root"/{bin,dev,etc,home/guest,proc,root,sys,tmp,var/tmp}
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
    tar -C "$root" -c . | docker import --change 'CMD ["sh"]' --change 'ENV PATH=/bin' - "$IMAGE" >/dev/null
    rm -rf -- "$root"
}
