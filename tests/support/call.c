/* call ABI NUMBER [ARGUMENT...] ...: makes a system call by the x86_64 ("64"), x32 ("x32") or x86 ("32") convention, prints
 * what the kernel answers, and goes on after a "--". It is linked with nothing: the calls that it makes itself are write and
 * exit. Compiled with -m32 it is a program of x86, and knows that convention alone. */

static long number(const char *text) {
    unsigned long value = 0;
    int base = 10;
    if (text[0] == '0' && text[1] == 'x') {
        text += 2;
        base = 16;
    }
    for (; *text; text++)
        value = value * base + (*text <= '9' ? *text - '0' : *text - 'a' + 10);
    return value;
}

static int is(const char *a, const char *b) {
    while (*a && *a == *b)
        a++, b++;
    return *a == *b;
}

#ifdef __x86_64__
static long call64(long nr, long a, long b, long c, long d, long e, long f) {
    long result;
    register long r10 __asm__("r10") = d;
    register long r8 __asm__("r8") = e;
    register long r9 __asm__("r9") = f;
    __asm__ volatile("syscall"
                     : "=a"(result)
                     : "a"(nr), "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8), "r"(r9)
                     : "rcx", "r11", "memory");
    return result;
}
#define CLOBBERED "memory", "r8", "r9", "r10", "r11"
#else
#define CLOBBERED "memory"
#endif

static long call32(long nr, long a, long b, long c, long d, long e) {
    long result;
    __asm__ volatile("int $0x80" : "=a"(result) : "a"(nr), "b"(a), "c"(b), "d"(c), "S"(d), "D"(e) : CLOBBERED);
    return (int)result;
}

static void print(long value) {
    char text[24], *at = text + sizeof text;
    unsigned long rest = value < 0 ? -value : value;
    *--at = '\n';
    do
        *--at = '0' + rest % 10;
    while (rest /= 10);
    if (value < 0)
        *--at = '-';
#ifdef __x86_64__
    call64(1, 1, (long)at, text + sizeof text - at, 0, 0, 0);
#else
    call32(4, 1, (long)at, text + sizeof text - at, 0, 0);
#endif
}

__attribute__((used)) void begin(long *stack) {
    char **argument = (char **)(stack + 2);
    while (*argument) {
        char *abi = *argument++;
        /* For calls that read memory: some that is there. */
        static long memory[64] = {2, 1, 0};
        long all[7] = {0}, count = 0;
        for (; *argument && !is(*argument, "--"); argument++)
            if (count < 7)
                all[count++] = is(*argument, "memory") ? (long)memory : number(*argument);
        if (*argument)
            argument++;
#ifdef __x86_64__
        if (!is(abi, "32"))
            print(call64(all[0] | (is(abi, "x32") ? 0x40000000 : 0), all[1], all[2], all[3], all[4], all[5], all[6]));
        else
#endif
            print(call32(all[0], all[1], all[2], all[3], all[4], all[5]));
    }
#ifdef __x86_64__
    call64(60, 0, 0, 0, 0, 0, 0);
#else
    call32(1, 0, 0, 0, 0, 0);
#endif
}

#ifdef __x86_64__
__asm__(".globl _start\n_start: mov %rsp, %rdi\n and $-16, %rsp\n call begin\n");
#else
__asm__(".globl _start\n_start: push %esp\n call begin\n");
#endif
