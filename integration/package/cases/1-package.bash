# The package: what is in it, and that it comes and goes.

case_package_is_in_order() {
    procrts_own
    local deb=$WORK/procrt.deb tree=$WORK/layer line
    exits 0 dpkg-deb --field "$deb"
    has "the fields" "$OUT" '^Package: procrt$'
    has "the fields" "$OUT" "^Version: $("$RUNTIME_FILE" --version | sed -n 's/^procrt version //p')\$"
    has "the fields" "$OUT" "^Architecture: $(dpkg --print-architecture)\$"
    has "the fields" "$OUT" '^Maintainer: .+ <.+@.+>$'
    has "the fields" "$OUT" '^Installed-Size: [1-9][0-9]+$'
    has "the fields" "$OUT" '^Description: [a-z].{5,59}[^.]$'
    hasnt "the program is static" "$OUT" '^(Pre-)?Depends:'
    has "the long description" "$OUT" '^ [a-z]'
    # No script runs at installation or removal, nor is there a file of /etc that would stay.
    same "its control files" "$(dpkg-deb --ctrl-tarfile "$deb" | tar -t | LC_ALL=C sort | tr '\n' ' ')" './ ./control ./md5sums '
    mkdir -p "$tree"
    dpkg-deb --raw-extract "$deb" "$tree"
    (cd "$tree" && md5sum --quiet -c DEBIAN/md5sums) || fail "md5sums are not the files'"
    cd "$tree"
    same "files whose sums are not there" "$(comm -3 <(find usr -type f | sort) <(cut -c 35- DEBIAN/md5sums | sort))" ''
    same "owners" "$(dpkg-deb --contents "$deb" | awk '{ print $2 }' | sort -u)" root/root
    same "files with another mode" "$(find usr -type f ! -perm 644 ! -path usr/bin/procrt) $(stat -c %a usr/bin/procrt)" ' 755'
    same "directories with another mode, or empty" "$(find usr -type d \( ! -perm 755 -o -empty \))" ''
    same "what is neither" "$(find usr ! -type f ! -type d)" ''
    hasnt "its kind" "$(head -c 4096 usr/bin/procrt | tr -d '\0')" 'ld-linux'
    # Pages and log are packed as small as that goes, and without the time.
    for line in usr/share/man/man8/*.gz usr/share/doc/procrt/changelog.gz; do
        same "$line" "$(od -An -tx1 -N 10 "$line" | tr -d ' ')" 1f8b0800000000000203
    done
    zcat usr/share/doc/procrt/changelog.gz >"$WORK/changelog"
    has "the log" "$(<"$WORK/changelog")" '^procrt \([0-9][^ ]*\) [a-z]+; urgency='
    # Where the tools for packagers are, they have to understand it.
    ! command -v dpkg-parsechangelog >/dev/null || exits 0 dpkg-parsechangelog -l "$WORK/changelog"
    has "the terms" "$(<usr/share/doc/procrt/copyright)" '/usr/share/common-licenses/Apache-2\.0'
    has "others' terms" "$(<usr/share/doc/procrt/copyright)" '^clap [0-9.]+: MIT OR Apache-2\.0$'
}

case_package_is_installed() {
    installed
    hasnt "what dpkg says" "$OUT$ERR" 'warning|error'
    exits 0 in_root dpkg --verify procrt
    same "files that are not as they were packed" "$OUT" ''
    exits 0 in_root procrt --version
    has "the version" "$OUT" '^procrt version '
    exits 0 in_root procrt features
    same "the specification" "$(jq -r .ociVersionMax <<<"$OUT")" "$("$RUNTIME_FILE" features | jq -r .ociVersionMax)"
    exits 0 in_root procrt engines
    has "no engine is there" "$OUT" '^No engine'
    exits 0 in_root dpkg -S /usr/bin/procrt
    same "who owns it" "$OUT" 'procrt: /usr/bin/procrt'
}

case_package_has_manual_and_completions() {
    installed
    exits 0 in_root man procrt
    has "the manual" "$OUT" '^PROCRT\(8\)'
    has "the manual" "$OUT" 'procrt-create'
    hasnt "what man says" "$ERR" 'warning|error|No manual'
    exits 0 in_root man 8 procrt-create
    has "the manual" "$OUT" '--bundle'
    # Its index was brought up to date by installing.
    exits 0 in_root whatis procrt-exec
    has "the index" "$OUT" '^procrt-exec \(8\) +- '
    # As bash does it when somebody presses the key.
    # shellcheck disable=SC2016 # the inner shell's
    exits 0 in_root bash --norc -ic 'source /usr/share/bash-completion/bash_completion
        _completion_loader procrt; COMP_WORDS=(procrt st) COMP_CWORD=1; _procrt procrt st procrt; printf "%s\n" "${COMPREPLY[@]}" | sort'
    same "procrt st<tab>" "$(tr '\n' ' ' <<<"$OUT")" 'start state '
    local file
    for file in zsh/vendor-completions/_procrt fish/vendor_completions.d/procrt.fish; do
        grep -q update "$WORK/root/usr/share/$file" || fail "$file knows no update"
    done
}

case_package_runs_a_container() {
    installed
    mkdir -p "$WORK/root/root/bundle" "$WORK/root/sys" "$WORK/root/run"
    cp -a -- "$WORK/image" "$WORK/root/root/bundle/rootfs"
    mount --rbind /sys "$WORK/root/sys"
    mount --make-rslave "$WORK/root/sys"
    mount -t tmpfs run "$WORK/root/run"
    exits 0 in_root procrt spec --bundle /root/bundle
    local config
    config=$(jq --arg group "$CGROUP_PARENT/packed" '.process.terminal = false | .process.args = ["sh", "-c", "echo from $(hostname); exit 9"] |
        .linux.cgroupsPath = $group' "$WORK/root/root/bundle/config.json")
    echo "$config" >"$WORK/root/root/bundle/config.json"
    # The mount that the root is on must not be shared: pivot_root(2).
    exits 9 unshare --mount --propagation private chroot "$WORK/root" procrt run --bundle /root/bundle packed
    has "the output" "$OUT" '^from '
}

case_package_leaves_nothing() {
    fresh_root
    files_in_root >"$WORK/before"
    exits 0 in_root dpkg -i /root/procrt.deb
    # Once more, as one that comes after it.
    exits 0 in_root dpkg -i /root/procrt.deb
    [[ -x $WORK/root/usr/bin/procrt ]] || fail "it is not there"
    exits 0 in_root dpkg -r procrt
    hasnt "what dpkg says" "$OUT$ERR" 'warning|error'
    same "files" "$(diff "$WORK/before" <(files_in_root))" ''
    exits 1 in_root dpkg -s procrt
    has "what dpkg knows of it" "$ERR" 'is not installed'
}

case_package_of_apt() {
    fresh_root
    cp -- "$WORK/procrt.deb" "$WORK/root/tmp/procrt.deb"
    exits 0 in_root apt-get -y -o Dir::Etc::sourcelist=/dev/null -o Dir::Etc::sourceparts=/dev/null install /tmp/procrt.deb
    exits 0 in_root procrt --version
    exits 0 in_root apt-get -y purge procrt
    [[ ! -e $WORK/root/usr/bin/procrt ]] || fail "it is still there"
}
