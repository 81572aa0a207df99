/* hostile ATTACK [ARGUMENT]: does what a program in a sandbox must not be able to do. It says how far it came on standard
 * output, "through" or "refused: WHY", and exits with 0 or 1; attacks on what there is of something go on until they are
 * stopped. Linked statically, so that it runs in any root. */

#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <sched.h>
#include <signal.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/ptrace.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

static int through(void) {
    printf("through\n");
    return 0;
}

static int refused(void) {
    printf("refused: %s\n", strerror(errno));
    return 1;
}

static int told(long answer) { return answer < 0 ? refused() : through(); }

/* Processes without end; whoever cannot make more waits, so that they stay. */
static int fork_bomb(void) {
    for (;;)
        if (fork() < 0)
            pause();
}

static int memory(void) {
    for (size_t size = 16 << 20;;) {
        char *place = mmap(0, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        if (place == MAP_FAILED)
            return refused();
        memset(place, 1, size);
    }
}

/* Memory that belongs to no process: a file in memory, and shared mappings of it. */
static int memory_file(void) {
    int fd = memfd_create("hog", 0);
    static char block[1 << 20];
    memset(block, 1, sizeof block);
    for (long count = 0; count < 4096; count++)
        if (write(fd, block, sizeof block) < 0)
            return refused();
    return through();
}

static int fill(const char *path) {
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0600);
    static char block[1 << 20];
    memset(block, 1, sizeof block);
    if (fd < 0)
        return refused();
    for (long count = 0; count < 4096; count++)
        if (write(fd, block, sizeof block) < 0)
            return refused();
    return through();
}

static int inodes(const char *directory) {
    char name[4096];
    for (long count = 0; count < 2000000; count++) {
        snprintf(name, sizeof name, "%s/%ld", directory, count);
        int fd = open(name, O_WRONLY | O_CREAT, 0600);
        if (fd < 0)
            return refused();
        close(fd);
    }
    return through();
}

static int descriptors(void) {
    for (long count = 0; count < 100000; count++)
        if (open("/dev/null", O_RDONLY) < 0)
            return refused();
    return through();
}

static int output(void) {
    static char block[1 << 16];
    memset(block, 'x', sizeof block);
    for (long count = 0; count < 1024; count++)
        if (write(1, block, sizeof block) < 0)
            return 1;
    return 0;
}

static int busy(void) {
    for (volatile unsigned long count = 0;; count++)
        ;
}

static int ignore_term(void) {
    signal(SIGTERM, SIG_IGN);
    for (;;)
        pause();
}

/* A daemon: out of its parent's sight, its session and its group. It writes to FILE as long as it lives. */
static int daemonize(const char *path, int stay) {
    pid_t child = fork();
    if (child == 0) {
        setsid();
        if (fork() != 0)
            _exit(0);
        signal(SIGTERM, SIG_IGN);
        signal(SIGHUP, SIG_IGN);
        syscall(SYS_prctl, 1 /* PR_SET_PDEATHSIG */, 0, 0, 0, 0);
        close(0), close(1), close(2);
        int fd = open(path, O_WRONLY | O_CREAT | O_APPEND, 0600);
        for (;;) {
            if (write(fd, ".", 1) < 0)
                _exit(1);
            usleep(10000);
        }
    }
    waitpid(child, 0, 0);
    syscall(SYS_prctl, 1, 0, 0, 0, 0);
    while (access(path, F_OK) != 0)
        usleep(1000);
    through();
    fflush(stdout);
    while (stay)
        pause();
    return 0;
}

static int read_file(const char *path) {
    char text[256];
    int fd = open(path, O_RDONLY);
    if (fd < 0)
        return refused();
    long length = read(fd, text, sizeof text);
    if (length < 0)
        return refused();
    if (length == 0) {
        printf("refused: nothing there\n");
        return 1;
    }
    return through();
}

/* Looks for a process among all that are seen by a word in its command line. */
static int find(const char *word) {
    char path[64], text[65536];
    DIR *all = opendir("/proc");
    for (struct dirent *entry; all && (entry = readdir(all));) {
        int pid = atoi(entry->d_name);
        if (pid == 0)
            continue;
        snprintf(path, sizeof path, "/proc/%d/cmdline", pid);
        int fd = open(path, O_RDONLY);
        if (fd < 0)
            continue;
        long length = read(fd, text, sizeof text);
        close(fd);
        /* Not this one, which has the word too. */
        if (length > 0 && pid != getpid() && memmem(text, length, word, strlen(word)))
            return through();
    }
    printf("refused: not seen\n");
    return 1;
}

static int connect_tcp(int port) {
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    return fd < 0 ? refused() : told(connect(fd, (struct sockaddr *)&address, sizeof address));
}

static int connect_abstract(const char *name) {
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    int fd = socket(AF_UNIX, SOCK_STREAM, 0);
    memcpy(address.sun_path + 1, name, strlen(name));
    socklen_t length = offsetof(struct sockaddr_un, sun_path) + 1 + strlen(name);
    return fd < 0 ? refused() : told(connect(fd, (struct sockaddr *)&address, length));
}

static int trace(int pid) {
    long answer = ptrace(PTRACE_ATTACH, pid, 0, 0);
    if (answer == 0) {
        waitpid(pid, 0, 0);
        ptrace(PTRACE_DETACH, pid, 0, 0);
    }
    return told(answer);
}

static int keyring(void) {
    return told(syscall(SYS_add_key, "user", "hostile", "x", 1, -3 /* KEY_SPEC_SESSION_KEYRING */));
}

static int ring(void) {
    char parameters[120] = {0};
    return told(syscall(SYS_io_uring_setup, 1, parameters));
}

static int clone_namespace(void) {
    long child = syscall(SYS_clone, CLONE_NEWUSER | SIGCHLD, 0, 0, 0, 0);
    if (child == 0)
        _exit(0);
    return told(child);
}

static int setuid_file(const char *path) {
    int fd = open(path, O_WRONLY | O_CREAT, 0700);
    return fd < 0 ? refused() : told(fchmod(fd, 04755));
}

/* What the terminal's reader would read next. */
static int type(void) {
    char letter = 'x';
    return told(ioctl(0, TIOCSTI, &letter));
}

static int write_file(const char *path) {
    int fd = open(path, O_WRONLY | O_CREAT | O_APPEND, 0600);
    return fd < 0 ? refused() : told(write(fd, "x", 1));
}

int main(int count, char **words) {
    const char *attack = count > 1 ? words[1] : "", *word = count > 2 ? words[2] : "";
#define IS(name) (strcmp(attack, name) == 0)
    if (IS("nothing")) return through();
    if (IS("fork-bomb")) return fork_bomb();
    if (IS("memory")) return memory();
    if (IS("memory-file")) return memory_file();
    if (IS("fill")) return fill(word);
    if (IS("inodes")) return inodes(word);
    if (IS("descriptors")) return descriptors();
    if (IS("output")) return output();
    if (IS("busy")) return busy();
    if (IS("ignore-term")) return ignore_term();
    if (IS("daemon")) return daemonize(word, 0);
    if (IS("daemon-stay")) return daemonize(word, 1);
    if (IS("read")) return read_file(word);
    if (IS("write")) return write_file(word);
    if (IS("find")) return find(word);
    if (IS("tcp")) return connect_tcp(atoi(word));
    if (IS("abstract")) return connect_abstract(word);
    if (IS("signal")) return told(kill(atoi(word), 0));
    if (IS("trace")) return trace(atoi(word));
    if (IS("mount")) return told(mount("none", word, "tmpfs", 0, ""));
    if (IS("keyring")) return keyring();
    if (IS("io-uring")) return ring();
    if (IS("user-namespace")) return told(unshare(CLONE_NEWUSER));
    if (IS("clone-namespace")) return clone_namespace();
    if (IS("setuid")) return setuid_file(word);
    if (IS("type")) return type();
    if (IS("symlink")) return told(symlink(word, words[3]));
    fprintf(stderr, "there is no attack \"%s\"\n", attack);
    return 2;
}
