// The floor of hack/bench: the system calls that hack/bench's container takes, and nothing around them. No configuration
// is read, no state is kept, no error is told well, no path is safe. What a runtime takes longer than this is its own.
//
// usage: floor ROOTFS [v1|v2|devices|PARENT-DIR]...
// Each cgroup hierarchy of the machine is two words: its kind, and the directory in which the container's cgroup is made.
// `devices` is the version 1 hierarchy with that controller. ROOTFS has the directories proc, dev and sys.
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/bpf.h>
#include <linux/capability.h>
#include <linux/sched.h>
#include <net/if.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/wait.h>
#include <unistd.h>

#define MOST 16
enum kind { V1, V2, DEVICES };
static struct { enum kind kind; char dir[256], name[32]; int tasks; } group[MOST];
static int groups;

// Each call with its line number, when it fails.
#define DO(call) do { if ((call) < 0) { fprintf(stderr, "floor: line %d: %s: %s\n", __LINE__, #call, strerror(errno)); \
    _exit(1); } } while (0)
// For paths that this kernel may lack.
#define TRY(call) do { if ((call) < 0 && errno != ENOENT && errno != ENOTDIR) DO(-1); } while (0)

static void put(const char *dir, const char *file, const char *value) {
    char path[320];
    int fd;
    snprintf(path, sizeof path, "%s/%s", dir, file);
    DO(fd = open(path, O_WRONLY | O_CLOEXEC));
    DO(write(fd, value, strlen(value)));
    close(fd);
}

static const char *const DEVICE_RULES[] = {
    "c *:* m", "b *:* m", "c 1:3 rwm", "c 1:5 rwm", "c 1:7 rwm", "c 1:8 rwm", "c 1:9 rwm", "c 5:0 rwm", "c 5:2 rwm",
    "c 136:* rwm",
};
#define COUNT(array) (sizeof (array) / sizeof *(array))

// A device program of version 2. A real one is some 40 instructions long.
static void attach_device_program(int cgroup) {
    struct bpf_insn program[] = {
        { .code = BPF_ALU64 | BPF_MOV | BPF_K, .dst_reg = BPF_REG_0, .imm = 1 }, { .code = BPF_JMP | BPF_EXIT },
    };
    union bpf_attr load = { .prog_type = BPF_PROG_TYPE_CGROUP_DEVICE, .insn_cnt = COUNT(program),
                            .insns = (unsigned long)program, .license = (unsigned long)"Apache-2.0" };
    union bpf_attr attach = { .target_fd = cgroup, .attach_type = BPF_CGROUP_DEVICE, .attach_flags = BPF_F_ALLOW_MULTI };
    int fd;
    DO(fd = syscall(SYS_bpf, BPF_PROG_LOAD, &load, sizeof load));
    attach.attach_bpf_fd = fd;
    DO(syscall(SYS_bpf, BPF_PROG_ATTACH, &attach, sizeof attach));
    close(fd);
}

static void bring_up_loopback(void) {
    struct ifreq lo = { .ifr_name = "lo", .ifr_flags = IFF_UP };
    int fd;
    DO(fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0));
    DO(ioctl(fd, SIOCSIFFLAGS, &lo));
    close(fd);
}

static void mount_cgroups(void) {
    const unsigned long ro = MS_NOSUID | MS_NODEV | MS_NOEXEC | MS_RDONLY;
    if (groups == 1 && group[0].kind == V2) {
        DO(mount(group[0].dir, "sys/fs/cgroup", NULL, MS_BIND, NULL));
        DO(mount(NULL, "sys/fs/cgroup", NULL, MS_BIND | MS_REMOUNT | ro, NULL));
        return;
    }
    DO(mount("tmpfs", "sys/fs/cgroup", "tmpfs", MS_NOSUID | MS_NODEV | MS_NOEXEC, "mode=755"));
    for (int i = 0; i < groups; i++) {
        char place[64];
        snprintf(place, sizeof place, "sys/fs/cgroup/%s", group[i].name);
        DO(mkdir(place, 0755));
        DO(mount(group[i].dir, place, NULL, MS_BIND, NULL));
        DO(mount(NULL, place, NULL, MS_BIND | MS_REMOUNT | ro, NULL));
    }
    DO(mount(NULL, "sys/fs/cgroup", NULL, MS_BIND | MS_REMOUNT | ro, NULL));
}

static void make_devices(void) {
    static const struct { const char *path; int major, minor; } device[] = {
        { "dev/null", 1, 3 }, { "dev/zero", 1, 5 }, { "dev/full", 1, 7 }, { "dev/random", 1, 8 }, { "dev/urandom", 1, 9 },
        { "dev/tty", 5, 0 },
    };
    static const char *const link[][2] = {
        { "/proc/self/fd", "dev/fd" }, { "/proc/self/fd/0", "dev/stdin" }, { "/proc/self/fd/1", "dev/stdout" },
        { "/proc/self/fd/2", "dev/stderr" }, { "pts/ptmx", "dev/ptmx" },
    };
    for (size_t i = 0; i < COUNT(device); i++)
        DO(mknod(device[i].path, S_IFCHR | 0666, makedev(device[i].major, device[i].minor)));
    for (size_t i = 0; i < COUNT(link); i++)
        DO(symlink(link[i][0], link[i][1]));
}

static void protect(void) {
    static const char *const masked_file[] = {
        "proc/kcore", "proc/keys", "proc/latency_stats", "proc/timer_list", "proc/timer_stats", "proc/sched_debug",
    };
    static const char *const masked_dir[] = { "proc/asound", "proc/acpi", "proc/scsi", "sys/firmware" };
    static const char *const read_only[] = { "proc/bus", "proc/fs", "proc/irq", "proc/sys", "proc/sysrq-trigger" };
    for (size_t i = 0; i < COUNT(read_only); i++) {
        TRY(mount(read_only[i], read_only[i], NULL, MS_BIND | MS_REC, NULL));
        TRY(mount(NULL, read_only[i], NULL, MS_BIND | MS_REMOUNT | MS_RDONLY | MS_NOSUID | MS_NODEV | MS_NOEXEC, NULL));
    }
    for (size_t i = 0; i < COUNT(masked_file); i++)
        TRY(mount("dev/null", masked_file[i], NULL, MS_BIND, NULL));
    for (size_t i = 0; i < COUNT(masked_dir); i++)
        TRY(mount("tmpfs", masked_dir[i], "tmpfs", MS_RDONLY, "size=0k"));
}

static void become_the_process(void) {
    // Docker's default capabilities.
    const unsigned mask = 1 << CAP_CHOWN | 1 << CAP_DAC_OVERRIDE | 1 << CAP_FOWNER | 1 << CAP_FSETID | 1 << CAP_KILL |
        1 << CAP_SETGID | 1 << CAP_SETUID | 1 << CAP_SETPCAP | 1 << CAP_NET_BIND_SERVICE | 1 << CAP_NET_RAW |
        1 << CAP_SYS_CHROOT | 1 << CAP_MKNOD | 1 << CAP_AUDIT_WRITE | 1u << CAP_SETFCAP;
    struct __user_cap_header_struct head = { .version = _LINUX_CAPABILITY_VERSION_3 };
    struct __user_cap_data_struct data[2] = { { .effective = mask, .permitted = mask } };
    for (int cap = 0; cap <= CAP_LAST_CAP; cap++)
        if (cap >= 32 || !(mask & 1u << cap))
            DO(prctl(PR_CAPBSET_DROP, cap, 0, 0, 0));
    DO(syscall(SYS_setgroups, 0, NULL));
    DO(syscall(SYS_setresgid, 0, 0, 0));
    DO(syscall(SYS_setresuid, 0, 0, 0));
    DO(syscall(SYS_capset, &head, data));
    DO(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0));
}

static void child(const char *rootfs) {
    char *argv[] = { "true", NULL }, *env[] = { "PATH=/bin", NULL };
    for (int i = 0; i < groups; i++)
        if (group[i].kind != V2)
            DO(write(group[i].tasks, "0", 1));
    DO(unshare(CLONE_NEWCGROUP));
    bring_up_loopback();
    DO(setsid());
    TRY(syscall(SYS_keyctl, 1 /* KEYCTL_JOIN_SESSION_KEYRING */, "_ses.floor"));
    umask(0);
    DO(mount(NULL, "/", NULL, MS_SLAVE | MS_REC, NULL));
    DO(mount(rootfs, rootfs, NULL, MS_BIND | MS_REC, NULL));
    DO(chdir(rootfs));
    DO(mount("proc", "proc", "proc", MS_NOSUID | MS_NODEV | MS_NOEXEC, NULL));
    DO(mount("tmpfs", "dev", "tmpfs", MS_NOSUID | MS_STRICTATIME, "mode=755,size=65536k"));
    DO(mkdir("dev/pts", 0755));
    DO(mount("devpts", "dev/pts", "devpts", MS_NOSUID | MS_NOEXEC, "newinstance,ptmxmode=0666,mode=0620,gid=5"));
    DO(mount("sysfs", "sys", "sysfs", MS_NOSUID | MS_NODEV | MS_NOEXEC | MS_RDONLY, NULL));
    mount_cgroups();
    DO(mkdir("dev/mqueue", 0755));
    DO(mount("mqueue", "dev/mqueue", "mqueue", MS_NOSUID | MS_NODEV | MS_NOEXEC, NULL));
    DO(mkdir("dev/shm", 0755));
    DO(mount("shm", "dev/shm", "tmpfs", MS_NOSUID | MS_NODEV | MS_NOEXEC, "mode=1777,size=65536k"));
    make_devices();
    DO(syscall(SYS_pivot_root, ".", "."));
    DO(umount2(".", MNT_DETACH));
    DO(chdir("/"));
    protect();
    DO(sethostname("bench", 5));
    become_the_process();
    umask(022);
    DO(syscall(SYS_close_range, 3, ~0u, 0));
    DO(execve("/bin/true", argv, env));
}

int main(int argc, char **argv) {
    struct clone_args args = { .exit_signal = SIGCHLD, .flags = CLONE_NEWPID | CLONE_NEWNET | CLONE_NEWIPC | CLONE_NEWUTS |
                               CLONE_NEWNS | CLONE_PIDFD };
    int pidfd, cgroup, status;
    long pid;
    if (argc < 2 || argc % 2 || (argc - 2) / 2 > MOST) {
        fprintf(stderr, "usage: floor ROOTFS [v1|v2|devices PARENT-DIR]...\n");
        return 1;
    }
    for (int i = 2; i < argc; i += 2, groups++) {
        char path[320], hierarchy[256];
        group[groups].kind = !strcmp(argv[i], "v2") ? V2 : !strcmp(argv[i], "devices") ? DEVICES : V1;
        snprintf(group[groups].dir, sizeof group[groups].dir, "%s/floor", argv[i + 1]);
        // PARENT-DIR is HIERARCHY/NAME.
        snprintf(hierarchy, sizeof hierarchy, "%s", argv[i + 1]);
        *strrchr(hierarchy, '/') = 0;
        snprintf(group[groups].name, sizeof group[groups].name, "%.31s", strrchr(hierarchy, '/') + 1);
        DO(mkdir(group[groups].dir, 0755));
        if (group[groups].kind == V2) {
            DO(cgroup = open(group[groups].dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC));
            args.flags |= CLONE_INTO_CGROUP;
            args.cgroup = cgroup;
            if (argc == 4)
                attach_device_program(cgroup);
            continue;
        }
        if (group[groups].kind == DEVICES) {
            put(group[groups].dir, "devices.deny", "a");
            for (size_t rule = 0; rule < COUNT(DEVICE_RULES); rule++)
                put(group[groups].dir, "devices.allow", DEVICE_RULES[rule]);
        }
        snprintf(path, sizeof path, "%s/tasks", group[groups].dir);
        DO(group[groups].tasks = open(path, O_WRONLY | O_CLOEXEC));
    }
    args.pidfd = (unsigned long)&pidfd;
    DO(pid = syscall(SYS_clone3, &args, sizeof args));
    if (pid == 0)
        child(argv[1]);
    DO(waitpid(pid, &status, 0));
    for (int i = 0; i < groups; i++)
        DO(rmdir(group[i].dir));
    return WIFEXITED(status) ? WEXITSTATUS(status) : 1;
}
