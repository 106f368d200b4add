// Injects faults into system calls and matrix products, for scripts/checks/crash and the tests. Loaded with
// LD_PRELOAD.
//
// FAULT_AT=POINT:N:FAULT:FILE applies to workers only. Each worker counts how often it reaches POINT. At the N-th
// time the shim creates FILE and executes FAULT. If FILE exists already, no fault happens. So the fault happens only
// once.
// POINT:
//   load                    a checkpoint's file is opened
//   batch                   a matrix product
//   append                  half of a write to a journal is done
//   sync                    fdatasync of a journal
//   write                   half of a write to a .partial file is done
//   rename-before, -after   before and after a final file gets its name
// FAULT:
//   worker, parent, both    SIGKILL to these processes
//   SIGILL, SIGABRT         this signal ends the worker; the worker first prints FAULT_WORDS, if set
//   PAUSE                   the worker sleeps for three seconds
//   ENOSPC, EIO             the call fails with this error
//
// FAULT_WAIT=NAME:N:FILE, in all processes: before the N-th rename to a file called NAME, the process creates FILE and waits until
// FILE has been removed.
//
// The following variables change the behaviour of the file system, in all processes:
// FAULT_SPACE: the result of statvfs.
//   zero                    no blocks and no inodes, as some file systems in user space report
//   nosys                   the error ENOSYS
//   small                   1 MB free
//   inodes                  no free inodes
// FAULT_NAMES=KIND:FOLDER, for names in FOLDER and below:
//   dos                     refuses the characters that exFAT refuses
//   short                   refuses names of more than 143 bytes
//   fold                    does not distinguish upper and lower case
// FAULT_SYNC=WHAT:ERROR:
//   folder, file            fsync and fdatasync of a folder or file fail with ERROR
//   open-folder             opening a folder fails with ERROR
// FAULT_MAP=ERRNO:PART: mapping a file whose path contains PART fails with ERRNO.
// FAULT_CUT=PART: a file whose path contains PART is truncated to 0 bytes when it has been mapped.
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
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/types.h>
#include <unistd.h>

static char point[32], fault[16], once[512];
static int target = -1;
static atomic_int count;
static char unmapped[256];
static int unmappedError;

__attribute__((constructor)) static void start(void) {
    const char *map = getenv("FAULT_MAP");
    if (map && sscanf(map, "%d:%255[^\n]", &unmappedError, unmapped) != 2) unmapped[0] = 0;
    const char *text = getenv("FAULT_AT");
    char line[512] = "";
    int f = open("/proc/self/cmdline", O_RDONLY);
    ssize_t n = read(f, line, sizeof line - 2);
    close(f);
    // FAULT_AT applies only to workers, whose first argument is __worker.
    if (!text || n <= 0 || strcmp(line + strlen(line) + 1, "__worker")) return;
    if (sscanf(text, "%31[^:]:%d:%15[^:]:%511[^\n]", point, &target, fault, once) != 4) target = -1;
    const char *known[] = {"worker", "parent", "both", "SIGILL", "SIGABRT", "PAUSE", "ENOSPC", "EIO"};
    for (unsigned i = 0; i < sizeof known / sizeof *known; i++)
        if (!strcmp(fault, known[i])) return;
    target = -1;
}

// Counts that the process has reached the point `here`. Returns true if the fault must happen at this passage.
static int due(const char *here) {
    if (target < 0 || strcmp(here, point)) return 0;
    return atomic_fetch_add(&count, 1) + 1 == target;
}

// Executes the fault. Returns the error with which the call must fail, or 0 if the call continues.
static int strike(void) {
    int f = open(once, O_CREAT | O_EXCL | O_WRONLY, 0666);
    if (f < 0) return 0;
    close(f);
    if (!strcmp(fault, "ENOSPC")) return ENOSPC;
    if (!strcmp(fault, "EIO")) return EIO;
    const char *words = getenv("FAULT_WORDS");
    if (words && !strncmp(fault, "SIG", 3)) dprintf(2, "%s\n", words);
    if (!strcmp(fault, "SIGILL")) __builtin_trap();
    if (!strcmp(fault, "SIGABRT")) abort();
    if (!strcmp(fault, "PAUSE")) return sleep(3), 0;
    if (strcmp(fault, "worker")) kill(getppid(), SIGKILL);
    if (strcmp(fault, "parent")) kill(getpid(), SIGKILL);
    return 0;
}

static int ends(const char *path, const char *ending) {
    size_t a = strlen(path), b = strlen(ending);
    return a >= b && !strcmp(path + a - b, ending);
}

// Waits before a rename to `to` if FAULT_WAIT names it.
static void waitBefore(const char *to) {
    static atomic_int renames;
    char name[64], file[512];
    int number;
    const char *text = getenv("FAULT_WAIT"), *slash = strrchr(to, '/');
    if (!text || sscanf(text, "%63[^:]:%d:%511[^\n]", name, &number, file) != 3) return;
    if (strcmp(slash ? slash + 1 : to, name) || atomic_fetch_add(&renames, 1) + 1 != number) return;
    close(open(file, O_CREAT | O_WRONLY, 0666));
    while (!access(file, F_OK)) usleep(10000);
}

// Returns whether the path of the open file ends with `ending`.
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

// Returns the error that FAULT_SYNC sets for `what`, or 0 if it sets none.
static int syncError(const char *what) {
    static const struct {
        const char *name;
        int code;
    } errors[] = {{"EINVAL", EINVAL}, {"ENOTSUP", ENOTSUP}, {"ENOSYS", ENOSYS}, {"EBADF", EBADF},
                  {"EACCES", EACCES}, {"EROFS", EROFS},     {"EIO", EIO}};
    const char *fault = getenv("FAULT_SYNC");
    size_t n = strlen(what);
    if (!fault || strncmp(fault, what, n) || fault[n] != ':') return 0;
    for (unsigned i = 0; i < sizeof errors / sizeof *errors; i++)
        if (!strcmp(fault + n + 1, errors[i].name)) return errors[i].code;
    return 0;
}

static int isFolder(int descriptor) {
    struct stat info;
    return !fstat(descriptor, &info) && S_ISDIR(info.st_mode);
}

int fsync(int descriptor) {
    static int (*real)(int);
    if (!real) real = dlsym(RTLD_NEXT, "fsync");
    int error = syncError(isFolder(descriptor) ? "folder" : "file");
    return error ? (errno = error, -1) : real(descriptor);
}

int fdatasync(int descriptor) {
    static int (*real)(int);
    if (!real) real = dlsym(RTLD_NEXT, "fdatasync");
    int error = syncError("file");
    if (error) return errno = error, -1;
    if (target >= 0 && !strcmp(point, "sync") && isNamed(descriptor, ".journal") && due("sync") && (errno = strike()))
        return -1;
    return real(descriptor);
}

// Returns the last component of `path` if `path` is in the folder of FAULT_NAMES and FAULT_NAMES has the kind `kind`.
// Otherwise returns null.
static const char *faultyName(const char *path, const char *kind) {
    const char *fault = getenv("FAULT_NAMES"), *name = strrchr(path, '/');
    size_t n = strlen(kind);
    if (!fault || !name || strncmp(fault, kind, n) || fault[n] != ':') return 0;
    const char *folder = fault + n + 1;
    // The folder in FAULT_NAMES may be relative. A path that was derived from a descriptor is absolute.
    char here[4096] = "";
    if (folder[0] != '/' && path[0] == '/' && getcwd(here, sizeof here)) {
        size_t m = strlen(here);
        if (strncmp(path, here, m) || path[m] != '/') return 0;
        path += m + 1;
    }
    n = strlen(folder);
    return strncmp(path, folder, n) || path[n] != '/' ? 0 : name + 1;
}

// Returns the error with which creating a file of this name must fail, or 0 if the name is allowed.
static int nameError(const char *path) {
    const char *name = faultyName(path, "dos");
    if (name && strpbrk(name, ":?\"<>|*\\")) return EINVAL;
    name = faultyName(path, "short");
    return name && strlen(name) > 143 ? ENAMETOOLONG : 0;
}

// If FAULT_NAMES=fold applies to `path`, writes `path` with its last component in lower case to `room` and returns
// `room`. Otherwise returns `path`.
static const char *folded(const char *path, char room[4096]) {
    const char *name = faultyName(path, "fold");
    if (!name || strlen(path) > 4095) return path;
    strcpy(room, path);
    for (char *c = room + (name - path); *c; c++)
        if (*c >= 'A' && *c <= 'Z') *c |= 0x20;
    return room;
}

int access(const char *path, int mode) {
    static int (*real)(const char *, int);
    if (!real) real = dlsym(RTLD_NEXT, "access");
    char room[4096];
    return real(folded(path, room), mode);
}

int unlink(const char *path) {
    static int (*real)(const char *);
    if (!real) real = dlsym(RTLD_NEXT, "unlink");
    char room[4096];
    return real(folded(path, room));
}

int link(const char *from, const char *to) {
    static int (*real)(const char *, const char *);
    if (!real) real = dlsym(RTLD_NEXT, "link");
    int error = nameError(to);
    return error ? (errno = error, -1) : real(from, to);
}

int mkdir(const char *path, mode_t mode) {
    static int (*real)(const char *, mode_t);
    if (!real) real = dlsym(RTLD_NEXT, "mkdir");
    int error = nameError(path);
    return error ? (errno = error, -1) : real(path, mode);
}

int statvfs(const char *path, struct statvfs *info) {
    static int (*real)(const char *, struct statvfs *);
    if (!real) real = dlsym(RTLD_NEXT, "statvfs");
    int result = real(path, info);
    const char *fault = getenv("FAULT_SPACE");
    if (result || !fault) return result;
    if (!strcmp(fault, "nosys")) return errno = ENOSYS, -1;
    if (!strcmp(fault, "zero"))
        info->f_blocks = info->f_bfree = info->f_bavail = info->f_files = info->f_ffree = info->f_favail = 0;
    if (!strcmp(fault, "small")) {
        info->f_frsize = info->f_bsize = 4096;
        info->f_blocks = 2560;
        info->f_bfree = info->f_bavail = 250;
    }
    if (!strcmp(fault, "inodes")) {
        info->f_files = 1000;
        info->f_ffree = info->f_favail = 0;
    }
    return 0;
}

int rename(const char *from, const char *to) {
    static int (*real)(const char *, const char *);
    if (!real) real = dlsym(RTLD_NEXT, "rename");
    waitBefore(to);
    int error = nameError(to);
    if (error) return errno = error, -1;
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
    int error = flags & O_CREAT ? nameError(path) : 0;
    if (flags & O_DIRECTORY && !(flags & O_PATH)) error = syncError("open-folder");
    if (error) return errno = error, -1;
    char room[4096];
    return real(folded(path, room), flags, mode);
}

// Returns the path of `name` in the open folder `folder`. A new path is built in `room`.
static const char *whole(int folder, const char *name, char room[8192]) {
    if (folder == AT_FDCWD || name[0] == '/') return name;
    char link[64];
    snprintf(link, sizeof link, "/proc/self/fd/%d", folder);
    ssize_t n = readlink(link, room, 4095);
    if (n <= 0) return name;
    snprintf(room + n, 8192 - n, "/%s", name);
    return room;
}

int openat(int folder, const char *name, int flags, ...) {
    static int (*real)(int, const char *, int, ...);
    if (!real) real = dlsym(RTLD_NEXT, "openat");
    va_list rest;
    va_start(rest, flags);
    mode_t mode = flags & O_CREAT ? va_arg(rest, mode_t) : 0;
    va_end(rest);
    char room[8192], other[4096];
    const char *path = whole(folder, name, room);
    int error = flags & O_CREAT ? nameError(path) : 0;
    // The fault applies only to opens without these flags. O_PATH opens a folder to enter it, O_NONBLOCK to list it.
    if (flags & O_DIRECTORY && !(flags & (O_PATH | O_NONBLOCK))) error = syncError("open-folder");
    if (error) return errno = error, -1;
    const char *same = folded(path, other);
    return same == path ? real(folder, name, flags, mode) : real(AT_FDCWD, same, flags, mode);
}

int mkdirat(int folder, const char *name, mode_t mode) {
    static int (*real)(int, const char *, mode_t);
    if (!real) real = dlsym(RTLD_NEXT, "mkdirat");
    char room[8192];
    int error = nameError(whole(folder, name, room));
    return error ? (errno = error, -1) : real(folder, name, mode);
}

int unlinkat(int folder, const char *name, int flags) {
    static int (*real)(int, const char *, int);
    if (!real) real = dlsym(RTLD_NEXT, "unlinkat");
    char room[8192], other[4096];
    const char *path = whole(folder, name, room), *same = folded(path, other);
    return same == path ? real(folder, name, flags) : real(AT_FDCWD, same, flags);
}

int fstatat(int folder, const char *name, struct stat *info, int flags) {
    static int (*real)(int, const char *, struct stat *, int);
    if (!real) real = dlsym(RTLD_NEXT, "fstatat");
    char room[8192], other[4096];
    const char *path = whole(folder, name, room), *same = folded(path, other);
    return same == path ? real(folder, name, info, flags) : real(AT_FDCWD, same, info, flags);
}

int linkat(int from, const char *old, int to, const char *new, int flags) {
    static int (*real)(int, const char *, int, const char *, int);
    if (!real) real = dlsym(RTLD_NEXT, "linkat");
    char room[8192];
    int error = nameError(whole(to, new, room));
    return error ? (errno = error, -1) : real(from, old, to, new, flags);
}

int renameat(int from, const char *old, int to, const char *new) {
    static int (*real)(int, const char *, int, const char *);
    if (!real) real = dlsym(RTLD_NEXT, "renameat");
    waitBefore(new);
    char room[8192];
    int error = nameError(whole(to, new, room));
    if (error) return errno = error, -1;
    int isFinal = ends(new, ".npz") || ends(new, ".npy");
    if (isFinal && due("rename-before") && (errno = strike())) return -1;
    int result = real(from, old, to, new);
    if (isFinal && due("rename-after")) strike();
    return result;
}

static int cannotMap(int descriptor) {
    char link[64], path[1024] = "";
    if (descriptor < 0 || !unmapped[0]) return 0;
    snprintf(link, sizeof link, "/proc/self/fd/%d", descriptor);
    ssize_t n = readlink(link, path, sizeof path - 1);
    if (n <= 0 || !strstr(path, unmapped)) return 0;
    errno = unmappedError;
    return 1;
}

// Truncates the file to 0 bytes if FAULT_CUT matches its path.
static void cutShort(int descriptor) {
    const char *part = getenv("FAULT_CUT");
    if (!part || descriptor < 0) return;
    char link[64], path[1024] = "";
    snprintf(link, sizeof link, "/proc/self/fd/%d", descriptor);
    ssize_t n = readlink(link, path, sizeof path - 1);
    if (n <= 0) return;
    path[n] = 0;
    if (strstr(path, part)) truncate(path, 0);
}

void *mmap(void *address, size_t size, int access, int flags, int descriptor, off_t offset) {
    static void *(*real)(void *, size_t, int, int, int, off_t);
    if (!real) real = dlsym(RTLD_NEXT, "mmap");
    if (cannotMap(descriptor)) return MAP_FAILED;
    void *place = real(address, size, access, flags, descriptor, offset);
    cutShort(descriptor);
    return place;
}

void *mmap64(void *address, size_t size, int access, int flags, int descriptor, off64_t offset) {
    static void *(*real)(void *, size_t, int, int, int, off64_t);
    if (!real) real = dlsym(RTLD_NEXT, "mmap64");
    return cannotMap(descriptor) ? MAP_FAILED : real(address, size, access, flags, descriptor, offset);
}

void cblas_sgemm(int order, int ta, int tb, int m, int n, int k, float alpha, const float *a, int lda,
                 const float *b, int ldb, float beta, float *c, int ldc) {
    static void (*real)(int, int, int, int, int, int, float, const float *, int, const float *, int, float, float *,
                        int);
    if (!real) real = dlsym(RTLD_NEXT, "cblas_sgemm");
    if (due("batch")) strike();
    real(order, ta, tb, m, n, k, alpha, a, lda, b, ldb, beta, c, ldc);
}
