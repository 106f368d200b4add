// Lets things go wrong at chosen points of workers' system calls, for scripts/test-crash and the tests (LD_PRELOAD).
//
// FAULT_AT=POINT:N:FAULT:FILE. POINT is load (a checkpoint's file is opened), batch (a matrix product), append (half
// of a journal's record is written), sync (a journal is brought to the disk), write (half of a piece of another file is
// written), rename-before or rename-after (a final file is put in its place). At the N-th time in any worker comes FAULT,
// once: FILE is created then, and whoever finds it there goes on. SIGKILL for the worker, the parent or both; SIGILL for
// the worker; PAUSE, of three seconds; or an error of the call: ENOSPC, EIO.
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/types.h>
#include <unistd.h>

static char point[32], fault[16], once[512];
static int target = -1;
static atomic_int count;

__attribute__((constructor)) static void start(void) {
    const char *text = getenv("FAULT_AT");
    char line[512] = "";
    int f = open("/proc/self/cmdline", O_RDONLY);
    ssize_t n = read(f, line, sizeof line - 2);
    close(f);
    // Only workers count: their second argument says what they are.
    if (!text || n <= 0 || strcmp(line + strlen(line) + 1, "__worker")) return;
    if (sscanf(text, "%31[^:]:%d:%15[^:]:%511[^\n]", point, &target, fault, once) != 4) target = -1;
    const char *known[] = {"worker", "parent", "both", "SIGILL", "PAUSE", "ENOSPC", "EIO"};
    for (unsigned i = 0; i < sizeof known / sizeof *known; i++)
        if (!strcmp(fault, known[i])) return;
    target = -1;
}

// Whether this is the moment.
static int due(const char *here) {
    if (target < 0 || strcmp(here, point)) return 0;
    return atomic_fetch_add(&count, 1) + 1 == target;
}

// Kills, or returns the error that the call is to fail with; 0 where it goes on.
static int strike(void) {
    int f = open(once, O_CREAT | O_EXCL | O_WRONLY, 0666);
    if (f < 0) return 0;
    close(f);
    if (!strcmp(fault, "ENOSPC")) return ENOSPC;
    if (!strcmp(fault, "EIO")) return EIO;
    if (!strcmp(fault, "SIGILL")) __builtin_trap();
    if (!strcmp(fault, "PAUSE")) return sleep(3), 0;
    if (strcmp(fault, "worker")) kill(getppid(), SIGKILL);
    if (strcmp(fault, "parent")) kill(getpid(), SIGKILL);
    return 0;
}

static int ends(const char *path, const char *ending) {
    size_t a = strlen(path), b = strlen(ending);
    return a >= b && !strcmp(path + a - b, ending);
}

// Whether the file's name ends so.
static int isNamed(int descriptor, const char *ending) {
    char link[64], path[1024] = "";
    snprintf(link, sizeof link, "/proc/self/fd/%d", descriptor);
    ssize_t n = readlink(link, path, sizeof path - 1);
    if (n > 0) path[n] = 0;
    return ends(path, ending);
}

ssize_t write(int descriptor, const void *bytes, size_t size) {
    static ssize_t (*real)(int, const void *, size_t);
    if (!real) real = dlsym(RTLD_NEXT, "write");
    if (target >= 0 && (!strcmp(point, "append") || !strcmp(point, "write")) && descriptor > 2 &&
        ((isNamed(descriptor, ".journal") && due("append")) || (isNamed(descriptor, ".partial") && due("write")))) {
        real(descriptor, bytes, size / 2);
        if ((errno = strike())) return -1;
        return real(descriptor, (const char *)bytes + size / 2, size - size / 2) < 0 ? -1 : (ssize_t)size;
    }
    return real(descriptor, bytes, size);
}

int fdatasync(int descriptor) {
    static int (*real)(int);
    if (!real) real = dlsym(RTLD_NEXT, "fdatasync");
    if (target >= 0 && !strcmp(point, "sync") && isNamed(descriptor, ".journal") && due("sync") && (errno = strike()))
        return -1;
    return real(descriptor);
}

int rename(const char *from, const char *to) {
    static int (*real)(const char *, const char *);
    if (!real) real = dlsym(RTLD_NEXT, "rename");
    int isFinal = ends(to, ".npz") || ends(to, ".npy");
    if (isFinal && due("rename-before") && (errno = strike())) return -1;
    int result = real(from, to);
    if (isFinal && due("rename-after")) strike();
    return result;
}

int open(const char *path, int flags, ...) {
    static int (*real)(const char *, int, ...);
    if (!real) real = dlsym(RTLD_NEXT, "open");
    va_list rest;
    va_start(rest, flags);
    mode_t mode = flags & O_CREAT ? va_arg(rest, mode_t) : 0;
    va_end(rest);
    if (ends(path, ".safetensors") && due("load") && (errno = strike())) return -1;
    return real(path, flags, mode);
}

void cblas_sgemm(int order, int ta, int tb, int m, int n, int k, float alpha, const float *a, int lda,
                 const float *b, int ldb, float beta, float *c, int ldc) {
    static void (*real)(int, int, int, int, int, int, float, const float *, int, const float *, int, float, float *,
                        int);
    if (!real) real = dlsym(RTLD_NEXT, "cblas_sgemm");
    if (due("batch")) strike();
    real(order, ta, tb, m, n, k, alpha, a, lda, b, ldb, beta, c, ldc);
}
