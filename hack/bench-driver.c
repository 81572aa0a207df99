// The stopwatch of hack/bench: runs several programs in turn, round after round, and says how long each took.
//
// usage: bench-driver ROUNDS PAUSE-MS [RAW-FILE] <JOBS
// A line of JOBS is NAME STEP COMMAND..., all words apart by blanks. The lines of one NAME, in their order, are one turn
// of that program. The command `reap` waits for a process that a step has left behind, as an engine's shim does.
// Output, a line for each NAME and STEP, and one with the step `all` for the sum of the turn, tab-separated:
// NAME STEP MIN MEDIAN P95 (microseconds) PEAK (KiB; the largest of the process and of those it waited for).
// RAW-FILE gets one line a measurement: ROUND NAME STEP MICROSECONDS.
//
// It is small and linked statically on purpose: until execve a child counts its parent's memory as its own.
#define _GNU_SOURCE
#include <fcntl.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define MOST_STEPS 64
#define MOST_WORDS 128
#define MOST_ROUNDS 10000

static struct step {
    char *name, *step, *argv[MOST_WORDS];
    int last; // of its turn
    long peak;
    float *took;
    float *turn; // in the last step of a turn
} steps[MOST_STEPS];
static int count;
static posix_spawn_file_actions_t quiet;
extern char **environ;

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * 1e6 + t.tv_nsec / 1e3;
}

static void take(char *line) {
    struct step *s = &steps[count];
    int words = 0;
    char *word = strtok(line, " \t\n");
    if (!word)
        return;
    s->name = strdup(word);
    word = strtok(NULL, " \t\n");
    s->step = strdup(word ? word : "");
    while ((word = strtok(NULL, " \t\n")) && words < MOST_WORDS - 1)
        s->argv[words++] = strdup(word);
    if (!words || ++count == MOST_STEPS) {
        fprintf(stderr, "bench-driver: no command, or too many lines\n");
        exit(2);
    }
}

static void run(struct step *s) {
    struct rusage usage;
    int status;
    pid_t pid, ended;
    if (!strcmp(s->argv[0], "reap")) {
        if (waitpid(-1, &status, 0) < 0) {
            fprintf(stderr, "bench-driver: %s %s: there is no process to wait for\n", s->name, s->step);
            exit(1);
        }
        return;
    }
    int error = posix_spawn(&pid, s->argv[0], &quiet, NULL, s->argv, environ);
    if (error) {
        fprintf(stderr, "bench-driver: %s: %s\n", s->argv[0], strerror(error));
        exit(1);
    }
    while ((ended = wait4(pid, &status, 0, &usage)) != pid)
        if (ended < 0)
            exit(1);
    if (!WIFEXITED(status) || WEXITSTATUS(status)) {
        fprintf(stderr, "bench-driver: %s %s: wait status %#x\n", s->name, s->step, status);
        exit(1);
    }
    if (usage.ru_maxrss > s->peak)
        s->peak = usage.ru_maxrss;
}

static int by_value(const void *a, const void *b) {
    float x = *(const float *)a, y = *(const float *)b;
    return (x > y) - (x < y);
}

static void print(const char *name, const char *step, float *values, int rounds, long peak) {
    qsort(values, rounds, sizeof *values, by_value);
    double median = rounds % 2 ? values[rounds / 2] : (values[rounds / 2 - 1] + values[rounds / 2]) / 2;
    int p95 = (rounds * 95 + 99) / 100 - 1;
    printf("%s\t%s\t%.0f\t%.0f\t%.0f\t%ld\n", name, step, values[0], median, values[p95], peak);
}

int main(int argc, char **argv) {
    int rounds = argc > 2 ? atoi(argv[1]) : 0;
    long pause = argc > 2 ? atol(argv[2]) : 0;
    FILE *raw = argc > 3 ? fopen(argv[3], "w") : NULL;
    char *line = NULL;
    size_t size = 0;
    if (rounds < 1 || rounds > MOST_ROUNDS || pause < 0 || (argc > 3 && !raw)) {
        fprintf(stderr, "usage: bench-driver ROUNDS PAUSE-MS [RAW-FILE] <JOBS\n");
        return 2;
    }
    while (getline(&line, &size, stdin) > 0)
        take(line);
    for (int i = 0; i < count; i++) {
        steps[i].last = i + 1 == count || strcmp(steps[i].name, steps[i + 1].name);
        steps[i].took = calloc(rounds, sizeof(float));
        steps[i].turn = calloc(rounds, sizeof(float));
    }
    prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0);
    posix_spawn_file_actions_init(&quiet);
    posix_spawn_file_actions_addopen(&quiet, 0, "/dev/null", O_RDONLY, 0);
    posix_spawn_file_actions_addopen(&quiet, 1, "/dev/null", O_WRONLY, 0);
    // Standard error stays: it says why a step failed.
    for (int round = -1; round < rounds; round++) { // the first warms up and does not count
        double begin = 0;
        for (int i = 0; i < count; i++) {
            struct step *s = &steps[i];
            if (i == 0 || steps[i - 1].last) {
                struct timespec rest = { pause / 1000, pause % 1000 * 1000000 };
                nanosleep(&rest, NULL);
                alarm(60); // nothing here takes as long: it hangs
                begin = now();
            }
            double from = now();
            run(s);
            double to = now();
            if (round >= 0) {
                s->took[round] = to - from;
                s->turn[round] = to - begin;
                if (raw)
                    fprintf(raw, "%d\t%s\t%s\t%.0f\n", round, s->name, s->step, to - from);
            }
            if (s->last)
                while (waitpid(-1, NULL, WNOHANG) > 0)
                    ;
        }
    }
    for (int i = 0; i < count; i++) {
        long peak = steps[i].peak;
        print(steps[i].name, steps[i].step, steps[i].took, rounds, peak);
        if (!steps[i].last)
            continue;
        for (int j = i; j >= 0 && !strcmp(steps[j].name, steps[i].name); j--)
            if (steps[j].peak > peak)
                peak = steps[j].peak;
        print(steps[i].name, "all", steps[i].turn, rounds, peak);
    }
    return 0;
}
